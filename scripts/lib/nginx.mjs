// Starts examples/nginx.conf on a free port, in a temporary folder, and ends it without leaving anything.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isRoot } from "./apt.mjs";
import { Failure, inRoot, root, which } from "./run.mjs";

const START_MS = 10_000;
const QUIT_MS = 5_000;

/** @typedef {{ port: number, url: string, folder: string, log: () => string, ended: () => boolean, stop: () => Promise<void> }} Nginx */

/** A port that is free now. Somebody may take it before nginx does: then another is tried. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Failure("no free port");
  return address.port;
}

/** Can a user who is neither the owner nor in the group read this file, through all of its folders? @param {string} file */
function isReadableByAll(file) {
  if ((statSync(file).mode & 0o004) === 0) return false;
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false;
    if (folder === path.dirname(folder)) return true;
  }
}

/** The workers of a root's nginx run as somebody else, who must be able to read the project. */
function userLine() {
  if (!isRoot) return "";
  const samples = [
    "examples/calc.ts",
    "lua/resty/ts.lua",
    "dist/host.cjs",
    "build/Release/libresty_ts.so",
    "node_modules/esbuild/package.json",
  ];
  const readable = samples
    .map((name) => inRoot(name))
    .filter(existsSync)
    .every(isReadableByAll);
  return readable ? "user www-data;\n" : "user root;\n";
}

/** @param {string} folder @param {number} port */
function writeConfig(folder, port) {
  const template = readFileSync(inRoot("examples/nginx.conf"), "utf8");
  const text = template
    .replaceAll("/tmp/resty-ts", folder)
    .replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`);
  const file = path.join(folder, "nginx.conf");
  writeFileSync(file, userLine() + text);
  return file;
}

/** @param {number} port @returns {Promise<boolean>} */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** @param {number} pid of the leader of a group @param {NodeJS.Signals} signal */
function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // all of it has ended
  }
}

/** @param {number} port @returns {Promise<Nginx | "port taken">} */
async function startOn(port) {
  const nginx = which("nginx");
  if (nginx === undefined) throw new Failure("no nginx: run `node scripts/setup.mjs`");
  const folder = mkdtempSync(path.join(tmpdir(), "resty-ts-demo-"));
  chmodSync(folder, 0o755);
  // A group of its own: Ctrl-C at the terminal would otherwise reach nginx before us.
  const child = spawn(
    nginx,
    ["-p", root, "-e", path.join(folder, "error.log"), "-c", writeConfig(folder, port)],
    {
      cwd: folder,
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let printed = "";
  child.stderr.on("data", (/** @type {Buffer} */ chunk) => void (printed += chunk.toString()));
  const state = { ended: false };
  const end = new Promise((resolve) => {
    child.once("error", (error) => {
      printed += error.message;
      resolve(undefined);
    });
    child.once("close", resolve);
  }).then(() => void (state.ended = true));

  const log = () => {
    const file = path.join(folder, "error.log");
    return existsSync(file) ? readFileSync(file, "utf8") : printed;
  };
  const stop = async () => {
    for (const signal of /** @type {const} */ (["SIGQUIT", "SIGTERM", "SIGKILL"])) {
      if (state.ended || child.pid === undefined) break;
      if (signal === "SIGKILL") signalGroup(child.pid, signal);
      else child.kill(signal);
      const timer = new AbortController();
      await Promise.race([
        end,
        sleep(QUIT_MS, undefined, { signal: timer.signal }).catch(() => {}),
      ]);
      timer.abort();
    }
    if (child.pid !== undefined) signalGroup(child.pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };

  const deadline = Date.now() + START_MS;
  while (!(await accepts(port))) {
    if (state.ended || Date.now() > deadline) {
      const text = log();
      await stop();
      if (text.includes("Address already in use")) return "port taken";
      throw new Failure(`nginx did not start:\n${text || printed || "it printed nothing"}`);
    }
    await Promise.race([end, sleep(20)]);
  }
  return { port, url: `http://127.0.0.1:${port}`, folder, log, ended: () => state.ended, stop };
}

/** @returns {Promise<Nginx>} */
export async function startNginx() {
  for (let attempt = 0; attempt < 5; attempt++) {
    const nginx = await startOn(await freePort());
    if (nginx !== "port taken") return nginx;
  }
  throw new Failure("no port stayed free for nginx");
}
