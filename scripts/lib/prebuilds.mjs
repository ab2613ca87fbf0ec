// Lua takes prebuilds/ before a local build, so an old one would have all that is built and tested here pass unseen.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { filesBelow } from "./files.mjs";
import { platform } from "./platform.mjs";
import { inRoot, modified } from "./run.mjs";

/** What is wrong with the prebuilt files of this machine's kind, and the cure; undefined: nothing, or there are none. */
export function stalePrebuilds() {
  const folder = path.join("prebuilds", platform);
  const built = modified(inRoot(folder, "libresty_ts.so"));
  if (built === 0) return undefined;
  const sources = ["CMakeLists.txt", "binding.gyp", ...filesBelow("native", () => true)];
  const newer = sources.find((name) => modified(inRoot(name)) > built);
  const cure = "and Lua takes it before this build: run `npm run prebuild`, or remove it";
  if (newer !== undefined) return `${folder} is older than ${newer}, ${cure}`;
  const [ours, theirs] = [inRoot("dist/host.cjs"), inRoot(folder, "host.cjs")];
  if (existsSync(ours) && !readFileSync(ours).equals(readFileSync(theirs)))
    return `${folder}/host.cjs is not what src/host makes now, ${cure}`;
  return undefined;
}
