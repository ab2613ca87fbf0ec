-- TypeScript plugins in Apache APISIX (docs/apisix/): what the files of APISIX's plugins return.
--
--     return require("resty.ts.apisix").plugin { name = "jwt-auth", plugin = "jwt-auth", … }
--
-- Runs on the Lua side, in every process that APISIX loads its plugins in.

local hook = require "resty.ts.apisix.hook"
local plugin = require "resty.ts.apisix.plugin"

return {
    -- A TypeScript plugin; `resty-ts apisix generate` writes what it takes.
    plugin = plugin.new,
    -- One of the hooks of lua/apisix/plugins.
    hook = hook.new,
}
