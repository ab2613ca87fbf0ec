-- Reloads what has changed, in one environment: the host loads it, and the chains of HTTP plugins
-- then ask for what it has made ready (src/host/reload.ts).
--
-- Runs on the Lua side; yields. Invariants: when run returns, calls and requests that begin meet
-- what was reloaded. However often the host asks, one reload runs on its own, and one is to follow.

local failure = require "resty.ts.failure"
local wait = require "resty.ts.wait"

local loaded = package.loaded
local math_huge = math.huge
local coroutine_wrap = coroutine.wrap
local error = error
local pairs = pairs
local pcall = pcall
local tostring = tostring
local type = type

-- What does not settle the host gives up after start_timeout_ms each: it answers before that.
local MOST_WAITS = 10
-- After which a timer will not come any more.
local LATE_MS = 1000

local _M = {}


-- Returns the report of ts.reload; or nil, err, code.
function _M.run(client)
    local generation = client.generation
    local timeout_ms = client.options.start_timeout_ms * MOST_WAITS
    local report, err, code = client:call(client.reload, timeout_ms)
    if err then
        return nil, err, code
    end
    if type(report) ~= "table" or type(report.refused) ~= "table" or type(report.tokens) ~= "table"
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


local function run_and_tell(client)
    client.reload_due = math_huge
    repeat
        client.reload_again = false
        local ok, report, err = pcall(_M.run, client)
        if not ok or not report then
            client.log(1, "the reload failed: " .. tostring(ok and err or report))
        end
    until not client.reload_again or client.stopped
    client.reload_due = 0
end


local function on_timer(premature, client)
    if not premature then
        run_and_tell(client)
    end
end


-- The host has seen that files have changed. Never yields: the reload is on its own.
function _M.soon(client)
    local now = client.now_ms()
    if now < client.reload_due then
        client.reload_again = true
    elseif wait.in_nginx then
        local ok, err = ngx.timer.at(0, on_timer, client)
        if not ok then
            error("the reload cannot begin: " .. err, 0)
        end
        client.reload_due = now + LATE_MS
    else
        coroutine_wrap(run_and_tell)(client)
    end
end


return _M
