-- The host's functions for HTTP plugins (docs/http-protocol.md), and the client to call them with.
--
-- Runs on the Lua side. Invariant: all are defined before the first is called. So arguments,
-- which are in memory that all requests share, are encoded before a call can yield; and calls begin
-- in the order in which they were sent, which the host does not promise for a function's first.

local blocking = require "resty.ts.blocking"
local failure = require "resty.ts.failure"
local internal = require("resty.ts").internal

local math_floor = math.floor

local MODULE = "resty-ts:http"
-- Ids of an environment are its number times this, and more (src/host/http.ts).
local ID_SPAN = 4294967296

local _M = {
    client = internal.client,
    clients = internal.clients,
}

local functions = {}
for i, name in ipairs { "configure", "run", "resume", "pull", "log", "ended", "release", "close" }
do
    functions[i] = internal.entry(MODULE, name)
    _M[name] = functions[i]
end

-- They go on with what one environment has, and another does not.
_M.resume.bound, _M.pull.bound = true, true

local LAST = functions[#functions]


local function define(client)
    for i = 1, #functions do
        local ok, err, code = client:define(functions[i])
        if not ok then
            return nil, err, code
        end
    end
    return true
end


-- The worker blocks for the answer, and for an environment that starts as blocking.lua allows: no
-- response may pass a filter that is not there yet, and no log entry be lost.
local function call_sync(client, fn, timeout_ms, n, v1, v2, v3, v4)
    local began = client.now_ms()
    local value, err, code = client:call_sync_with(fn, timeout_ms, blocking.start_ms(), n, v1, v2,
                                                   v3, v4)
    local ms = client.now_ms() - began - client.options.sync_timeout_ms
    if ms > 0 then
        blocking.spend_start(ms)
    end
    return value, err, code
end


-- Calls fn with n arguments, blocking when `sync`. Returns its result; or nil, err, code.
function _M.call(client, fn, sync, timeout_ms, n, v1, v2, v3, v4)
    if not client.functions[LAST.index] then
        local ok, err, code = define(client)
        if not ok then
            return nil, err, code
        end
    end
    if sync then
        return call_sync(client, fn, timeout_ms, n, v1, v2, v3, v4)
    end
    return client:call_with(fn, timeout_ms, n, v1, v2, v3, v4)
end


-- Whether the environment that gave this id, of a run or a stream, is the one that there is now.
-- Returns true; or nil, err, code.
function _M.still_has(client, id)
    local life = client.life
    if life and math_floor(id / ID_SPAN) == life.generation then
        return true
    end
    return failure("exited", "the environment ended meanwhile")
end


-- Sends without wanting an answer. entries: of log, how many; else 0.
-- Returns true when it is queued.
function _M.notify(client, fn, entries, v)
    if not client.functions[LAST.index] and not define(client) then
        return false
    end
    return client:notify_with(fn, entries, v) == true
end


return _M
