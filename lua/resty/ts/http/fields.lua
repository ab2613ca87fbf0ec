-- Fields in nginx's own lists: read in their order, and changed where lua-nginx-module cannot.
--
-- Runs on the Lua side. Invariant: a list's memory is written only where a field was found by its
-- name. The module (0.10.23 to 0.10.31 at least) makes "_" in the names of responses a "-", deletes
-- what is set to "", escapes control characters, keeps one WWW-Authenticate, and of the fields that
-- nginx has in places of their own changes one line when there are several.

local base = require "resty.core.base"
local ffi = require "ffi"
local native = require "resty.ts.native"
local set_response = require("resty.core.response").set_resp_header

local C = ffi.C
local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local get_request = base.get_request
local errmsg = base.get_errmsg_ptr()
local ffi_str = ffi.string
local get_headers = ngx.req.get_headers
local get_phase = ngx.get_phase
local header = ngx.header
local error = error
local ipairs = ipairs
local next = next
local ngx = ngx
local type = type
local find, lower, gsub, rep = string.find, string.lower, string.gsub, string.rep

-- As many as the head can count.
local MOST_FIELDS = 65535
local MOST_VALUES = 100
local ELSEWHERE = {
    ["content-type"] = true, ["content-length"] = true, ["last-modified"] = true,
}
local REQUEST_FIELD, RESPONSE_FIELD, APPEND_REQUEST_FIELD = 1, 5, 22
local CODING = "Content-Encoding"
-- A value that the module sets as it is.
local PLAIN = "^[\t -~\128-\255]+$"

local bytes_ptr = ffi.typeof("uint8_t *")
local list_ptr = ffi.typeof("const rts_nginx_list_t *")
local LIST_BYTES = ffi.sizeof("rts_nginx_list_t")
local values = ffi.new("ngx_http_lua_ffi_str_t[?]", MOST_VALUES)
local key_buf = ffi.new("unsigned char[256]")

local lib
-- Where the lists are, in bytes from nginx's request; the response's is sure once `checked`.
local request_at, response_at, checked

local _M = {}


-- Whether a field of the list is one that the module gives of the response, too. Nil: who knows.
local function is_response(r, list)
    local part = list.part
    while part.n == 0 and part.next ~= nil do
        part = part.next
    end
    local field = ffi_cast("const rts_nginx_field_t *", part.first)
    if part.n == 0 or field.hash == 0 then
        return nil
    end
    local name = ffi_str(field.name.data, field.name.bytes)
    if ELSEWHERE[lower(name)] or find(name, "_", 1, true) then
        return nil -- another one than the list's, perhaps
    end
    local n = C.ngx_http_lua_ffi_get_resp_header(r, name, #name, key_buf, values, MOST_VALUES,
                                                 errmsg)
    for i = 0, n - 1 do
        if values[i].data == field.value.data then
            return true
        end
    end
    return false
end


-- Returns where the response's list is.
local function find_lists(r)
    lib = lib or native.load()
    local first = lib.rts_find_list(r, 0)
    local second = lib.rts_find_list(r, first + LIST_BYTES)
    if first == 0 or second == 0 then
        error("fields of the request: not found in this build of nginx", 0)
    end
    -- The third has trailers. A request whose first line is malformed has no list of its own.
    if lib.rts_find_list(r, second + LIST_BYTES) == 0 then
        return first
    end
    request_at, response_at = first, second
    return second
end


local function list_at(r, offset)
    return ffi_cast(list_ptr, ffi_cast(bytes_ptr, r) + offset)
end


local function check(r, list)
    checked = is_response(r, list)
    if checked == false then
        error("fields of the response: not found in this build of nginx", 0)
    end
end


-- The list of the response's fields.
local function response_list(r)
    local list = list_at(r, response_at or find_lists(r))
    if not checked then
        check(r, list)
    end
    return list
end

_M.response_list = response_list


-- The Content-Encoding that is sent; NULL: there is none.
local function coding_of(r)
    local list = response_list(r)
    return lib.rts_next_listed(list, CODING, #CODING, nil, 0)
end


-- Notes which Content-Encoding the body has that Lua's filters get.
function _M.note_coding(state)
    state.coding_field = coding_of(get_request())
    state.knows_coding = true
end


-- Has the response's list say it until restore_coding, in place of what nginx's gzip and gunzip,
-- which come after Lua's filters, make of it. Returns whether there was anything to do.
function _M.use_coding(r, state)
    local sent, noted = coding_of(r), state.coding_field
    if sent == noted then
        return false
    end
    state.sent_coding = sent
    if sent ~= nil then
        state.sent_hash = sent.hash
        sent.hash = 0
    end
    if noted ~= nil then
        noted.hash = 1
    end
    return true
end


function _M.restore_coding(state)
    local sent, noted = state.sent_coding, state.coding_field
    if noted ~= nil then
        noted.hash = 0
    end
    if sent ~= nil then
        sent.hash = state.sent_hash
    end
end


-- Appends a response's field, whatever it is. Its name, and its value when it needs that, are
-- written in place of others that the module takes as they are.
local function push(list, name, value)
    local stand_in = gsub(name, "[-_]", "~")
    set_response(nil, stand_in, rep("~", #value > 0 and #value or 1), true)
    local field
    local found = lib.rts_next_listed(list, stand_in, #name, nil, 0)
    while found ~= nil do
        field = found
        found = lib.rts_next_listed(list, stand_in, #name, field, 0)
    end
    if not field then
        error("the field " .. name .. " cannot be set: the response's header is sent", 0)
    end
    ffi_copy(field.name.data, name, #name)
    ffi_copy(field.value.data, value, #value)
    field.value.bytes = #value
end


-- The module sets what is as long, and then it gets its bytes.
local function write_request(state, what, name, all)
    local stand_ins = {}
    for i = 1, #all do
        stand_ins[i] = rep("~", #all[i] > 0 and #all[i] or 1)
    end
    if what == REQUEST_FIELD then
        state.gateway.set_request_header(state, name, stand_ins)
    else
        state.gateway.add_request_header(state, name, stand_ins[1])
    end
    local r = get_request()
    if not request_at then
        find_lists(r)
    end
    local list, found = list_at(r, request_at), {}
    local field = lib.rts_next_listed(list, name, #name, nil, 1)
    while field ~= nil do
        found[#found + 1] = field
        field = lib.rts_next_listed(list, name, #name, field, 1)
    end
    local before = #found - #all
    if before < 0 then
        return -- HTTP/0.9 has no fields
    end
    for i = 1, #all do
        field = found[before + i]
        ffi_copy(field.value.data, all[i], #all[i])
        field.value.bytes = #all[i]
    end
end


-- A plugin has set or deleted a response's field. What is added of the name before the response is
-- known is left out then (override). kept: how many fields are the plugin's, 0: none; of one that
-- nginx has elsewhere the value.
local function note(state, name, kept)
    if get_phase() == "header_filter" then
        return
    end
    local overrides = state.overrides
    if overrides then
        overrides[lower(name)] = kept
    else
        state.overrides = { [lower(name)] = kept }
    end
end


-- The same when a field was added: so many stay where it has been set or deleted.
local function note_added(state, name)
    local overrides = state.overrides
    local key = overrides and lower(name)
    if key and overrides[key] then
        local list = response_list(get_request()) -- loads `lib`
        overrides[key] = lib.rts_drop_listed(list, name, #name, MOST_FIELDS)
    end
end


-- The change 5. value: a string, an array of strings, or nil.
function _M.set_response(state, name, value)
    if value == nil then
        return _M.delete_response(state, name)
    end
    header[name] = value
    if type(value) == "table" then
        note(state, name, #value)
    else
        note(state, name, ELSEWHERE[lower(name)] and value or 1)
    end
end


-- Removes the response's fields of this name, all of them.
function _M.remove_response(name)
    -- nginx adds some of its own to a response unless the module says no to them.
    if not find(name, "_", 1, true) then
        header[name] = nil
    end
    local list = response_list(get_request()) -- loads `lib`
    lib.rts_drop_listed(list, name, #name, 0)
end

local remove_response = _M.remove_response


function _M.delete_response(state, name)
    remove_response(name)
    note(state, name, 0)
end


-- The change 16.
function _M.append_response(state, name, value)
    set_response(nil, name, value, true)
    note_added(state, name)
end


-- The change 20. what: the change that it is instead of. all: strings.
function _M.write(state, what, name, all)
    if what == REQUEST_FIELD or what == APPEND_REQUEST_FIELD then
        return write_request(state, what, name, all)
    end
    local list = response_list(get_request())
    if what == RESPONSE_FIELD then
        remove_response(name)
    end
    for i = 1, #all do
        push(list, name, all[i])
    end
    if what == RESPONSE_FIELD then
        note(state, name, #all)
    else
        note_added(state, name)
    end
end


-- The values of a response's field, as an array.
local function response_values(name)
    local all = {}
    if ELSEWHERE[lower(name)] then
        all[1] = header[name]
        return all
    end
    local list = response_list(get_request())
    local field = lib.rts_next_listed(list, name, #name, nil, 0)
    while field ~= nil do
        all[#all + 1] = ffi_str(field.value.data, field.value.bytes)
        field = lib.rts_next_listed(list, name, #name, field, 0)
    end
    return all
end


-- Returns a function that sets a response's field to what it is now.
function _M.save_response(state, name)
    local all = response_values(name)
    local kept = state.overrides and state.overrides[lower(name)]
    return function()
        if ELSEWHERE[lower(name)] then
            header[name] = all[1]
        else
            header[name] = nil
            _M.write(state, RESPONSE_FIELD, name, all)
        end
        if state.overrides then
            state.overrides[lower(name)] = kept
        end
    end
end


-- The same of a request's field. Of several spellings of its name the first is kept.
function _M.save_request(state, name)
    local all, spelt = {}, nil
    for key, value in next, get_headers(0, true) do
        if lower(key) == lower(name) then
            spelt = spelt or key
            for _, one in ipairs(type(value) == "table" and value or { value }) do
                all[#all + 1] = one == true and "" or one
            end
        end
    end
    return function()
        state.gateway.set_request_header(state, name, nil)
        if spelt then
            write_request(state, REQUEST_FIELD, spelt, all)
        end
    end
end


-- Leaves the first fields of this name in the response. One that is to be alone is set anew: nginx
-- and its Lua module have a pointer to some, which may be to any of several.
local function keep_first(name, kept)
    local list = response_list(get_request())
    if kept == 1 then
        local field = lib.rts_next_listed(list, name, #name, nil, 0)
        if field == nil or lib.rts_next_listed(list, name, #name, field, 0) == nil then
            return
        end
        local spelt = ffi_str(field.name.data, field.name.bytes)
        local value = ffi_str(field.value.data, field.value.bytes)
        if not find(name, "_", 1, true) and find(value, PLAIN) then
            remove_response(name)
            header[spelt] = value
            return
        end
    end
    lib.rts_drop_listed(list, name, #name, kept)
end


-- The response is known: what was added to fields since plugins have set or deleted them goes.
function _M.override(state)
    for name, kept in next, state.overrides do
        if kept == 0 then
            remove_response(name)
        elseif type(kept) == "number" then
            keep_first(name, kept)
        elseif ngx.var["upstream_http_" .. gsub(name, "-", "_")] then
            remove_response(name)
            header[name] = kept
        end
    end
    state.overrides = nil
end


-- The names of those of which more was sent than plugins have set, as override was not called.
function _M.not_overridden(state)
    local names = {}
    for name, kept in next, state.overrides do
        local all = response_values(name)
        local more = all[1] ~= kept
        if type(kept) == "number" then
            more = #all > kept
        end
        if more then
            names[#names + 1] = name
        end
    end
    return names
end


return _M
