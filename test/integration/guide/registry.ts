/**
 * A package registry on loopback with this project, as npm packs it, and the packages that
 * package-lock.json has put into node_modules: `npm install resty-ts` as after its publication.
 * Packages for other platforms are not there; npm leaves those out by itself.
 */
import { execFile } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { platform } from "../../../scripts/lib/platform.mjs";
import { INSTALLATION, PROJECT_ROOT } from "../../support/project.js";

const run = promisify(execFile);
const LIBRARY = /^(libresty_ts(_node\d+)?\.so|resty_ts\.node)$/;

interface Manifest {
  readonly name: string;
  readonly version: string;
}

const manifestOf = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;

/** name -> version -> folder */
function installed(): Map<string, Map<string, string>> {
  const lock = JSON.parse(readFileSync(join(PROJECT_ROOT, "package-lock.json"), "utf8")) as {
    packages: Record<string, unknown>;
  };
  const found = new Map<string, Map<string, string>>();
  for (const place of Object.keys(lock.packages).sort()) {
    const folder = join(PROJECT_ROOT, place);
    if (!existsSync(join(folder, "package.json"))) continue;
    const { name, version } = manifestOf(folder);
    found.set(name, new Map([...(found.get(name) ?? []), [version, folder]]));
  }
  return found;
}

/**
 * Gives an installed or an unpacked package libraries for this machine.
 * @param prebuilds as `npm run prebuild` makes them; else the local build's, where it has none.
 */
export function addLibraries(folder: string, prebuilds?: string): void {
  const target = join(folder, "prebuilds", platform);
  if (prebuilds !== undefined) {
    rmSync(join(folder, "prebuilds"), { recursive: true, force: true });
    cpSync(prebuilds, join(folder, "prebuilds"), { recursive: true });
  }
  if (existsSync(target)) return;
  mkdirSync(target, { recursive: true });
  const from = INSTALLATION.libraries;
  for (const name of readdirSync(from).filter((one) => LIBRARY.test(one))) {
    copyFileSync(join(from, name), join(target, name));
  }
}

export class Registry {
  readonly #server: Server;
  readonly #packages = installed();
  readonly #tarballs: string;
  readonly #prebuilds: string | undefined;
  #url = "";

  private constructor(tarballs: string, prebuilds?: string) {
    this.#tarballs = tarballs;
    this.#prebuilds = prebuilds;
    this.#server = createServer((request, response) => {
      this.#answer(decodeURIComponent(request.url ?? "")).then(
        (body) => response.writeHead(body === undefined ? 404 : 200).end(body),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    });
  }

  /**
   * @param folder for tarballs; the caller's.
   * @param prebuilds to pack; else those of the project, or what its build has made.
   */
  static async start(folder: string, prebuilds?: string): Promise<Registry> {
    mkdirSync(folder, { recursive: true });
    const registry = new Registry(folder, prebuilds);
    await new Promise<void>((resolve) => {
      registry.#server.listen(0, "127.0.0.1", resolve);
    });
    registry.#url = `http://127.0.0.1:${(registry.#server.address() as AddressInfo).port}`;
    return registry;
  }

  get url(): string {
    return this.#url;
  }

  /**
   * Of a user whose npm has this registry, and no settings of their own.
   * @param home the user's, where it keeps what it has fetched.
   */
  environment(home: string): NodeJS.ProcessEnv {
    return {
      PATH: `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`,
      HOME: home,
      npm_config_registry: this.#url,
      npm_config_cache: join(home, "npm-cache"),
      npm_config_userconfig: join(home, "npmrc"),
      npm_config_update_notifier: "false",
      npm_config_audit: "false",
      npm_config_fund: "false",
      // esbuild's would only look after what is there, msgpackr's compile what nobody needs.
      npm_config_ignore_scripts: "true",
    };
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** "/NAME" is the package's description, "/NAME/-/VERSION.tgz" its tarball. */
  async #answer(path: string): Promise<Buffer | string | undefined> {
    const [, name = "", version] = /^\/(.+?)(?:\/-\/(.+)\.tgz)?$/.exec(path) ?? [];
    const versions = this.#packages.get(name);
    if (versions === undefined) return undefined;
    if (version !== undefined) return this.#pack(name, versions.get(version) ?? "");
    // The first is the one at the top of node_modules: package.json's own.
    const [latest] = versions.keys();
    return JSON.stringify({
      name,
      "dist-tags": { latest },
      versions: Object.fromEntries(
        [...versions].map(([each, folder]) => [
          each,
          { ...manifestOf(folder), dist: { tarball: `${this.#url}/${name}/-/${each}.tgz` } },
        ]),
      ),
    });
  }

  async #pack(name: string, folder: string): Promise<Buffer> {
    const file = join(this.#tarballs, `${name.replaceAll("/", "-")}.tgz`);
    const source = name === "resty-ts" ? await this.#ownFiles() : folder;
    const args = ["-czf", file, "--exclude=./node_modules", "--transform=s,^\\.,package,", "."];
    await run("tar", args, { cwd: source, env: { ...process.env, GZIP: "-1" } });
    return readFileSync(file);
  }

  /** What npm packs of this project. A release has libraries in it; here those of the build will do. */
  async #ownFiles(): Promise<string> {
    const args = ["pack", "--ignore-scripts", "--silent", "--pack-destination", this.#tarballs];
    const { stdout } = await run("npm", args, { cwd: PROJECT_ROOT });
    await run("tar", ["-xzf", stdout.trim()], { cwd: this.#tarballs });
    const folder = join(this.#tarballs, "package");
    addLibraries(folder, this.#prebuilds);
    return folder;
  }
}
