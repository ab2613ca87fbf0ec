// Builds the documentation's site into build-site/site, from docs/ alone and without the network. VitePress ends with an
// error where a link leads to a page that is not there; here so do links to headings that are not, and pages to which the
// sidebar has no link.
//   npm run docs:site
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { filesBelow } from "./lib/files.mjs";
import { Failure, inRoot, runQuietly, script } from "./lib/run.mjs";

const OUT = "build-site/site";

/** @param {string} text @param {RegExp} pattern with one group */
const all = (text, pattern) => [...text.matchAll(pattern)].map(([, group = ""]) => group);

/** The pages by their addresses: "/adr/" and "/phases". @returns {Map<string, string>} */
function readPages() {
  return new Map(
    filesBelow(OUT, (name) => name.endsWith(".html") && name !== "404.html").map((file) => {
      const address = `/${path.relative(OUT, file).replace(/(index)?\.html$/, "")}`;
      return [address, readFileSync(inRoot(file), "utf8")];
    }),
  );
}

/** Links to headings that are not there. @param {Map<string, string>} pages */
function deadAnchors(pages) {
  const dead = [];
  for (const [from, text] of pages) {
    for (const href of new Set(all(text, /<a [^>]*?href="([^"]*#[^"]+)"/g))) {
      const { origin, pathname, hash } = new URL(href, `http://site${from}`);
      if (origin !== "http://site" || hash === "#VPContent") continue;
      const ids = all(pages.get(pathname) ?? "", /\bid="([^"]+)"/g);
      if (!ids.includes(decodeURIComponent(hash.slice(1)))) dead.push(`${from}: ${href}`);
    }
  }
  return dead;
}

/** Pages that one cannot come to. @param {Map<string, string>} pages */
function unlisted(pages) {
  const listed = new Set(all(pages.get("/") ?? "", /<a [^>]*?href="(\/[^"#]*)"/g));
  return [...pages.keys()].filter((address) => !listed.has(address));
}

await script(async () => {
  rmSync(inRoot(OUT), { recursive: true, force: true });
  await runQuietly(process.execPath, [
    inRoot("node_modules/vitepress/bin/vitepress.js"),
    "build",
    "docs",
  ]);
  const pages = readPages();
  if (pages.size === 0) throw new Failure(`VitePress wrote nothing to ${OUT}`);
  const problems = [
    ...deadAnchors(pages).map((one) => `${one} leads to a heading that is not there`),
    ...unlisted(pages).map((one) => `${one} is not in the sidebar of docs/.vitepress/config.mjs`),
  ];
  if (problems.length > 0) throw new Failure(problems.join("\n"));
  console.log(`${OUT}: ${pages.size} pages`);
});
