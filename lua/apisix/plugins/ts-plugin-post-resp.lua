-- APISIX's plugin ts-plugin-post-resp: TypeScript on the upstream's response, which it changes in
-- place, in nginx's filters (docs/apisix/migrate-ext-plugin.md).

local plugin = require("resty.ts.apisix").hook {
    name = "ts-plugin-post-resp",
    hook = "post-resp",
    priority = -4000,
    phases = { "header_filter", "body_filter", "log" },
    -- Answers of APISIX's own plugins pass: there was no upstream.
    skips = function(api_ctx)
        return not api_ctx.resty_ts_proxied
    end,
}


function plugin.before_proxy(_, api_ctx)
    api_ctx.resty_ts_proxied = true
end


return plugin
