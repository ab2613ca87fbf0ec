/** resty-ts.json: what `resty-ts dev` serves. */
import { readFileSync } from "node:fs";
import { UsageError } from "../exit.js";

export interface Route {
  /** As nginx's `location` takes it. */
  readonly path: string;
  /** A chain, as http.chain takes it. */
  readonly plugins: readonly RoutePlugin[];
  /** As nginx's `proxy_pass` takes it; without one a plugin answers. */
  readonly upstream?: string;
}

export interface RoutePlugin {
  readonly name: string;
  readonly conf?: unknown;
}

export interface ProjectFile {
  readonly routes: readonly Route[];
}

/** What would end the directive that it is put into. */
const UNSAFE = /[;{}"'\\\n]/;

function problemOf(file: unknown): string | undefined {
  const { routes } = (file ?? {}) as { routes?: unknown };
  if (!Array.isArray(routes) || routes.length === 0) return "`routes` is a list of one or more";
  for (const [i, route] of routes.entries()) {
    const where = `routes[${i}]`;
    const { path, plugins, upstream } = (route ?? {}) as Record<string, unknown>;
    if (typeof path !== "string" || path === "" || UNSAFE.test(path)) {
      return `${where}.path is a location of nginx's, such as "/"`;
    }
    if (upstream !== undefined && (typeof upstream !== "string" || UNSAFE.test(upstream))) {
      return `${where}.upstream is a URL, such as "http://127.0.0.1:3000"`;
    }
    if (!Array.isArray(plugins) || plugins.length === 0) {
      return `${where}.plugins is a list of { name, conf }`;
    }
    const bad = plugins.findIndex(
      (each) => typeof (each as { name?: unknown } | null)?.name !== "string",
    );
    if (bad >= 0) return `${where}.plugins[${bad}] is { name, conf }`;
  }
  return undefined;
}

/** @throws {UsageError} */
export function readProjectFile(file: string): ProjectFile {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const cure = "resty-ts init makes a project with one, --config names another";
    const problem = `${file} cannot be read (${(error as Error).message}): ${cure}`;
    throw new UsageError(problem, { cause: error });
  }
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${file} is no JSON: ${(error as Error).message}`, { cause: error });
  }
  const problem = problemOf(read);
  if (problem !== undefined) throw new UsageError(`${file}: ${problem}`);
  return read as ProjectFile;
}
