/** Declares the response's fields that its configuration lists. */
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "declares",
  schema: Type.Object({
    set: Type.Array(Type.Tuple([Type.String(), Type.Unsafe<string | string[]>(Type.Any())]), {
      default: [],
    }),
    remove: Type.Array(Type.String(), { default: [] }),
  }),
  responseHeaders: ({ set, remove }) => ({
    ...Object.fromEntries(remove.map((name) => [name, null])),
    ...Object.fromEntries(set),
    "x-undefined": undefined,
  }),
});
