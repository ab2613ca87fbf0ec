-- Lua's decoders on one input: channel.lua's drain on a ring that a hostile host has written, and
-- decode.lua on the values in it.
--
-- Invariant checked: nothing past what is published is read: it ends at a page that may not be
-- touched, so the process would die. The same value comes out of the ring and out of a block of
-- its own, which ends at such a page, too.

local ffi = require "ffi"
local bit = require "bit"
local native = require "resty.ts.native"
local values = require "resty.ts.values"

local RING, PAGE, INPUT_HEAD = 4096, 4096, 8
local WRAP = 4294967296
local MAX_MESSAGE_BYTES = 65536

ffi.cdef [[
void *mmap(void *address, size_t length, int prot, int flags, int fd, long offset);
int mprotect(void *address, size_t length, int prot);
]]

-- Memory between two pages that may not be touched. Returns where it ends.
local function guarded(bytes)
    local map = ffi.C.mmap(nil, bytes + 2 * PAGE, 0, 0x22, -1, 0) -- private, anonymous
    map = ffi.cast("uint8_t *", map)
    assert(ffi.C.mprotect(map + PAGE, bytes, 3) == 0, "mprotect")
    return map + PAGE + bytes
end

local lib = assert(native.load())
local decode = require "resty.ts.decode"
local plain_decode = decode.decode
local show

local function hex(s)
    return (s:gsub(".", function(c)
        return string.format("%02x", c:byte())
    end))
end

-- A string as the host would have it; one that is not UTF-8 is not compared.
local function show_text(s)
    if lib.rts_utf8_valid(s, #s) == 0 or s:find("\239\191\189", 1, true) then
        return "?"
    end
    return hex(s)
end

local box = ffi.new("union { double number; uint32_t half[2]; }")

local function show_table(value)
    local parts = {}
    if getmetatable(value) == values.bytes_mt then
        return "b" .. hex(value[1])
    elseif getmetatable(value) == values.array_mt then
        for i = 1, #value do
            parts[i] = show(value[i])
        end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for key, item in pairs(value) do
        local name = show_text(key)
        if name == "?" then
            return "{?}"
        end
        parts[#parts + 1] = name .. "=" .. show(item)
    end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end

-- A value as text, the same as values.ts makes of it.
function show(value)
    local kind = type(value)
    if kind == "number" then
        if value ~= value then
            return "nan"
        end
        box.number = value
        return string.format("n%08x%08x", box.half[1], box.half[0])
    elseif kind == "string" then
        return "s" .. show_text(value)
    elseif kind == "boolean" then
        return tostring(value)
    elseif kind == "table" then
        return show_table(value)
    elseif value == nil or value == values.null then
        return "null"
    end
    return "i" .. tostring(value):gsub("U?LL$", "")
end

local block_end = guarded(MAX_MESSAGE_BYTES)

-- In place of decode.decode: checks it against a block that ends where the value does.
function decode.decode(bytes, at, length)
    local value, err = plain_decode(bytes, at, length)
    local block = block_end - length
    ffi.copy(block, bytes + at, length)
    local again, err_again = plain_decode(block, 0, length)
    assert(err == err_again and show(value) == show(again), "one value, read twice, is two")
    return value, err
end

local channel = require "resty.ts.channel"
local ring_end = guarded(3 * RING)
local tail = 0

-- What channel.lua sees as the library: a ring of ours, and the cursor that the input names.
local host = setmetatable({
    rts_channel_create = function()
        return 0
    end,
    rts_channel_view = function() end,
    rts_cq_tail = function()
        return tail
    end,
    rts_cq_release = function()
        return 0
    end,
}, { __index = function(_, name)
    return lib[name]
end })

local ch = channel.new(host, RING, MAX_MESSAGE_BYTES)
ch.bytes, ch.mask, ch.max_payload = RING, RING - 1, RING / 4 - 24

local seen
local sink = {}

local function note(...)
    seen[#seen + 1] = table.concat({ ... }, ":")
end

local function number(n)
    return string.format("%.0f", n)
end

function sink.on_result(_, id, value, err)
    note("result", number(id), err and "!" or show(value))
end

function sink.on_error(_, id, code, text)
    note("error", number(id), number(code), hex(text))
end

function sink.on_ask(_, id, value, err)
    note("ask", number(id), err and "!" or show(value))
end

function sink.on_other(_, kind, a, text)
    note(number(kind), number(a), hex(text))
end

local _M = {}

-- Reads what the input has published. Returns one line: each message, then how many records there
-- were or "broken".
function _M.run(input)
    if #input < INPUT_HEAD then
        return "short"
    end
    local words = ffi.cast("const uint32_t *", input)
    local head = bit.band(words[0], -8) % WRAP
    local published = words[1]
    local content = input:sub(INPUT_HEAD + 1, INPUT_HEAD + RING)
    if published % 8 == 0 then
        published = #content - #content % 8
    end
    local there = math.min(RING, published + (-published) % 8)
    ffi.fill(ring_end - 3 * RING, 3 * RING)
    ffi.copy(ring_end - there, content, math.min(#content, there))
    -- Mapped twice: what is past the ring's end is at its beginning.
    ffi.copy(ring_end - there - RING, ring_end - there, there)
    ch.cq = ring_end - there - bit.band(head, RING - 1)
    ch.cq32 = ffi.cast("uint32_t *", ch.cq)
    ch.cq_head = head
    ch.partial = {}
    tail = (head + published) % WRAP
    seen = {}
    local count, err = ch:drain(sink)
    assert(count or type(err) == "string" and err ~= "", "a broken channel without a reason")
    seen[#seen + 1] = count and number(count) or "broken"
    return table.concat(seen, " ")
end

return _M
