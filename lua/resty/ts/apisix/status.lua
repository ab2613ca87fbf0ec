-- What the control API says of the runtime in a worker: GET /v1/plugin/resty-ts.
--
-- Runs on the Lua side, in the worker that the request came to. Nothing here yields.

local contexts = require "resty.ts.apisix.contexts"
local runtime = require "resty.ts.apisix.runtime"
local ts = require "resty.ts"

local ngx = ngx

local _M = {}

local HEALTHY = { ready = true, starting = true, restarting = true }


-- Returns 200, or 503 when TypeScript does not run here, and the report.
function _M.report()
    local stats, err = ts.stats()
    local report = {
        version = ts._VERSION,
        worker = ngx.worker.pid(),
        plugins = runtime.plugins(),
        contexts = contexts.list(),
    }
    if not stats then
        report.state, report.reason = "not_started", runtime.why or err
        return 503, report
    end
    report.state, report.reason = stats.state, stats.reason
    report.runtime = stats
    return HEALTHY[stats.state] and 200 or 503, report
end


return _M
