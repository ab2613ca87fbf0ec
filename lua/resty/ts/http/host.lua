-- The host's functions for HTTP plugins (docs/http-protocol.md), and the client to call them with.
--
-- Runs on the Lua side. Invariant: all are defined before the first is called. So arguments,
-- which are in memory that all requests share, are encoded before a call can yield; and calls begin
-- in the order in which they were sent, which the host does not promise for a function's first.

local internal = require("resty.ts").internal

local MODULE = "resty-ts:http"

local _M = { client = internal.client }

local functions = {}
for i, name in ipairs { "configure", "run", "resume", "pull", "log", "ended", "release", "close" }
do
    functions[i] = internal.entry(MODULE, name)
    _M[name] = functions[i]
end

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


-- Calls fn, blocking when `sync`. Returns its result; or nil, err, code.
function _M.call(client, fn, sync, timeout_ms, ...)
    if not client.functions[LAST.index] then
        local ok, err, code = define(client)
        if not ok then
            return nil, err, code
        end
    end
    if sync then
        return client:call_sync(fn, timeout_ms, ...)
    end
    return client:call(fn, timeout_ms, ...)
end


-- Sends without wanting an answer. Returns true when it is queued.
function _M.notify(client, fn, ...)
    if not client.functions[LAST.index] and not define(client) then
        return false
    end
    return client:notify(fn, ...) == true
end


return _M
