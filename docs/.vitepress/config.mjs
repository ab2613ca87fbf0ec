// The documentation as a site: `npm run docs:site`. The Markdown stays what one reads in the repository: what the site
// needs otherwise (README.md as a folder's page, links out of docs/, GitHub's anchors) is made here.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitepress";

const docs = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const root = path.dirname(docs);
const { homepage } = /** @type {{ homepage: string }} */ (
  JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))
);

/** @param {string} file below docs/ */
function titleOf(file) {
  const [, title = file] = /^# (.*)$/m.exec(readFileSync(path.join(docs, file), "utf8")) ?? [];
  return title.replaceAll("`", "");
}

/** A page of the sidebar; its text is the page's own heading. @param {string} file below docs/ */
function page(file, text = titleOf(file)) {
  return { text, link: `/${file.replace(/README\.md$/, "").replace(/\.md$/, "")}` };
}

/** @param {string} folder below docs/ */
const pagesIn = (folder) =>
  readdirSync(path.join(docs, folder))
    .filter((name) => name.endsWith(".md") && name !== "README.md")
    .sort()
    .map((name) => page(path.posix.join(folder, name)));

/** @param {string} text @param {{ text: string, link: string }[]} items */
const section = (text, items) => ({ text, items });

const sidebar = [
  section("Begin", [page("quick-start.md"), page("first-plugin.md"), page("cli.md")]),
  section("Plugins", [
    page("plugins.md"),
    page("phases.md"),
    page("nginx.md"),
    page("testing.md"),
    page("api/README.md"),
    page("api/resty-ts.md", "Reference: resty-ts"),
    page("api/resty-ts/testing.md", "Reference: resty-ts/testing"),
  ]),
  section("Configuration", [page("lua-api.md"), page("runtimes.md")]),
  section("Deployment", [
    ...(existsSync(path.join(docs, "deployment.md")) ? [page("deployment.md")] : []),
    ...["debian", "openresty", "docker"].map((name) => page(`deployment/${name}.md`)),
  ]),
  section("Apache APISIX", [
    page("apisix/install.md"),
    page("apisix/generate.md"),
    page("apisix/compatibility.md"),
  ]),
  section("Operation", [
    page("operations.md"),
    page("errors.md"),
    page("security.md"),
    page("benchmarks.md", "Performance"),
  ]),
  section("Coming from", [
    page("apisix/migrate-ext-plugin.md", "ext-plugin and its runners"),
    page("apisix/migrate-wasm.md", "Wasm"),
    page("migrate-njs.md", "njs"),
    page("migrate-kong.md", "Kong's JavaScript plugins"),
  ]),
  section("How it works", [
    page("architecture.md"),
    page("wire-format.md"),
    page("http-protocol.md"),
    page("adr/README.md"),
    ...pagesIn("adr"),
  ]),
];

/** As on GitHub: lower case, punctuation dropped, spaces to hyphens. @param {string} heading */
const slugify = (heading) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

/**
 * Where a link of a page leads on the site.
 * @param {string} link as in the Markdown @param {string} from the page, below docs/
 */
function onSite(link, from) {
  if (/^[a-z]+:|^#/.test(link)) return link;
  const [file = "", anchor] = link.split("#");
  const target = path.join(docs, path.dirname(from), file);
  const rest = anchor === undefined ? "" : `#${anchor}`;
  if (target.startsWith(docs + path.sep)) {
    return file.replace(/(^|\/)README\.md$/, "$1index.md") + rest;
  }
  // What is not of the documentation is read in the repository. Without the file the link stays, and is found dead.
  if (!existsSync(target)) return link;
  const kind = statSync(target).isDirectory() ? "tree" : "blob";
  return `${homepage}/${kind}/main/${path.relative(root, target)}${rest}`;
}

export default defineConfig({
  title: "lua-resty-ts",
  description: "TypeScript plugins for nginx, OpenResty and Apache APISIX",
  lang: "en",
  outDir: path.join(root, "build-site/site"),
  cacheDir: path.join(root, "build-site/cache"),
  cleanUrls: true,
  lastUpdated: false,
  ignoreDeadLinks: false,
  rewrites: (id) => id.replace(/(^|\/)README\.md$/, "$1index.md"),
  themeConfig: {
    nav: [
      { text: "Guide", link: "/quick-start" },
      { text: "Reference", link: "/lua-api" },
      { text: "Errors", link: "/errors" },
    ],
    sidebar,
    outline: [2, 3],
    search: { provider: "local" },
    socialLinks: [{ icon: "github", link: homepage }],
  },
  markdown: {
    anchor: { slugify },
    config(md) {
      // Fenced blocks are safe from Vue's {{ }} as they come; those that are indented are not.
      const { code_block: codeBlock } = md.renderer.rules;
      md.renderer.rules.code_block = (...args) =>
        (codeBlock?.(...args) ?? "").replace("<pre", "<pre v-pre");
      md.core.ruler.push("links-on-site", (state) => {
        const env = /** @type {{ realPath?: string, path: string }} */ (state.env);
        const from = path.relative(docs, env.realPath ?? env.path);
        for (const token of state.tokens.flatMap((each) => each.children ?? [])) {
          const href = token.type === "link_open" ? token.attrGet("href") : null;
          if (href !== null) token.attrSet("href", onSite(href, from));
        }
      });
    },
  },
});
