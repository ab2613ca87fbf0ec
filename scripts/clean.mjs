// Removes what the build made. The fetched libnode and node_modules stay: they cost a download.
import { rmSync } from "node:fs";
import { inRoot } from "./lib/run.mjs";

for (const name of [
  "build",
  "build-cmake",
  "build-deb",
  "build-site",
  "build-test",
  "prebuilds",
  "dist",
])
  rmSync(inRoot(name), { recursive: true, force: true });
