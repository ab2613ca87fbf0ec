/** Node: which libnode can be embedded, and which node can run as a process. At least one must do. */
import path from "node:path";
import { libcOf } from "./elf.js";
import { fault, type Finding, ok, warning } from "./finding.js";
import type { Machine } from "./machine.js";

export interface NodePlaces {
  /** The folder of libresty_ts.so. */
  readonly folder: string;
  /** As ts.start names them. */
  readonly libnode?: string | undefined;
  readonly node?: string | undefined;
  /** "embedded" or "process", where only that is wanted. */
  readonly runtime?: string | undefined;
}

const LEAST_NODE = 18;
const BACKEND = /^libresty_ts_node(\d+)\.so$/;
const LIBNODE = /^libnode\.so\.(\d+)$/;
/** Files that Debian's libnode has not in itself. */
const BUILTIN = /\/usr\/share\/nodejs\/[\w./-]+\.js/g;

const GET_LIBNODE =
  "a libnode comes with Debian's and Ubuntu's libnode-dev, Fedora's nodejs-libs, or Node's " +
  "./configure --shared";

function libnodes(machine: Machine, { folder, libnode }: NodePlaces): string[] {
  if (libnode !== undefined) return [libnode];
  return [path.join(folder, "libnode"), ...machine.libraryFolders()].flatMap((each) =>
    machine
      .list(each)
      .filter((name) => LIBNODE.test(name))
      .map((name) => path.join(each, name)),
  );
}

/** The packages that have the missing files: /usr/share/nodejs/acorn/dist/acorn.js is of node-acorn. */
function packagesOf(files: readonly string[]): string[] {
  return [...new Set(files.map((file) => `node-${file.split("/")[4] ?? ""}`))];
}

/** What keeps one from being embedded, and the cure; undefined: nothing. */
function problemOf(
  machine: Machine,
  file: string,
  abis: readonly number[],
): [text: string, cure: string] | undefined {
  const bytes = machine.readBytes(file);
  const elf = machine.elf(file);
  if (bytes === undefined || elf === undefined) {
    return [`${file} is no library that can be read`, GET_LIBNODE];
  }
  const abi = Number(LIBNODE.exec(elf.soname ?? path.basename(file))?.[1]);
  if (!abis.includes(abi)) {
    return [
      `${file} has ABI ${abi}, and there is no backend libresty_ts_node${abi}.so for it ` +
        `(there are some for: ${abis.join(", ") || "none"})`,
      "take the release that has that backend, or build it on this machine: npm run build",
    ];
  }
  const folders = [path.dirname(file), ...machine.libraryFolders()];
  const lacking = elf.needed.filter(
    (name) => !folders.some((folder) => machine.exists(path.join(folder, name))),
  );
  if (lacking.length > 0) {
    return [
      `${file} needs ${lacking.join(", ")}, which is not there`,
      "install the packages that have them: apt-get install libnode-dev brings all",
    ];
  }
  const builtins = [...new Set(bytes.toString("latin1").match(BUILTIN) ?? [])];
  // Where several are named for one package it looks for them one after the other.
  const absent = builtins.filter(
    (each) => !machine.isFolder(each.split("/").slice(0, 5).join("/")),
  );
  if (absent.length > 0) {
    return [
      `${file} reads ${absent.join(", ")} when it starts, and aborts: they are not there`,
      `apt-get install ${packagesOf(absent).join(" ")}; in a container, mount /usr/share/nodejs, too`,
    ];
  }
  return undefined;
}

/** What keeps a process from running, and the cure. */
function processProblem(
  machine: Machine,
  { folder, node = "node" }: NodePlaces,
): [text: string, cure: string] | { readonly text: string } {
  const program = machine.program(node);
  const get = `install Node ${LEAST_NODE} or later (apt-get install nodejs), or name one by ts.start{ node = … }`;
  if (program === undefined) return [`there is no node: ${node} is not on the PATH`, get];
  const { stdout, stderr } = machine.run(program, "--version");
  const version = /^v(\d+)\.\S+/.exec(stdout.trim());
  if (version === null) {
    return [`${program} does not run: ${stderr.trim().split("\n")[0] ?? ""}`, get];
  }
  if (Number(version[1]) < LEAST_NODE) {
    return [`${program} is Node ${version[0]}, too old: ${LEAST_NODE} is the least`, get];
  }
  const addon = path.join(folder, "resty_ts.node");
  if (!machine.exists(addon)) {
    return [
      `${addon} is not there, and node as a process needs it`,
      "deploy it with libresty_ts.so, or build it: npm run build",
    ];
  }
  return { text: `${version[0]} (${program}), for runtime "process"` };
}

export function lookAtNode(machine: Machine, places: NodePlaces): Finding[] {
  const abis = machine
    .list(places.folder)
    .map((name) => Number(BACKEND.exec(name)?.[1]))
    .filter((abi) => !Number.isNaN(abi));
  const candidates = libnodes(machine, places).map((file) => ({
    file,
    problem: problemOf(machine, file, abis),
  }));
  const good = candidates.filter(({ problem }) => problem === undefined);
  const asProcess = processProblem(machine, places);
  const canProcess = "text" in asProcess;
  const { runtime } = places;
  const bad = (needed: boolean): typeof fault => (needed ? fault : warning);

  const findings: Finding[] = [];
  for (const { file } of good) findings.push(ok("libnode", `${file}, for runtime "embedded"`));
  const mustEmbed = runtime === "embedded" || (!canProcess && runtime !== "process");
  for (const { problem } of candidates) {
    if (problem !== undefined) {
      findings.push(bad(mustEmbed && good.length === 0)("libnode", ...problem));
    }
  }
  if (candidates.length === 0) {
    const cure = canProcess ? `${GET_LIBNODE}; or go on with runtime "process"` : GET_LIBNODE;
    findings.push(bad(mustEmbed)("libnode", "there is no libnode.so.N on this machine", cure));
  }
  if (canProcess) findings.push(ok("node", asProcess.text));
  else {
    const mustProcess = runtime === "process" || (good.length === 0 && runtime !== "embedded");
    findings.push(bad(mustProcess)("node", ...asProcess));
  }
  return findings;
}

/** Whether our library is for this machine. @param library libresty_ts.so. */
export function lookAtLibrary(machine: Machine, library: string, program?: string): Finding[] {
  const findings: Finding[] = [];
  const elf = machine.elf(library);
  if (elf === undefined) {
    const text = `${library} is not there, or is no library`;
    return [fault("resty-ts", text, "build it (npm run build), or deploy a prebuilt one")];
  }
  const nginx = program === undefined ? undefined : machine.elf(program);
  const own = (nginx === undefined ? undefined : libcOf(nginx)) ?? machineLibc(machine);
  const its = libcOf(elf);
  if (its !== undefined && own !== undefined && its !== own) {
    const text = `${library} is made for ${its}, and this machine's C library is ${own}`;
    findings.push(fault("libc", text, `deploy the files made for ${own}`));
  } else if (own !== undefined) findings.push(ok("libc", own));
  if (nginx !== undefined && nginx.arch !== elf.arch) {
    const text = `${library} is for ${elf.arch}, and nginx for ${nginx.arch}`;
    findings.push(fault("libc", text, `deploy the files made for ${nginx.arch}`));
  }
  if (!findings.some(({ level }) => level === "fault")) findings.push(ok("resty-ts", library));
  return findings;
}

/** By the dynamic loader that is there; musl's may be there beside glibc's. */
function machineLibc(machine: Machine): "glibc" | "musl" | undefined {
  const names = machine.libraryFolders().flatMap((folder) => machine.list(folder));
  if (names.some((name) => name.startsWith("ld-linux"))) return "glibc";
  return names.some((name) => name.startsWith("ld-musl-")) ? "musl" : undefined;
}
