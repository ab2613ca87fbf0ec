/** Links between the documents lead somewhere: to files that are there, and headings in them. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, test } from "node:test";
import { PROJECT_ROOT } from "../../support/project.js";

const read = (file: string): string => readFileSync(file, "utf8");

/** As on GitHub: lower case, punctuation dropped, spaces to hyphens. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

const anchorsOf = (text: string): string[] => [
  ...[...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => anchorOf(heading)),
  ...[...text.matchAll(/<a id="([^"]+)">/g)].map(([, id = ""]) => id),
];

/** Links of a document that lead nowhere. */
function broken(file: string): string[] {
  const text = read(file)
    .replace(/^```[^]*?^```$/gm, "")
    .replace(/`[^`\n]*`/g, "");
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => link);
  return links
    .filter((link) => !/^https?:/.test(link))
    .filter((link) => {
      const [path = "", anchor] = link.split("#");
      const target = path === "" ? file : join(dirname(file), path);
      if (!existsSync(target)) return true;
      if (anchor === undefined || !target.endsWith(".md")) return false;
      // A second heading of the same name has a number.
      return !anchorsOf(read(target)).includes(anchor.replace(/-\d+$/, ""));
    })
    .map((link) => `${relative(PROJECT_ROOT, file)}: ${link}`);
}

describe("links of the documentation", () => {
  const docs = readdirSync(join(PROJECT_ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(PROJECT_ROOT, "docs", name));

  for (const file of [join(PROJECT_ROOT, "README.md"), ...docs]) {
    test(`${relative(PROJECT_ROOT, file)} has no broken link`, () => {
      assert.deepEqual(broken(file), []);
    });
  }
});
