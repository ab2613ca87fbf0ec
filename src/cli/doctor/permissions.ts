/** Whether nginx's workers may read what they must, and write where they do. */
import path from "node:path";
import { fault, type Finding, ok } from "./finding.js";
import { type Machine, Permission, type User } from "./machine.js";

const MOST_FILES = 2000;

/** All files and folders below, without what npm has installed. */
function below(machine: Machine, folder: string): string[] {
  const found: string[] = [];
  const open = [folder];
  for (let at = open.pop(); at !== undefined && found.length < MOST_FILES; at = open.pop()) {
    for (const name of machine.list(at)) {
      const file = path.join(at, name);
      found.push(file);
      if (name !== "node_modules" && machine.isFolder(file)) open.push(file);
    }
  }
  return found;
}

function readProblem(machine: Machine, user: User, file: string): [string, string] | undefined {
  const barrier = machine.barrier(user, file);
  if (barrier !== undefined) {
    return [
      `${file}: the workers' user ${user.name} may not enter ${barrier}`,
      `chmod o+x ${barrier}, or deploy to a folder such as /opt`,
    ];
  }
  const isFolder = machine.isFolder(file);
  const wanted = isFolder ? Permission.read | Permission.enter : Permission.read;
  if (machine.may(user, file, wanted)) return undefined;
  return [
    `${file}: the workers' user ${user.name} may not read it`,
    `chmod ${isFolder ? "o+rx" : "o+r"} ${file}, or chgrp it to the workers' group`,
  ];
}

/** @param plugins the folder of plugins, or of modules. */
export function lookAtPlugins(machine: Machine, user: User, plugins: string): Finding[] {
  if (!machine.isFolder(plugins)) {
    const text = `${plugins} is no folder`;
    return [fault("plugins", text, "deploy the plugins there, or name their folder in ts.start")];
  }
  const problem = readProblem(machine, user, plugins);
  if (problem !== undefined) return [fault("plugins", ...problem)];
  const problems = below(machine, plugins)
    .map((file) => readProblem(machine, user, file))
    .filter((each) => each !== undefined);
  if (problems.length > 0) return problems.map((each) => fault("plugins", ...each));
  return [ok("plugins", `${plugins}, readable by ${user.name}`)];
}

/** A file that workers load. */
export function lookAtFile(machine: Machine, user: User, file: string): Finding[] {
  const problem = readProblem(machine, user, file);
  return problem === undefined ? [] : [fault("resty-ts", ...problem)];
}

/** @param given ts.start's runtime_dir, or undefined. */
export function lookAtRuntimeDir(machine: Machine, user: User, given?: string): Finding[] {
  const folders = given === undefined ? ["/tmp", "/dev/shm"] : [given];
  const good = folders.find(
    (folder) =>
      machine.isFolder(folder) &&
      machine.barrier(user, folder) === undefined &&
      machine.may(user, folder, Permission.write | Permission.enter),
  );
  if (good !== undefined) return [ok("runtime_dir", `${good}, writable by ${user.name}`)];
  const text = `the workers' user ${user.name} cannot write to ${folders.join(" or ")}`;
  const cure = `install -d -o ${user.name} -m 700 /run/resty-ts, and ts.start{ runtime_dir = "/run/resty-ts" }`;
  return [fault("runtime_dir", text, cure)];
}
