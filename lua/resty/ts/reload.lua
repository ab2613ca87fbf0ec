-- Reloads what has changed, in one environment: the host loads it, and the chains of HTTP plugins
-- then ask for what it has made ready (src/host/reload.ts).
--
-- Runs on the Lua side; yields. Invariants: when run returns, calls and requests that begin meet
-- what was reloaded. However often the host asks, one reload runs on its own, and one is to follow.

local failure = require "resty.ts.failure"
local wait = require "resty.ts.wait"

local loaded = package.loaded
local coroutine_wrap = coroutine.wrap
local pairs = pairs
local pcall = pcall
local tostring = tostring
local type = type

-- What does not settle the host gives up after start_timeout_ms each: it answers before that.
local MOST_WAITS = 10

local _M = {}


-- Returns the report of ts.reload; or nil, err, code.
function _M.run(client)
    local generation = client.generation
    local timeout_ms = client.options.start_timeout_ms * MOST_WAITS
    local report, err, code = client:call(client.reload, timeout_ms)
    if err then
        return nil, err, code
    end
    if type(report) ~= "table" or type(report.tokens) ~= "table"
       or type(report.refused) ~= "table"
    then
        return failure("protocol", "the host's answer is no report of a reload")
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


-- Again when it was asked for meanwhile, however often.
local function run_and_tell(client)
    local reloads = client.reloads
    repeat
        reloads.asked = false
        local ok, report, err = pcall(_M.run, client)
        if not ok or not report then
            client:on_log(1, "the reload failed: " .. tostring(err or report))
        end
    until not reloads.asked or client.stopped
end


-- The host has seen that files have changed. Never yields: the reload is on its own, and an exiting
-- worker does not wait for it.
function _M.soon(client)
    local reloads = client.reloads
    reloads.asked = true
    if wait.in_nginx then
        if not ngx.worker.exiting() then
            require("resty.ts.http.flight").begin(reloads, client, run_and_tell, client)
        end
    elseif not reloads.flight then
        reloads.flight = true
        coroutine_wrap(function()
            run_and_tell(client)
            reloads.flight = nil
        end)()
    end
end


return _M
