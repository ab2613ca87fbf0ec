/**
 * The machine that doctor looks at: its files below a root, its programs, its users.
 *
 * Invariant: nothing is changed. Paths are the machine's own, without the root.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { type Elf, readElf } from "./elf.js";

export interface Ran {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** Who may do what with a file. */
export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gids: readonly number[];
}

export const Permission = { read: 4, write: 2, enter: 1 } as const;

const PROGRAM_FOLDERS = [
  ...["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"],
  ...["/usr/local/openresty/nginx/sbin", "/usr/local/nginx/sbin"],
];
const LIBRARY_FOLDERS = [
  "/usr/local/lib",
  "/usr/local/lib64",
  "/lib",
  "/lib64",
  "/usr/lib",
  "/usr/lib64",
];
const COMMAND_MS = 15_000;

export class Machine {
  readonly #root: string;

  /** @param root "/" for this one. */
  constructor(root: string) {
    this.#root = path.resolve(root);
  }

  /** Where a path of the machine's is for us. */
  at(file: string): string {
    return path.join(this.#root, file);
  }

  exists(file: string): boolean {
    return existsSync(this.at(file));
  }

  isFolder(file: string): boolean {
    return statSync(this.at(file), { throwIfNoEntry: false })?.isDirectory() ?? false;
  }

  /** "" when it is not there, or not to be read. */
  read(file: string): string {
    return this.readBytes(file)?.toString("utf8") ?? "";
  }

  readBytes(file: string): Buffer | undefined {
    try {
      return readFileSync(this.at(file));
    } catch {
      return undefined;
    }
  }

  /** Names in a folder, sorted; none when it is not there. */
  list(folder: string): string[] {
    try {
      return readdirSync(this.at(folder)).sort();
    } catch {
      return [];
    }
  }

  elf(file: string): Elf | undefined {
    const bytes = this.readBytes(file);
    return bytes === undefined ? undefined : readElf(bytes);
  }

  /** A program, by its path or by its name on the PATH and in the usual folders. */
  program(name: string): string | undefined {
    if (name.includes("/")) return this.exists(name) ? name : undefined;
    const onPath = (process.env["PATH"] ?? "").split(":").filter((each) => path.isAbsolute(each));
    const folders = [...(this.#root === "/" ? onPath : []), ...PROGRAM_FOLDERS];
    return folders.map((folder) => path.join(folder, name)).find((file) => this.exists(file));
  }

  run(program: string, ...args: readonly string[]): Ran {
    const { error, status, stdout, stderr } = spawnSync(this.at(program), args, {
      encoding: "utf8",
      timeout: COMMAND_MS,
      killSignal: "SIGKILL",
    });
    const ended = error === undefined ? "" : error.message;
    // Output is not there when the program could not be run at all.
    const text = (output: string | null): string => output ?? "";
    return { ok: status === 0, stdout: text(stdout), stderr: text(stderr) + ended };
  }

  /** Folders in which the dynamic loader looks. */
  libraryFolders(): string[] {
    const own = (process.env["LD_LIBRARY_PATH"] ?? "").split(":").filter((each) => each !== "");
    const configured = ["/etc/ld.so.conf", ...this.#filesIn("/etc/ld.so.conf.d")].flatMap((file) =>
      this.read(file)
        .split("\n")
        .map((line) => line.trim())
        .filter((line) => line.startsWith("/")),
    );
    const multiarch = ["/lib", "/usr/lib"].flatMap((folder) =>
      this.list(folder)
        .filter((name) => name.endsWith("-linux-gnu"))
        .map((name) => path.join(folder, name)),
    );
    const all = [
      ...(this.#root === "/" ? own : []),
      ...configured,
      ...multiarch,
      ...LIBRARY_FOLDERS,
    ];
    return [...new Set(all)];
  }

  #filesIn(folder: string): string[] {
    return this.list(folder).map((name) => path.join(folder, name));
  }

  /** @returns undefined when the machine has no such user. */
  user(name: string): User | undefined {
    const line = this.#lines("/etc/passwd").find(([each]) => each === name);
    if (line === undefined) return undefined;
    const groups = this.#lines("/etc/group").filter(([, , , members = ""]) =>
      members.split(",").includes(name),
    );
    const gids = [line[3], ...groups.map(([, , gid]) => gid)].map(Number);
    return { name, uid: Number(line[2]), gids };
  }

  group(name: string): number | undefined {
    const line = this.#lines("/etc/group").find(([each]) => each === name);
    return line === undefined ? undefined : Number(line[2]);
  }

  #lines(file: string): string[][] {
    return this.read(file)
      .split("\n")
      .map((line) => line.split(":"));
  }

  /** Whether the user may do this with it, folders above left out. */
  may(user: User, file: string, permission: number): boolean {
    const stat = statSync(this.at(file), { throwIfNoEntry: false });
    if (stat === undefined) return false;
    if (user.uid === 0) return true;
    if (user.uid === stat.uid) return (stat.mode & (permission << 6)) === permission << 6;
    if (user.gids.includes(stat.gid)) return (stat.mode & (permission << 3)) === permission << 3;
    return (stat.mode & permission) === permission;
  }

  /** The first folder above a file that the user may not enter. */
  barrier(user: User, file: string): string | undefined {
    const parts = path
      .dirname(path.resolve(file))
      .split("/")
      .filter((part) => part !== "");
    const above = parts.map((_, i) => `/${parts.slice(0, i + 1).join("/")}`);
    return above.find((folder) => !this.may(user, folder, Permission.enter));
  }
}

/** Who runs this command. */
export function whoami(): string {
  return execFileSync("id", ["-un"], { encoding: "utf8" }).trim();
}
