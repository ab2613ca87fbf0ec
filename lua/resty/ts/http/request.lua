-- What is kept for a request from phase to phase, in ngx.ctx under a key of our own.
--
-- Runs on the Lua side. Invariant: a request has one id for as long as it has this state; an
-- internal redirect empties ngx.ctx, and what comes after it is another request here.

local base = require "resty.core.base"
local ffi = require "ffi"
local gateway = require "resty.ts.http.gateway"
local native = require "resty.ts.native"

local ffi_cast = ffi.cast
local get_request = base.get_request
local ngx = ngx
local void_ptr = ffi.typeof("void *")

-- Not a string: Lua code that copies or prints ngx.ctx does not meet it by name.
local KEY = {}

local _M = {
    open = 0, -- requests that the host was told of, and whose ends it was not
}

local last_id = 0


-- id: the request's number for the host.
-- gateway: what serves it.
-- text: $request_id, for people.
-- flags, version: of the head, filled in by snapshot.lua.
-- target: what a plugin has made of the request's target, or nil.
-- original_target: what the client sent, where $request_uri may be another; or nil.
-- reported: whether the host was told of it, and will be of its end.
-- ctx_keys: keys of ctx.ctx that TypeScript has set, in order, or nil.
-- upstream_host, upstream_port: for http.balancer().
-- bodies, delayed_bodies: a chain -> the body that it filters.
-- body: the one of these that is being filtered, or nil.
-- replaces: whether header_filter may put an answer of its own in the response's place.
-- overrides: response fields that plugins have set or deleted before the response was known -> how
-- many of the name are theirs, or the value (fields.lua); nil.
-- auth_confs: in APISIX, a plugin of type "auth" -> the configuration that it began with, or nil.
-- failed, failed_kind: the chain that could not be configured, so that it is tried and logged once,
-- and which policy is for that.
-- answered: whether a failure's answer is on its way to the client.
-- journal, refused: of changes that are being applied (changes.lua), or nil.
-- route: what http.run has found for $resty_ts_route, or false.
-- unrouted: whether it was logged that there was none.
-- A chain -> the version of it that serves this request.
-- Names (chain.lua) -> the chain that the plugin of this name was last used with.
local function new_state()
    last_id = last_id % 4294967295 + 1
    -- What most requests have, so that the table need not grow; the others begin as nil.
    return {
        id = last_id,
        gateway = gateway,
        text = nil,
        flags = nil,
        version = nil,
        reported = nil,
    }
end


-- This request's state, made on first use.
function _M.get()
    local ctx = ngx.ctx
    local state = ctx[KEY]
    if not state then
        state = new_state()
        ctx[KEY] = state
    end
    return state
end


-- The same, or nil when there is none.
function _M.peek()
    return ngx.ctx[KEY]
end


-- $request_id. nginx makes another one each time it is read, unless its configuration has it.
function _M.text(state)
    local text = state.text
    if not text then
        text = ngx.var.request_id
        state.text = text
    end
    return text
end


-- Sets a key of ctx.ctx, and remembers that TypeScript has done it.
function _M.set_ctx(state, key, value)
    state.gateway.ctx(state)[key] = value
    local keys = state.ctx_keys
    if not keys then
        keys = {}
        state.ctx_keys = keys
    end
    if not keys[key] then
        keys[key] = true
        keys[#keys + 1] = key
    end
end


-- The host is told of this request: its id goes to rts_requests_ended when it ends. Called once.
-- is_over: nginx has run the request's cleanup handlers already: it does so before the phase log.
function _M.report_end(state, lib, is_over)
    local id = ffi_cast(void_ptr, state.id)
    _M.open = _M.open + 1
    local cleanup = not is_over and native.nginx().rts_ngx_cleanup_add(get_request(), 0)
    if cleanup and cleanup ~= nil then
        cleanup.handler = lib.rts_request_note_end
        cleanup.data = id
    else
        lib.rts_request_note_end(id)
    end
end


return _M
