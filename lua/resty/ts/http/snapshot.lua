-- The head: what a phase's call tells the host of the request (docs/http-protocol.md, "The head").
--
-- Runs on the Lua side; nothing here yields. Invariant: one buffer and one set of tables serve all
-- requests, so what is made here is encoded before anything else runs. Fields and variables are
-- copied from nginx's memory (native/channel/head.c); no Lua strings are made of them.

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
local get_request = base.get_request
local response_list = fields_module.response_list
local use_coding, restore_coding = fields_module.use_coding, fields_module.restore_coding
local errmsg = base.get_errmsg_ptr()
local clear_table = require "table.clear"
local band, bor = bit.band, bit.bor
local ngx = ngx
local pairs = pairs
local tostring = tostring
local find = string.find
local tonumber = tonumber
local setmetatable = setmetatable

local BODY_PHASES = { [5] = true, [8] = true }
local RESPONSE_PHASES = { [4] = true, [5] = true, [6] = true, [8] = true }
local HTTPS = 2
local INTERNAL = 4
local CONTINUES = 8
local REWRITTEN = 16

local null = values.null
local array_mt = values.array_mt
local view_mt = values.view_mt
local bytes_type = ffi.typeof("uint8_t[?]")

-- What an item of ctx is tried in.
local SCRATCH_BYTES = 4096
local scratch = ffi_new(bytes_type, SCRATCH_BYTES)

local lib
local head = ffi_new("rts_head_t")
local HEAD_ERRORS = { 431, "fields of the response: 65,535 can be carried",
                      "fields of the request: there is no memory for them" }
local value = ffi_new("unsigned char *[1]")
local value_bytes = ffi_new("size_t[1]")
local lowercase = ffi_new("unsigned char[256]")

local buffer, size

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


local function use_buffer(bytes)
    buffer, size = ffi_new(bytes_type, bytes), bytes
    view[1] = buffer
end

use_buffer(8192)


-- nginx's functions for the head, which are there when a request is.
local function init()
    lib = native.load()
    local nginx = head.nginx
    nginx.var_get = ffi.cast(nginx.var_get, C.ngx_http_lua_ffi_var_get)
    nginx.method = ffi.cast(nginx.method, C.ngx_http_lua_ffi_req_get_method_name)
    nginx.fields_count = ffi.cast(nginx.fields_count, C.ngx_http_lua_ffi_req_get_headers_count)
    nginx.fields = ffi.cast(nginx.fields, C.ngx_http_lua_ffi_req_get_headers)
    nginx.response_field = ffi.cast(nginx.response_field, C.ngx_http_lua_ffi_get_resp_header)
end


-- Whether the variable has a value: then it is in value[0], value_bytes[0].
local function find_var(r, name)
    -- The name goes into `lowercase`, in lower case.
    local n = #name
    return n <= 256 and C.ngx_http_lua_ffi_var_get(r, name, n, lowercase, 0, value, value_bytes,
                                                   errmsg) == 0
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


-- text: nil for nginx's own.
local function set_text(to, text)
    to.data, to.bytes = text, text and #text or 0
end


-- The texts `uri` and `args`, where they are not nginx's.
local function set_uri(uri)
    local query = find(uri, "?", 1, true)
    head.flags = bor(head.flags, REWRITTEN)
    head.uri.data, head.uri.bytes = uri, query and query - 1 or #uri
    head.args.data, head.args.bytes = nil, 0
    if query then
        head.args.data, head.args.bytes = head.uri.data + query, #uri - query
    end
end


local function put_head()
    local bytes = lib.rts_head_put(head, buffer, size)
    if bytes > size then
        use_buffer(2 * bytes)
        bytes = lib.rts_head_put(head, buffer, size)
    end
    return bytes
end


-- Builds the head of a call into `view`. state: the request's; flags: LAST, CONTINUES.
function _M.build(phase, state, flags, token)
    if not lib then
        init()
    end
    local r = get_request()
    if not state.flags then
        describe(r, state)
    end
    head.phase, head.version, head.flags = phase, state.version, bor(state.flags, flags)
    head.token, head.id, head.status = token, state.id, ngx.status
    if band(flags, CONTINUES) ~= 0 then
        head.request = nil
        view[2] = put_head()
        return
    end
    head.request, head.response = r, response_list(r)
    head.is_known = RESPONSE_PHASES[phase] and 1 or 0
    set_text(head.target, state.target)
    set_text(head.original, state.original_target)
    local uri = state.gateway.uri and state.gateway.uri(state)
    if uri then
        set_uri(uri)
    else
        head.uri.data = nil
    end
    local restores = state.knows_coding and BODY_PHASES[phase] and use_coding(r, state)
    local bytes = put_head()
    if restores then
        restore_coding(state)
    end
    local err = HEAD_ERRORS[bytes]
    if err == 431 then
        return ngx.exit(err)
    elseif err then
        error(err, 0)
    end
    view[2] = bytes
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
