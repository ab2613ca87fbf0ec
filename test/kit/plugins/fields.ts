/** Does to fields what its configuration lists, phase by phase: [phase, side, what, name, value]. */
import { definePlugin, type BaseContext, type HeaderFields, Type } from "resty-ts";

export type FieldOp = readonly [
  phase: "rewrite" | "access" | "headerFilter",
  side: "request" | "response",
  /** "show" puts what is read of the name into a field of the same side. */
  what: "set" | "append" | "delete" | "show",
  name: string,
  value?: string | number | readonly (string | number)[],
];

function run(ctx: BaseContext, phase: string, ops: readonly FieldOp[]): void {
  for (const [where, side, what, name, value = ""] of ops) {
    if (where !== phase) continue;
    // Also where it is refused.
    const headers = ctx[side].headers as HeaderFields;
    if (what === "set") headers.set(name, value);
    else if (what === "append") headers.append(name, value as string);
    else if (what === "delete") headers.delete(name);
    else headers.set("X-Seen", JSON.stringify([headers.get(name), headers.getAll(name)]));
  }
}

export default definePlugin({
  name: "fields",
  schema: Type.Object({ ops: Type.Unsafe<readonly FieldOp[]>(Type.Array(Type.Any())) }),
  rewrite: (ctx, { conf }) => run(ctx, "rewrite", conf.ops),
  access: (ctx, { conf }) => run(ctx, "access", conf.ops),
  headerFilter: (ctx, { conf }) => run(ctx, "headerFilter", conf.ops),
});
