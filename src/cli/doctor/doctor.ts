/** `resty-ts doctor`: looks at a machine, and names each fault with its cure. */
import { statSync } from "node:fs";
import path from "node:path";
import { UsageError } from "../exit.js";
import { PACKAGE } from "../package.js";
import { fault, type Finding, ok } from "./finding.js";
import { Machine, type User, whoami } from "./machine.js";
import { lookAtNginx, type NginxPlace } from "./nginx.js";
import { lookAtLibrary, lookAtNode } from "./node.js";
import { lookAtFile, lookAtPlugins, lookAtRuntimeDir } from "./permissions.js";

export interface DoctorOptions {
  readonly root: string;
  readonly nginx?: string;
  readonly nginxConf?: string;
  /** libresty_ts.so, where nginx is not to be asked. */
  readonly library?: string;
  readonly plugins?: string;
}

const LIBRARY = "libresty_ts.so";

/** Where this package has it. */
function ownLibrary(machine: Machine): string | undefined {
  const folders = [`prebuilds/${process.platform}-${process.arch}`, "build/Release"];
  return folders
    .map((folder) => path.join(PACKAGE, folder, LIBRARY))
    .find((file) => machine.exists(file));
}

/** The workers', as the master would have it. */
function workersUser(machine: Machine, nginx: NginxPlace): User | Finding {
  const { config } = nginx;
  // Only root's nginx gives its workers another user.
  const name = process.getuid?.() === 0 ? (config.user ?? nginx.user) : whoami();
  const user = machine.user(name);
  if (user === undefined) {
    const text = `the workers' user ${name} is not on this machine`;
    return fault("user", text, `useradd --system ${name}, or another \`user\` in ${config.file}`);
  }
  const group = config.group === undefined ? undefined : machine.group(config.group);
  return group === undefined ? user : { ...user, gids: [group] };
}

function lookAtFiles(
  machine: Machine,
  nginx: NginxPlace,
  library: string | undefined,
  plugins: string | undefined,
): Finding[] {
  const { options } = nginx.config;
  const user = workersUser(machine, nginx);
  if ("check" in user) return [user];
  const findings: Finding[] = [ok("user", user.name)];
  if (library !== undefined) findings.push(...lookAtFile(machine, user, library));
  const folders =
    plugins === undefined ? ["plugins", "modules"].map((name) => options.get(name)) : [plugins];
  for (const folder of folders) {
    if (folder !== undefined) findings.push(...lookAtPlugins(machine, user, folder));
  }
  findings.push(...lookAtRuntimeDir(machine, user, options.get("runtime_dir")));
  return findings;
}

/** @throws {UsageError} */
export function doctor({ root, nginxConf, ...given }: DoctorOptions): Finding[] {
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`${root} is no folder: --root is one`);
  }
  const machine = new Machine(root);
  const asked = lookAtNginx(machine, {
    ...(given.nginx === undefined ? {} : { nginx: given.nginx }),
    ...(nginxConf === undefined ? {} : { conf: nginxConf }),
  });
  const findings = [...asked.findings];
  const { nginx } = asked;
  const options = nginx?.config.options;
  const library = given.library ?? options?.get("library") ?? asked.library ?? ownLibrary(machine);
  if (library === undefined) {
    const cure = "build it (npm run build), or deploy a prebuilt one; --library names it";
    findings.push(fault("resty-ts", `${LIBRARY} is not found`, cure));
  } else {
    findings.push(...lookAtLibrary(machine, library, nginx?.program));
    const [libnode, node, runtime] = ["libnode", "node", "runtime"].map((name) =>
      options?.get(name),
    );
    findings.push(
      ...lookAtNode(machine, { folder: path.dirname(library), libnode, node, runtime }),
    );
  }
  if (nginx !== undefined) findings.push(...lookAtFiles(machine, nginx, library, given.plugins));
  return findings;
}
