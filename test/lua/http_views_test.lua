-- Bytes and MessagePack that lie elsewhere, as arguments: what HTTP plugins' calls are made of.
local ffi = require "ffi"
local t = require "tap"
local support = require "support"

local decode = require "resty.ts.decode"
local encode = require "resty.ts.encode"
local values = require "resty.ts.values"

-- The encoder takes its limits from a started runtime.
local ts = support.start { max_message_bytes = 1048576 }
local echo = ts.import("values.ts").echo

local function encoded(room, ...)
    local target = ffi.new("uint8_t[?]", room)
    local n = select("#", ...)
    local a, b, c, d = ...
    encode.begin(target, 0, room)
    local what, code = encode.arguments(n, a, b, c, d, n > 4 and { select(5, ...) } or nil)
    if what then
        encode.drop()
        return nil, what, code
    end
    local bytes, buffer = encode.finish()
    return decode.decode(buffer or target, 0, bytes)
end

local function view(text)
    return setmetatable({ ffi.cast("const uint8_t *", text), #text }, values.view_mt)
end

t.test("a view arrives as bytes, of any length and whatever is in it", function()
    for _, n in ipairs { 0, 1, 255, 256, 65535, 65536, 200000 } do
        local text = ("\0\255é"):rep(n / 4) .. ("x"):rep(n % 4)
        t.eq(encoded(1024, view(text))[1], ts.bytes(text), n)
        t.eq(echo(view(text)), ts.bytes(text), n)
    end
end)

t.test("a view may be of a Lua string, and lie within other values", function()
    local v = setmetatable({ "abc", 2 }, values.view_mt)
    t.eq(encoded(1024, { x = ts.array { v, v } })[1], {
        x = ts.array { ts.bytes("ab"), ts.bytes("ab") },
    })
end)

t.test("packed values go out as they are", function()
    local target = ffi.new("uint8_t[?]", 1024)
    encode.begin(target, 0, 1024)
    t.eq(encode.value(ts.array { 1, "two", { three = 3 } }), nil)
    local bytes = encode.finish()
    local packed = setmetatable({ target, bytes }, values.packed_mt)
    local want = ts.array { 1, "two", { three = 3 } }
    t.eq(encoded(1024, packed, packed), ts.array { want, want })
    t.eq(encoded(4, packed)[1], want, "where it does not fit at first")
    t.eq(echo(packed), want)
end)

t.test("what is more than a message may have is too large", function()
    local v = setmetatable({ ffi.new("uint8_t[?]", 2097152), 2097152 }, values.view_mt)
    t.err("too_large", encoded(1024, v))
    t.err("too_large", echo(v))
end)

t.test("arguments keep their places, however many there are", function()
    for n = 0, 20 do
        local arguments = {}
        for i = 1, n do
            arguments[i] = i
        end
        t.eq(encoded(64, unpack(arguments)), ts.array(arguments), n)
    end
    t.eq({ encoded(64, 1, nil, 3, nil, 5) }, { ts.array { 1, ts.null, 3, ts.null, 5 } })
end)

t.test("what cannot be carried is named with its argument's place", function()
    for i = 1, 7 do
        local arguments = { 1, 2, 3, 4, 5, 6, 7 }
        arguments[i] = { x = print }
        local _, what, code = encoded(64, unpack(arguments))
        t.eq({ what, code }, { "a function (argument " .. i .. ".x)", "bad_argument" })
    end
end)

t.done()
