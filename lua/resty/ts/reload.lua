-- Reloads what has changed, in one environment: the host loads it, and the chains of HTTP plugins
-- then ask for what it has made ready (src/host/reload.ts).
--
-- Runs on the Lua side; yields. Invariant: when run returns, calls and requests that begin meet
-- what was reloaded.

local wait = require "resty.ts.wait"

local loaded = package.loaded
local coroutine_wrap = coroutine.wrap
local error = error
local pairs = pairs

-- What does not settle the host gives up after start_timeout_ms each: it answers before that.
local MOST_WAITS = 10

local _M = {}


-- Returns the report of ts.reload; or nil, err, code.
function _M.run(client)
    local generation = client.generation
    local timeout_ms = client.options.start_timeout_ms * MOST_WAITS
    local report, err, code = client:call(client.reload, timeout_ms)
    if report == nil then
        return nil, err, code
    end
    -- There are no chains where the module was not asked for.
    local chains = loaded["resty.ts.http.chain"]
    if chains then
        chains.renew(client, generation, report.tokens)
    end
    report.tokens = nil
    return report
end


-- The same for several environments: what one of them refuses is refused, and where one cannot be
-- asked at all, that is the answer.
function _M.all(clients)
    local whole
    for i = 1, #clients do
        local report, err, code = _M.run(clients[i])
        if not report then
            return nil, err, code
        end
        whole = whole or report
        for name, text in pairs(report.refused) do
            whole.refused[name] = text
        end
    end
    return whole
end


local function run_and_tell(client)
    local report, err = _M.run(client)
    if not report then
        client.log(1, "the reload failed: " .. err)
    end
end


-- The host has seen that files have changed. Never yields: the reload is on its own.
function _M.soon(client)
    if wait.in_nginx then
        local ok, err = ngx.timer.at(0, function(premature)
            if not premature then
                run_and_tell(client)
            end
        end)
        if not ok then
            error("the reload cannot begin: " .. err, 0)
        end
    else
        coroutine_wrap(run_and_tell)(client)
    end
end


return _M
