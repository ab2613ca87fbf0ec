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
    open = 0, -- requests that the host keeps something for, and that have not ended
}

local last_id = 0


-- id: the request's number for the host.
-- gateway: what serves it.
-- text: $request_id, for people.
-- flags, version: of the head, filled in by snapshot.lua.
-- target: what a plugin has made of the request's target, or nil.
-- original_target: $request_uri before that.
-- kept: whether the host keeps something for it.
-- ctx_keys: keys of ctx.ctx that TypeScript has set, in order, or nil.
-- upstream_host, upstream_port: for http.balancer().
-- bodies, delayed_bodies: a chain -> the body that it filters.
-- body: the one of these that is being filtered, or nil.
-- replaces: whether header_filter may put an answer of its own in the response's place.
-- deleted: response fields that plugins have deleted before the response was known -> how many of
-- the name they have set since; nil.
-- auth_confs: in APISIX, a plugin of type "auth" -> the configuration that it began with, or nil.
-- failed: the chain that could not be configured, so that it is tried and logged once.
-- A chain -> the version of it that serves this request.
-- Names (chain.lua) -> the chain that the plugin of this name was last used with.
local function new_state()
    last_id = last_id % 4294967295 + 1
    return {
        id = last_id,
        gateway = gateway,
        text = nil,
        flags = nil,
        version = nil,
        target = nil,
        original_target = nil,
        kept = false,
        ctx_keys = nil,
        upstream_host = nil,
        upstream_port = nil,
        auth_confs = nil,
        failed = nil,
        bodies = nil,
        delayed_bodies = nil,
        body = nil,
        replaces = false,
        deleted = nil,
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


-- The host keeps something for this request: its id goes to rts_requests_ended when it ends.
-- Returns whether it is the first time.
function _M.keep(state, lib)
    if state.kept then
        return false
    end
    state.kept = true
    local cleanup = native.nginx().rts_ngx_cleanup_add(get_request(), 0)
    if cleanup == nil then
        return false -- no memory; the host's state goes with the environment
    end
    cleanup.handler = lib.rts_request_note_end
    cleanup.data = ffi_cast(void_ptr, state.id)
    _M.open = _M.open + 1
    return true
end


return _M
