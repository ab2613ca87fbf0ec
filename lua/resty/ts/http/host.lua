-- The host's functions for HTTP plugins (docs/http-protocol.md), and the client to call them with.
--
-- Runs on the Lua side. Invariant: who calls one of them has defined it first (client:define), so
-- arguments are encoded before the call can yield: they are in memory that all requests share.

local internal = require("resty.ts").internal

local MODULE = "resty-ts:http"

local _M = { client = internal.client }

for _, name in ipairs { "configure", "run", "resume", "pull", "log", "ended", "release",
                        "close" } do
    _M[name] = internal.entry(MODULE, name)
end


-- Calls fn, blocking when `sync`. Returns its result; or nil, err, code.
function _M.call(client, fn, sync, timeout_ms, ...)
    if not fn.defined then
        local ok, err, code = client:define(fn)
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
    if not client:define(fn) then
        return false
    end
    return client:notify(fn, ...) == true
end


return _M
