-- APISIX's plugin ts-plugin-pre-req: TypeScript before all of APISIX's own plugins, as
-- ext-plugin-pre-req runs its plugins (docs/apisix/migrate-ext-plugin.md).
return require("resty.ts.apisix").hook {
    name = "ts-plugin-pre-req",
    hook = "pre-req",
    priority = 12000,
    phases = { "rewrite" },
}
