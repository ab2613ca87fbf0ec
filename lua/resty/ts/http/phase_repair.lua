-- Works around lua-nginx-module before 0.10.29: when output had to wait for a slow client and the
-- location has body_filter_by_lua*, a request that goes on after it finds itself in the body
-- filter's phase for good, and no API may wait any more (its commit 05812622, "ensure context is
-- restorable on fd writable events"). To be removed with support for these versions.
--
-- Runs on the Lua side, in phases that can yield. Invariant: the module's memory is written only
-- where a change was seen to change what ngx.get_phase gives, and only back to what it was there.

local base = require "resty.core.base"
local ffi = require "ffi"
local native = require "resty.ts.native"
require "resty.core.phase"

local ffi_cast = ffi.cast
local get_request = base.get_request
local ngx = ngx
local get_raw_phase = ngx.get_raw_phase -- luacheck: ignore 143

local FIXED_IN = 10029
local LOG, BODY_FILTER = 0x10, 0x40
-- r->ctx, behind signature and connection: so since nginx 0.1.
local CTX_OFFSET = 16
-- Where the phase lies in lua-nginx-module 0.10.15 to 0.10.28 is well below that.
local MOST_WORDS = 256

local bytes_ptr = ffi.typeof("uint8_t *")
local words_ptr = ffi.typeof("uint16_t *")
local contexts_ptr = ffi.typeof("void ***")

local _M = {}

local offset -- of the phase in the module's context, in words; false: not found


local function context_of(r)
    local contexts = ffi_cast(contexts_ptr, ffi_cast(bytes_ptr, r) + CTX_OFFSET)[0]
    return ffi_cast(words_ptr, contexts[native.nginx().rts_ngx_lua_module.ctx_index])
end


-- Where the phase is: the word that says so, and whose change get_raw_phase follows.
local function find(r, phase)
    local words = context_of(r)
    for i = 0, MOST_WORDS - 1 do
        if words[i] == phase then
            words[i] = LOG
            local found = get_raw_phase(r) == LOG
            words[i] = phase
            if found then
                return i
            end
        end
    end
    return false
end


-- To be called while the phase is right. Returns what restore takes, or nil where there is nothing
-- to repair.
function _M.remember()
    if ngx.config.ngx_lua_version >= FIXED_IN then
        return nil
    end
    local r = get_request()
    local phase = get_raw_phase(r)
    if offset == nil then
        offset = find(r, phase)
    end
    return offset and phase or nil
end


-- To be called after each wait.
function _M.restore(phase)
    local r = get_request()
    if phase and get_raw_phase(r) == BODY_FILTER then
        context_of(r)[offset] = phase
    end
end


return _M
