/** manifest.json: what is in a folder of built plugins, for whoever deploys it. */
import { createHash } from "node:crypto";
import { LUA_NAMES, PHASES, takesPart } from "../../http/phases.js";
import type { Plugin } from "../../sdk/plugin.js";
import type { StandardSchemaV1 } from "../../sdk/standard-schema.js";

/** One plugin of it. */
export interface BuiltPlugin {
  readonly name: string;
  readonly version: string;
  readonly priority: number;
  /** As nginx calls them, in the order in which a request goes through them. */
  readonly phases: readonly string[];
  /** JSON Schema of its configuration; null: it takes none, or a validator knows none. */
  readonly schema: unknown;
  readonly needs: { readonly vars: readonly string[]; readonly ctx: readonly string[] };
  readonly file: string;
  readonly sha256: string;
  /** Native packages that it imports. */
  readonly external: readonly string[];
}

export interface BuildManifest {
  /** The version of resty-ts that has built it. */
  readonly restyTs: string;
  readonly plugins: readonly BuiltPlugin[];
  /** Native packages that must be installed beside, with their versions. */
  readonly external: Readonly<Record<string, string>>;
}

interface JsonSchemaMaker {
  readonly jsonSchema?: { input(options: { target: string }): object };
}

function schemaOf({ schema }: Plugin): unknown {
  if (schema === undefined) return null;
  const { "~standard": standard } = schema as Partial<StandardSchemaV1>;
  if (standard === undefined) return schema;
  try {
    return (standard as JsonSchemaMaker).jsonSchema?.input({ target: "draft-07" }) ?? null;
  } catch {
    // It checks what JSON Schema cannot say: the plugin itself still does.
    return null;
  }
}

export const sha256 = (bytes: Uint8Array): string =>
  createHash("sha256").update(bytes).digest("hex");

export function describe(
  plugin: Plugin,
  file: string,
  code: Uint8Array,
  external: readonly string[],
): BuiltPlugin {
  const { name, version = "0.0.0", priority = 0, needs } = plugin;
  return {
    name,
    version,
    priority,
    phases: PHASES.filter((phase) => takesPart(plugin, phase)).map((phase) => LUA_NAMES[phase]),
    schema: schemaOf(plugin),
    needs: { vars: needs?.vars ?? [], ctx: needs?.ctx ?? [] },
    file,
    sha256: sha256(code),
    external,
  };
}
