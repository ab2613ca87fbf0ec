-- Sets the request's path and query, spelt as the upstream is to get them.
--
-- ngx.req.set_uri takes the decoded path, which nginx escapes again: %2F becomes "/". What the
-- client sent goes on as it is while nginx's valid_unparsed_uri is set, and no API sets that bit or
-- unparsed_uri. To be removed when lua-nginx-module has one.
--
-- Runs on the Lua side; nothing here yields. Invariant: nginx's memory is written only where it was
-- seen to hold what the variables say, and the bit only where ngx.req.set_uri_args was seen to
-- clear it.

local base = require "resty.core.base"
local bit = require "bit"
local ffi = require "ffi"
require "resty.core.var"

local C = ffi.C
local ffi_cast = ffi.cast
local ffi_new = ffi.new
local get_request = base.get_request
local errmsg = base.get_errmsg_ptr()
local band, bor, bxor = bit.band, bit.bor, bit.bxor
local ngx = ngx
local ngx_req = ngx.req
local error = error
local match, gsub = string.match, string.gsub

local words_ptr = ffi.typeof("uintptr_t *")
local word = ffi.typeof("uintptr_t")
local flags_ptr = ffi.typeof("int32_t *")

-- Of ngx_http_request_t, in words from uri on: uri, args, exten, unparsed_uri.
local ARGS, TARGET, BEHIND = 2, 6, 8
-- `uri` lies before this word of it.
local MOST_WORDS = 160
-- The bits lie in so many 32-bit words behind unparsed_uri.
local MOST_FLAGS = 80

local text = ffi_new("unsigned char *[1]")
local text_bytes = ffi_new("size_t[1]")
local lowercase = ffi_new("unsigned char[16]")

local _M = {
    -- Whether a request's unparsed_uri, and so ngx.var.request_uri, may not be the client's.
    was_spelt = false,
}

local place -- of uri in the request, in words; false: not found
local flag_at, flag -- valid_unparsed_uri: the 32-bit word behind unparsed_uri, and the bit


-- Whether the two words are nginx's string that the variable has.
local function holds(r, at, name)
    if C.ngx_http_lua_ffi_var_get(r, name, #name, lowercase, 0, text, text_bytes, errmsg) ~= 0 then
        return at[0] == 0
    end
    return at[0] == text_bytes[0] and (at[0] == 0 or at[1] == ffi_cast(word, text[0]))
end


local function find_place(r)
    local words = ffi_cast(words_ptr, r)
    for i = 0, MOST_WORDS do
        if holds(r, words + i, "uri") and holds(r, words + i + ARGS, "args")
            and holds(r, words + i + TARGET, "request_uri")
        then
            return i
        end
    end
    return false
end


local function find_flag(uri)
    local flags = ffi_cast(flags_ptr, uri + BEHIND)
    local before = {}
    for i = 0, MOST_FLAGS do
        before[i] = flags[i]
    end
    local bytes, data = uri[ARGS], uri[ARGS + 1]
    ngx_req.set_uri_args("")
    uri[ARGS], uri[ARGS + 1] = bytes, data
    local found
    for i = 0, MOST_FLAGS do
        if flags[i] ~= before[i] then
            if found then
                return nil
            end
            found = i
        end
    end
    if not found then
        return nil
    end
    local changed = bxor(flags[found], before[found])
    if band(changed, changed - 1) ~= 0 or band(changed, before[found]) == 0 then
        return nil
    end
    flags[found] = before[found]
    return found, changed
end


-- Returns where the request has uri, args, exten and unparsed_uri; or nil.
local function locate(r)
    if place == nil then
        place = find_place(r)
    end
    if not place then
        return nil
    end
    local uri = ffi_cast(words_ptr, r) + place
    if not holds(r, uri, "uri") or not holds(r, uri + ARGS, "args") then
        return nil
    end
    if not flag then
        flag_at, flag = find_flag(uri)
    end
    return flag and uri
end


-- path: as $uri, or nil: it stays. args: string. spelt: path and query as the upstream is to get
-- them; nil or false: nginx's own spelling is the same.
function _M.set(path, args, spelt)
    local uri
    if spelt or not flag then
        -- Before the first change of a request: the APIs below clear the bit.
        uri = locate(get_request())
        if spelt and not uri then
            error("nginx cannot send " .. spelt .. " as it is spelt, only its decoded path " ..
                  "escaped again: it, or Lua code, has changed the URI", 0)
        end
    end
    if path then
        ngx_req.set_uri(path, false, true)
    end
    if spelt then
        ngx_req.set_uri_args(spelt) -- for its copy, which lives as long as the request
        uri[TARGET], uri[TARGET + 1] = uri[ARGS], uri[ARGS + 1]
        _M.was_spelt = true
    end
    ngx_req.set_uri_args(args)
    if spelt then
        local flags = ffi_cast(flags_ptr, uri + BEHIND)
        flags[flag_at] = bor(flags[flag_at], flag)
    end
end


-- Returns a function that sets the target to what it is now.
function _M.save()
    local path, args = ngx.var.uri, ngx.var.args
    local uri = locate(get_request())
    local bytes, data, is_valid
    if uri then
        bytes, data = uri[TARGET], uri[TARGET + 1]
        is_valid = band(ffi_cast(flags_ptr, uri + BEHIND)[flag_at], flag) ~= 0
    end
    return function()
        _M.set(path, args or "", false)
        if uri then
            uri[TARGET], uri[TARGET + 1] = bytes, data
        end
        if is_valid then
            local flags = ffi_cast(flags_ptr, uri + BEHIND)
            flags[flag_at] = bor(flags[flag_at], flag)
        end
    end
end


-- What the client sent, from the request line: after an internal redirect nothing else has it.
function _M.original()
    local target = match(ngx.var.request, "^%S+ +(%S+)") or "/"
    return (gsub(target, "^%a[%w+.-]*://[^/?]*", ""))
end


return _M
