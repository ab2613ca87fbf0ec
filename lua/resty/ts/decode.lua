-- MessagePack to Lua values (docs/wire-format.md).
--
-- Runs on the Lua side. Invariant: nothing outside of the given bytes is read, and neither depth
-- nor memory goes beyond the limits, whatever is in them, also when the host changes them
-- meanwhile: each byte is read once. What is not well formed gives nil and a reason, and is the
-- same that src/host/decode.ts refuses (test/fuzz compares the two).

local ffi = require "ffi"
local bit = require "bit"
local values = require "resty.ts.values"
local wire = require "resty.ts.wire"

local ffi_new = ffi.new
local ffi_str = ffi.string
local ffi_cast = ffi.cast
local bswap = bit.bswap
local band = bit.band
local setmetatable = setmetatable
local error = error
-- Lua's own, below nginx's: who decodes does not sleep.
-- luacheck: push ignore 143
local co_create = coroutine._create or coroutine.create
local co_resume = coroutine._resume or coroutine.resume
local co_yield = coroutine._yield or coroutine.yield
local co_status = coroutine._status or coroutine.status
-- luacheck: pop

-- Elements of one step of a large value; so many bytes of a string count as one.
local STEP = 4096
local ELEMENT_BYTES = 64

local MAX_DEPTH = wire.MAX_DEPTH
local MAX_ELEMENTS = wire.MAX_ELEMENTS
local array_mt = values.array_mt
local bytes_mt = values.bytes_mt
local null = values.null
local number_bits = ffi_new("union { double number; int64_t i64; uint64_t u64; uint32_t half[2]; }")
local u32_ptr = ffi.typeof("const uint32_t *")
local i64_box = ffi.typeof("int64_t")
local u64_box = ffi.typeof("uint64_t")

local _M = {}

-- LuaJIT takes a double from memory as it is, and its own values of other types are NaNs of other
-- bits: one of the host's choice would be a pointer of its choice. So every NaN is this one.
local NAN = 0 / 0

local base, pos, limit
local elements_left
local left_of_step = 1 / 0
local failed -- the first thing that was wrong, or nil


local function fail(what)
    failed = failed or what
    return nil
end


local function has(n)
    if pos + n > limit then
        fail("a value ends before its last byte")
        return false
    end
    return true
end


local function u16()
    local n = base[pos] * 256 + base[pos + 1]
    pos = pos + 2
    return n
end


local function u32()
    local n = bswap(ffi_cast(u32_ptr, base + pos)[0])
    pos = pos + 4
    return n < 0 and n + 4294967296 or n
end


local function load_64()
    number_bits.half[1] = bswap(ffi_cast(u32_ptr, base + pos)[0])
    number_bits.half[0] = bswap(ffi_cast(u32_ptr, base + pos + 4)[0])
    pos = pos + 8
end


local function get_string(n)
    if not has(n) then
        return nil
    end
    local s = ffi_str(base + pos, n)
    pos = pos + n
    left_of_step = left_of_step - n / ELEMENT_BYTES
    return s
end


local function get_bytes(n)
    local s = get_string(n)
    if not s then
        return nil
    end
    local bytes = { s }
    setmetatable(bytes, bytes_mt)
    return bytes
end


local get


-- Ends a step: other values may be decoded before the next one.
local function pause()
    local b, p, l, e = base, pos, limit, elements_left
    co_yield()
    base, pos, limit, elements_left, failed = b, p, l, e, nil
end


local function count_element()
    left_of_step = left_of_step - 1
    if left_of_step < 0 then
        pause()
    end
end


-- An array or map begins. Each element takes a byte at least: a count that lies makes no work.
local function enter(elements, depth)
    if depth >= MAX_DEPTH then
        fail("nesting deeper than " .. MAX_DEPTH)
        return false
    end
    if not has(elements) then
        return false
    end
    elements_left = elements_left - elements
    if elements_left < 0 then
        fail("more than " .. MAX_ELEMENTS .. " elements")
        return false
    end
    return true
end


-- Returns false when there is no such value.
local function get_element(t, i, depth)
    count_element()
    local v = get(depth + 1)
    if v == nil then
        if failed then
            return false
        end
        v = null
    end
    t[i] = v
    return true
end


local function get_array(n, depth)
    if not enter(n, depth) then
        return nil
    end
    local t = {}
    -- The first ones in no loop, which would end a trace that comes to it: few arrays are longer.
    if n > 0 and not get_element(t, 1, depth) or n > 1 and not get_element(t, 2, depth)
       or n > 2 and not get_element(t, 3, depth) or n > 3 and not get_element(t, 4, depth)
       or n > 4 and not get_element(t, 5, depth) or n > 5 and not get_element(t, 6, depth)
    then
        return nil
    end
    for i = 7, n do
        if not get_element(t, i, depth) then
            return nil
        end
    end
    setmetatable(t, array_mt) -- no tail call: LuaJIT does not compile the return from one
    return t
end


local function get_key()
    if not has(1) then
        return nil
    end
    local code = base[pos]
    pos = pos + 1
    if code >= 0xa0 and code < 0xc0 then
        return get_string(band(code, 31))
    elseif code == 0xd9 then
        if has(1) then
            pos = pos + 1
            return get_string(base[pos - 1])
        end
    elseif code == 0xda then
        return has(2) and get_string(u16()) or nil
    elseif code == 0xdb then
        return has(4) and get_string(u32()) or nil
    end
    return fail("a key that is no string")
end


local function get_map(n, depth)
    if not enter(2 * n, depth) then
        return nil
    end
    local t = {}
    for _ = 1, n do
        count_element()
        local key = get_key()
        if not key then
            return nil
        end
        local v = get(depth + 1)
        if v == nil then
            if failed then
                return nil
            end
            v = null
        end
        t[key] = v
    end
    return t
end


-- Integers and the wide forms; what get() does not handle itself.
local function get_rare(code, depth)
    if code == 0xd9 then
        if has(1) then
            pos = pos + 1
            return get_string(base[pos - 1])
        end
    elseif code == 0xda then
        return has(2) and get_string(u16()) or nil
    elseif code == 0xdb then
        return has(4) and get_string(u32()) or nil
    elseif code == 0xc4 then
        if has(1) then
            pos = pos + 1
            return get_bytes(base[pos - 1])
        end
    elseif code == 0xc5 then
        return has(2) and get_bytes(u16()) or nil
    elseif code == 0xc6 then
        return has(4) and get_bytes(u32()) or nil
    elseif code == 0xdc then
        return has(2) and get_array(u16(), depth) or nil
    elseif code == 0xdd then
        return has(4) and get_array(u32(), depth) or nil
    elseif code == 0xde then
        return has(2) and get_map(u16(), depth) or nil
    elseif code == 0xdf then
        return has(4) and get_map(u32(), depth) or nil
    elseif code == 0xd3 then
        if has(8) then
            load_64()
            return i64_box(number_bits.i64)
        end
    elseif code == 0xcf then
        if has(8) then
            load_64()
            return u64_box(number_bits.u64)
        end
    elseif code >= 0xe0 then
        return code - 256
    elseif code == 0xcc then
        if has(1) then
            pos = pos + 1
            return base[pos - 1]
        end
    elseif code == 0xcd then
        return has(2) and u16() or nil
    elseif code == 0xce then
        return has(4) and u32() or nil
    elseif code == 0xd0 then
        if has(1) then
            pos = pos + 1
            local n = base[pos - 1]
            return n < 128 and n or n - 256
        end
    elseif code == 0xd1 then
        if has(2) then
            local n = u16()
            return n < 32768 and n or n - 65536
        end
    elseif code == 0xd2 then
        if has(4) then
            local n = u32()
            return n < 2147483648 and n or n - 4294967296
        end
    else
        return fail("a MessagePack code that is not used here: " .. code)
    end
    return nil
end


function get(depth)
    if pos >= limit then
        return fail("a value is missing")
    end
    local code = base[pos]
    pos = pos + 1
    if code < 0x80 then
        return code
    end
    if code == 0xcb then
        if not has(8) then
            return nil
        end
        load_64()
        local high = number_bits.half[1]
        if band(high, 0x7ff00000) == 0x7ff00000 and band(high, 0xfffff) + number_bits.half[0] ~= 0
        then
            return NAN
        end
        return number_bits.number
    end
    if code >= 0xa0 and code < 0xc0 then
        return get_string(band(code, 31))
    end
    if code == 0xc0 then
        return nil
    end
    if code == 0xc3 then
        return true
    end
    if code == 0xc2 then
        return false
    end
    if code < 0x90 then
        return get_map(band(code, 15), depth)
    end
    if code < 0xa0 then
        return get_array(band(code, 15), depth)
    end
    return get_rare(code, depth)
end


-- Decodes the one value in bytes[at] .. bytes[at + length - 1].
-- Returns it (null at the top is nil), or nil and what is wrong.
function _M.decode(bytes, at, length)
    base, pos, limit = bytes, at, at + length
    failed = nil
    elements_left = MAX_ELEMENTS
    local value = get(0)
    if failed then
        return nil, failed
    end
    if pos ~= limit then
        return nil, "bytes after the value"
    end
    return value
end


-- The same in steps. bytes must stay as they are until the last one.
function _M.begin(bytes, at, length)
    local co = co_create(_M.decode)
    return { co = co, bytes = bytes, at = at, length = length }
end


-- Goes on with what `begin` returned. Returns whether that was the last step, and then what decode
-- returns.
function _M.step(decoding)
    left_of_step = STEP
    local ok, value, err = co_resume(decoding.co, decoding.bytes, decoding.at, decoding.length)
    left_of_step = 1 / 0
    if not ok then
        error(value, 0)
    end
    return co_status(decoding.co) == "dead", value, err
end


return _M
