-- The head: what a phase's call tells the host of the request (docs/http-protocol.md, "The head").
--
-- Runs on the Lua side; nothing here yields. Invariant: one buffer and one set of tables serve all
-- requests, so what is made here is encoded before anything else runs. Fields and variables are
-- copied from nginx's memory; no Lua strings are made of them.

local base = require "resty.core.base"
local bit = require "bit"
local buffers = require "resty.ts.buffers"
local encode = require "resty.ts.encode"
local ffi = require "ffi"
local fields_module = require "resty.ts.http.fields"
local native = require "resty.ts.native"
local request_text = require("resty.ts.http.request").text
local request_target = require "resty.ts.http.target"
local values = require "resty.ts.values"
require "resty.core.misc"
require "resty.core.request"
require "resty.core.var"

local C = ffi.C
local ffi_new = ffi.new
local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local get_request = base.get_request
local of_response = fields_module.of_response
local use_coding, restore_coding = fields_module.use_coding, fields_module.restore_coding
local errmsg = base.get_errmsg_ptr()
local clear_table = require "table.clear"
local band, bor = bit.band, bit.bor
local ngx = ngx
local pairs = pairs
local tostring = tostring
local find, sub = string.find, string.sub
local tonumber = tonumber
local setmetatable = setmetatable

local FIXED_BYTES = 48
local MOST_FIELDS = fields_module.MOST
local BODY_PHASES = { [5] = true, [8] = true }
local NOT_THERE = 0xffffffff
local RESPONSE_PHASES = { [4] = true, [5] = true, [6] = true, [8] = true }
local HTTPS = 2
local INTERNAL = 4
local CONTINUES = 8
local REWRITTEN = 16

local null = values.null
local array_mt = values.array_mt
local view_mt = values.view_mt
local u16_ptr = ffi.typeof("uint16_t *")
local u32_ptr = ffi.typeof("uint32_t *")
local bytes_type = ffi.typeof("uint8_t[?]")
local fields_type = ffi.typeof("ngx_http_lua_ffi_table_elt_t[?]")
local own_fields_ptr = ffi.typeof("const rts_field_t *")

-- What an item of ctx is tried in.
local SCRATCH_BYTES = 4096
local scratch = ffi_new(bytes_type, SCRATCH_BYTES)

local lib
-- nginx's and ours of the same fields.
local fields, own_fields, fields_size
local truncated = ffi_new("int[1]")
local value = ffi_new("unsigned char *[1]")
local value_bytes = ffi_new("size_t[1]")
local lowercase = ffi_new("unsigned char[256]")

local buffer, buffer16, buffer32, size

local view = setmetatable({ nil, 0 }, view_mt)
local ctx_map = {}

local _M = {
    -- The head that was built last, as an argument of a call.
    view = view,
    CONTINUES = CONTINUES,
    CLOSED = 128,
    LAST = 1,
    UNBUFFERED = 64,
}


local function use_buffer(bytes, used)
    local bigger = ffi_new(bytes_type, bytes)
    if used > 0 then
        ffi_copy(bigger, buffer, used)
    end
    buffer, size = bigger, bytes
    buffer16, buffer32 = ffi_cast(u16_ptr, bigger), ffi_cast(u32_ptr, bigger)
    view[1] = bigger
end

use_buffer(8192, 0)


local function use_fields(n)
    fields, fields_size = ffi_new(fields_type, n), n
    own_fields = ffi_cast(own_fields_ptr, fields)
end

use_fields(64)


-- Appends n bytes at `at`. Returns where they end.
local function put(at, from, n)
    local stop = at + n
    if stop > size then
        use_buffer(stop * 2, at)
    end
    ffi_copy(buffer + at, from, n)
    return stop
end


-- Whether the variable has a value: then it is in value[0], value_bytes[0].
local function find_var(r, name)
    -- The name goes into `lowercase`, in lower case.
    local n = #name
    return n <= 256 and C.ngx_http_lua_ffi_var_get(r, name, n, lowercase, 0, value, value_bytes,
                                                   errmsg) == 0
end


-- Appends the variable's value, and its length as the head's 32-bit word i.
local function put_var(r, at, i, name)
    if not find_var(r, name) then
        buffer32[i] = 0
        return at
    end
    local n = tonumber(value_bytes[0])
    at = put(at, value[0], n)
    buffer32[i] = n
    return at
end


local function put_text(at, i, text)
    buffer32[i] = #text
    return put(at, text, #text)
end


-- What stays the same for all of the request.
local function describe(r, state)
    local flags = state.gateway.flags
    if find_var(r, "https") and value_bytes[0] > 0 then
        flags = flags + HTTPS
    end
    if C.ngx_http_lua_ffi_is_subrequest(r) == 1 or C.ngx_http_lua_ffi_req_is_internal(r) == 1 then
        flags = flags + INTERNAL
        if request_target.was_spelt and not state.target then
            state.original_target = request_target.original()
        end
    end
    local version = 10
    if find_var(r, "server_protocol") and value_bytes[0] >= 8 then -- "HTTP/1.1"
        version = (value[0][5] - 48) * 10 + value[0][7] - 48
    end
    state.flags, state.version = flags, version
end


-- The request's fields into `fields`. Returns how many there are.
local function request_fields(r)
    local n = C.ngx_http_lua_ffi_req_get_headers_count(r, 0, truncated)
    if n <= 0 then
        return 0
    end
    if n > MOST_FIELDS then
        return ngx.exit(431)
    end
    if n > fields_size then
        use_fields(n * 2)
    end
    if C.ngx_http_lua_ffi_req_get_headers(r, fields, n, 1) ~= 0 then
        return 0
    end
    return n
end


-- Their lengths go to the head's 32-bit words from i on. Returns where the texts end.
local function put_fields(at, from, n, i)
    local stop = lib.rts_put_fields(buffer, size, at, buffer32 + i, from, n)
    if stop > size then
        use_buffer(stop * 2, at)
        stop = lib.rts_put_fields(buffer, size, at, buffer32 + i, from, n)
    end
    return stop
end


-- The same for nginx's list of the response's.
local function put_listed(at, list, i)
    local stop = lib.rts_put_listed(buffer, size, at, buffer32 + i, list)
    if stop > size then
        use_buffer(stop * 2, at)
        stop = lib.rts_put_listed(buffer, size, at, buffer32 + i, list)
    end
    return stop
end


local function put_fixed(phase, state, flags, token, requests, responses)
    buffer[0] = phase
    buffer[1] = state.version
    buffer[2] = bor(state.flags, flags)
    buffer[3] = 0
    buffer32[1] = token
    buffer32[2] = state.id
    buffer16[6] = requests
    buffer16[7] = responses
    buffer16[8] = ngx.status
    buffer16[9] = 0
end


-- The texts `uri` and `args`.
local function put_uri(r, at, gateway, state)
    local rewritten = gateway.uri and gateway.uri(state)
    if rewritten then
        local query = find(rewritten, "?", 1, true)
        local n = query and query - 1 or #rewritten
        at = put(at, rewritten, n)
        buffer[2] = bor(buffer[2], REWRITTEN)
        buffer32[7] = n
        if not query then
            buffer32[8] = NOT_THERE
            return at
        end
        buffer32[8] = #rewritten - query
        return put(at, sub(rewritten, query + 1), #rewritten - query)
    end
    at = put_var(r, at, 7, "uri")
    if find_var(r, "args") then
        local n = tonumber(value_bytes[0])
        at = put(at, value[0], n)
        buffer32[8] = n
    else
        buffer32[8] = NOT_THERE
    end
    return at
end


-- Builds the head of a call into `view`. state: the request's; flags: LAST, CONTINUES.
function _M.build(phase, state, flags, token)
    lib = lib or native.load()
    local r = get_request()
    if not state.flags then
        describe(r, state)
    end
    if band(flags, CONTINUES) ~= 0 then
        put_fixed(phase, state, flags, token, 0, 0)
        for i = 5, 11 do
            buffer32[i] = 0
        end
        view[2] = FIXED_BYTES
        return
    end
    local requests = request_fields(r)
    local restores = state.knows_coding and BODY_PHASES[phase] and use_coding(r, state)
    local apart, n_apart, list, n_listed = of_response(r, RESPONSE_PHASES[phase])
    local at = FIXED_BYTES + 8 * (requests + n_apart + n_listed)
    if at > size then
        use_buffer(at * 2, 0)
    end
    put_fixed(phase, state, flags, token, requests, n_apart + n_listed)
    if C.ngx_http_lua_ffi_req_get_method_name(r, value, value_bytes) == 0 then
        local n = tonumber(value_bytes[0])
        at = put(at, value[0], n)
        buffer32[5] = n
    else
        buffer32[5] = 0
    end
    local target = state.target
    if target then
        at = put_text(at, 6, target)
    else
        at = put_var(r, at, 6, "request_uri")
    end
    at = put_uri(r, at, state.gateway, state)
    at = put_var(r, at, 9, "remote_addr")
    at = put_var(r, at, 10, "host")
    local original = state.original_target
    if original then
        at = put_text(at, 11, original)
    else
        buffer32[11] = NOT_THERE
    end
    local i = FIXED_BYTES / 4
    at = put_fields(at, own_fields, requests, i)
    i = i + 2 * requests
    at = put_fields(at, apart, n_apart, i)
    view[2] = put_listed(at, list, i + 2 * n_apart)
    if restores then
        restore_coding(state)
    end
end


-- The array `vars` for a phase's call, or nil. wanted: the names; slots: { array, views }, made by
-- slots_for(wanted). state: the request's.
function _M.vars(wanted, slots, state)
    if not wanted then
        return nil
    end
    local r = get_request()
    local array, views = slots.array, slots.views
    local var = state.gateway.var
    for i = 1, #wanted do
        if var or wanted[i] == "request_id" then
            local text
            if wanted[i] == "request_id" then
                text = request_text(state)
            else
                text = var(state, wanted[i])
            end
            local slot = views[i]
            slot[1] = text
            slot[2] = text and #text
            array[i] = text and slot or null
        elseif find_var(r, wanted[i]) then
            local slot = views[i]
            slot[1] = value[0]
            slot[2] = tonumber(value_bytes[0])
            array[i] = slot
        else
            array[i] = null
        end
    end
    return array
end


-- What vars fills in for so many variables.
function _M.slots_for(wanted)
    local array, views = setmetatable({}, array_mt), {}
    for i = 1, #wanted do
        array[i] = null
        views[i] = setmetatable({ lowercase, 0 }, view_mt)
    end
    return { array = array, views = views }
end


local function add_ctx(keys, ctx)
    local any = false
    for i = 1, #keys do
        local found = ctx[keys[i]]
        if found ~= nil then
            ctx_map[keys[i]] = found
            any = true
        end
    end
    return any
end


-- The map `ctx` for a phase's call, or nil. wanted: keys, or nil.
function _M.ctx(wanted, state)
    local set = state.ctx_keys
    if not wanted and not set then
        return nil
    end
    clear_table(ctx_map)
    local ctx = state.gateway.ctx(state)
    local any = wanted and add_ctx(wanted, ctx)
    any = set and add_ctx(set, ctx) or any
    return any and ctx_map or nil
end


-- Takes what cannot be carried out of the map, and says what it was. Returns whether there was any.
function _M.leave_behind(ctx, log)
    local any = false
    for key, item in pairs(ctx) do
        encode.begin(scratch, 0, SCRATCH_BYTES)
        local what = encode.arguments(1, item)
        if what then
            encode.drop()
            ctx[key] = nil
            any = true
            log("ngx.ctx." .. tostring(key) .. " is not passed to plugins: " .. what)
        else
            local _, spilled, spilled_size = encode.finish()
            if spilled then
                buffers.give(spilled, spilled_size)
            end
        end
    end
    return any
end


return _M
