-- APISIX's plugin ts-plugin-post-req: TypeScript after APISIX's own plugins, before the upstream,
-- as ext-plugin-post-req runs its plugins (docs/apisix/migrate-ext-plugin.md).
return require("resty.ts.apisix").hook {
    name = "ts-plugin-post-req",
    hook = "post-req",
    priority = -3000,
    phases = { "access" },
}
