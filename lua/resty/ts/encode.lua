-- Lua values to MessagePack (docs/wire-format.md), straight into the ring.
--
-- Runs on the Lua side; never yields between begin and finish, and so calls no metamethod.
-- Invariant: writes only between `pos` and `limit` of the target that begin was given; what needs
-- more goes on in a buffer, into which the beginning is copied. Large strings are not copied at all
-- where the caller of begin takes pieces. A value that cannot be carried is an error that says what
-- it is and where.

local ffi = require "ffi"
local bit = require "bit"
local buffers = require "resty.ts.buffers"
local values = require "resty.ts.values"
local wire = require "resty.ts.wire"

local ffi_new = ffi.new
local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local ffi_istype = ffi.istype
local bswap = bit.bswap
local rshift = bit.rshift
local type = type
local next = next
local rawget = rawget
local getmetatable = getmetatable
local tostring = tostring
local math_floor = math.floor

-- A string of so many bytes is a piece of its own.
local PIECE_BYTES = 262144

local MAX_DEPTH = wire.MAX_DEPTH
local HOLES = "an array with holes or other keys (use ts.null for null)"
local nkeys = values.nkeys
local array_mt = values.array_mt
local bytes_mt = values.bytes_mt
local view_mt = values.view_mt
local packed_mt = values.packed_mt
local null = values.null
local int64_t = ffi.typeof("int64_t")
local uint64_t = ffi.typeof("uint64_t")
local number_bits = ffi_new("union { double number; uint64_t u64; uint32_t half[2]; }")
local u32_ptr = ffi.typeof("uint32_t *")
local u16_ptr = ffi.typeof("uint16_t *")

local _M = {}

local utf8_valid    -- libresty_ts.so's
local base          -- uint8_t *: the ring, or a buffer
local pos           -- next byte to write
local limit         -- first byte that may not be written
local start         -- where the message began in the ring
local spilled       -- whether base is a buffer
local max_bytes     -- of one message
local in_pieces     -- whether large strings are left where they are
local pieces        -- nil, or a list of them: { at, string, length }, at: where in the buffer
local piece_bytes   -- of all of them


function _M.init(lib, max_message_bytes)
    utf8_valid = lib.rts_utf8_valid
    max_bytes = max_message_bytes
end


-- Moves to a (larger) buffer so that n more bytes fit. Returns an error text when that is too many.
local function spill(n)
    local from = spilled and 0 or start
    local used = pos - from
    if used + n + piece_bytes > max_bytes then
        return "more than max_message_bytes (" .. max_bytes .. ") in one message"
    end
    local bigger, size = buffers.take((used + n) * 2)
    ffi_copy(bigger, base + from, used)
    if spilled then
        buffers.give(base, limit)
    end
    spilled = true
    base = bigger
    pos = used
    limit = size
    return nil
end


-- A header of one byte and a big-endian size: 8, 16 or 32 bits by the codes given.
local function put_header(n, code8, code16, code32)
    if n < 256 and code8 then
        base[pos] = code8
        base[pos + 1] = n
        pos = pos + 2
    elseif n < 65536 then
        base[pos] = code16
        ffi_cast(u16_ptr, base + pos + 1)[0] = rshift(bswap(n), 16)
        pos = pos + 3
    else
        base[pos] = code32
        ffi_cast(u32_ptr, base + pos + 1)[0] = bswap(n)
        pos = pos + 5
    end
end


-- The header is there: the string itself is taken from where it is.
local function put_piece(s, n)
    pieces = pieces or {}
    pieces[#pieces + 1] = { at = pos - (spilled and 0 or start), string = s, length = n }
    piece_bytes = piece_bytes + n
end


-- Makes room for the header and for the n bytes of a string, unless they will be a piece.
local function make_room(n)
    if in_pieces and n >= PIECE_BYTES then
        if piece_bytes + n > max_bytes then
            return spill(n)
        end
        n = 0
    end
    return pos + n + 5 > limit and spill(n + 5) or nil
end


local function put_string(s)
    local n = #s
    if pos + n + 5 > limit then
        local err = make_room(n)
        if err then
            return err, "", "too_large"
        end
    end
    if utf8_valid(s, n) == 0 then
        return "a string that is not UTF-8 (send ts.bytes(s) for bytes)"
    end
    if n < 32 then
        base[pos] = 0xa0 + n
        pos = pos + 1
    else
        put_header(n, 0xd9, 0xda, 0xdb)
    end
    if in_pieces and n >= PIECE_BYTES then
        put_piece(s, n)
        return nil
    end
    ffi_copy(base + pos, s, n)
    pos = pos + n
    return nil
end


local function put_bytes(s)
    if type(s) ~= "string" then
        return "ts.bytes of a " .. type(s)
    end
    local n = #s
    if pos + n + 5 > limit then
        local err = make_room(n)
        if err then
            return err, "", "too_large"
        end
    end
    put_header(n, 0xc4, 0xc5, 0xc6)
    if in_pieces and n >= PIECE_BYTES then
        put_piece(s, n)
        return nil
    end
    ffi_copy(base + pos, s, n)
    pos = pos + n
    return nil
end


-- v: a view, or packed values.
local function put_elsewhere(v, packed)
    local n = v[2]
    if pos + n + 5 > limit then
        local err = spill(n + 5)
        if err then
            return err, "", "too_large"
        end
    end
    if not packed then
        put_header(n, 0xc4, 0xc5, 0xc6)
    end
    ffi_copy(base + pos, v[1], n)
    pos = pos + n
    return nil
end


local function put_64(code, half0, half1)
    base[pos] = code
    ffi_cast(u32_ptr, base + pos + 1)[0] = bswap(half1)
    ffi_cast(u32_ptr, base + pos + 5)[0] = bswap(half0)
    pos = pos + 9
end


-- The caller has made room for 9 bytes. A number is an integer here only when no double differs:
-- −0 is not.
local function put_number(v)
    if v >= 0 and v < 128 and math_floor(v) == v and (v ~= 0 or 1 / v > 0) then
        base[pos] = v
        pos = pos + 1
    elseif v >= 128 and v < 4294967296 and math_floor(v) == v then
        base[pos] = 0xce
        ffi_cast(u32_ptr, base + pos + 1)[0] = bswap(v)
        pos = pos + 5
    else
        number_bits.number = v
        put_64(0xcb, number_bits.half[0], number_bits.half[1])
    end
end


local function put_cdata(v)
    if ffi_istype(int64_t, v) then
        number_bits.u64 = ffi_cast(uint64_t, v)
        put_64(0xd3, number_bits.half[0], number_bits.half[1])
        return nil
    end
    if ffi_istype(uint64_t, v) then
        number_bits.u64 = v
        put_64(0xcf, number_bits.half[0], number_bits.half[1])
        return nil
    end
    if v == nil then -- a NULL pointer
        base[pos] = 0xc0
        pos = pos + 1
        return nil
    end
    return "a cdata (" .. tostring(ffi.typeof(v)) .. ")"
end


local put_table


-- Appends one value. Returns nil; or what cannot be carried, its path, and the error's code when
-- it is not bad_argument.
local function put(v, depth)
    if pos + 9 > limit then
        local err = spill(9)
        if err then
            return err, "", "too_large"
        end
    end
    local t = type(v)
    if t == "string" then
        return put_string(v)
    end
    if t == "number" then
        put_number(v)
        return nil
    end
    if t == "boolean" then
        base[pos] = v and 0xc3 or 0xc2
        pos = pos + 1
        return nil
    end
    if t == "table" then
        return put_table(v, depth)
    end
    if t == "nil" or v == null then
        base[pos] = 0xc0
        pos = pos + 1
        return nil
    end
    if t == "cdata" then
        return put_cdata(v)
    end
    return "a " .. t
end


local function put_array(t, n, depth)
    if n < 16 then
        base[pos] = 0x90 + n
        pos = pos + 1
    else
        put_header(n, nil, 0xdc, 0xdd)
    end
    for i = 1, n do
        local v = rawget(t, i)
        if type(v) == "nil" then -- as many other keys as holes: #t and the count were the same
            return HOLES
        end
        local what, path, code = put(v, depth + 1)
        if what then
            return what, "[" .. i .. "]" .. (path or ""), code
        end
    end
    return nil
end


local function put_map(t, n, depth)
    if n < 16 then
        base[pos] = 0x80 + n
        pos = pos + 1
    else
        put_header(n, nil, 0xde, 0xdf)
    end
    for key, value in next, t do
        if type(key) ~= "string" then
            return "a table that is neither an array without holes nor a map with string keys"
        end
        if key == "__proto__" then
            return "the key __proto__, which JavaScript would not take as a key"
        end
        local what, path, code = put_string(key)
        if what then
            return "the key: " .. what, path, code
        end
        what, path, code = put(value, depth + 1)
        if what then
            return what, "." .. key .. (path or ""), code
        end
    end
    return nil
end


function put_table(t, depth)
    local mt = getmetatable(t)
    if mt == bytes_mt then
        return put_bytes(t[1])
    end
    if mt == view_mt or mt == packed_mt then
        return put_elsewhere(t, mt == packed_mt)
    end
    if depth >= MAX_DEPTH then
        return "nesting deeper than " .. MAX_DEPTH .. ", or a cycle"
    end
    local n = nkeys(t)
    local length = #t
    if length == n and (n > 0 or mt == array_mt) then
        return put_array(t, n, depth)
    end
    if mt == array_mt then
        return HOLES
    end
    return put_map(t, n, depth)
end


-- Begins a message at target[at], of which bytes up to `stop` may be written.
-- takes_pieces: whether large strings may be left where they are, and come from `finish`.
function _M.begin(target, at, stop, takes_pieces)
    base = target
    pos = at
    start = at
    limit = stop
    spilled = false
    in_pieces, pieces, piece_bytes = takes_pieces, nil, 0
end


local function put_argument(v, i)
    local what, path, code = put(v, 0)
    if what then
        return what .. " (argument " .. i .. (path or "") .. ")", code or "bad_argument"
    end
    return nil
end


local function put_more(more, n)
    for i = 5, n do
        local what, code = put_argument(more[i - 4], i)
        if what then
            return what, code
        end
    end
    return nil
end


-- Appends an array of the n arguments. Up to four are passed on the stack, the rest in a table.
-- Returns nil; or what is wrong, and the code.
function _M.arguments(n, a, b, c, d, more)
    if pos + 3 > limit then
        spill(3)
    end
    if n < 16 then
        base[pos] = 0x90 + n
        pos = pos + 1
    elseif n < 65536 then
        put_header(n, nil, 0xdc, 0xdd)
    else
        return "more than 65535 arguments"
    end
    -- No loop where one can be avoided: what calls this then compiles as one trace.
    local what, code
    if n > 0 then
        what, code = put_argument(a, 1)
    end
    if n > 1 and not what then
        what, code = put_argument(b, 2)
    end
    if n > 2 and not what then
        what, code = put_argument(c, 3)
    end
    if n > 3 and not what then
        what, code = put_argument(d, 4)
    end
    if n > 4 and not what then
        return put_more(more, n)
    end
    return what, code
end


-- Appends one value. Returns nil; or what is wrong and its path.
function _M.value(v)
    return put(v, 0)
end


-- Ends a message. Returns its length; and when it did not fit into the target, its buffer and that
-- one's size: the caller's, to be given to buffers.give; and what is to be put into it, or nil.
function _M.finish()
    if pieces then
        if not spilled then
            spill(0)
        end
        return pos + piece_bytes, base, limit, pieces
    end
    if spilled then
        return pos, base, limit
    end
    return pos - start, nil
end


-- Gives a message up.
function _M.drop()
    if spilled then
        buffers.give(base, limit)
    end
end


return _M
