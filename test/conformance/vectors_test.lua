-- The golden vectors in Lua: records through channel.lua on a real mapping, values through
-- encode.lua and decode.lua.
local ffi = require "ffi"
local cjson = require "cjson"
local native = require "resty.ts.native"
local lib = assert(native.load())
local channel = require "resty.ts.channel"
local decode = require "resty.ts.decode"
local encode = require "resty.ts.encode"
local values = require "resty.ts.values"
local t = require "tap"

local root = debug.getinfo(1, "S").source:match("^@(.*)test/conformance/")
local file = assert(io.open(root .. "test/conformance/vectors.json", "rb"))
local vectors = cjson.decode(file:read("*a"))
file:close()

-- Where cq_tail lies in the control page (native/channel/channel.h).
local CONTROL_BYTES, LINE = 65536, 128
local CQ_TAIL = 5 * LINE / 4

local function unhex(s)
    return (s:gsub("%x%x", function(byte)
        return string.char(tonumber(byte, 16))
    end))
end

local function hex(s)
    return (s:gsub(".", function(c)
        return string.format("%02x", c:byte())
    end))
end

-- Each vector's value as Lua has it.
local build = {}
build["null"] = function()
    return values.null
end
function build.boolean(v)
    return v
end
function build.number(v)
    local special = { ["-0"] = -0.0, NaN = 0 / 0, Infinity = 1 / 0, ["-Infinity"] = -1 / 0 }
    return special[v] or tonumber(v)
end
local function from_decimal(v, type_name)
    local n = ffi.new(type_name, 0)
    for digit in v:gmatch("%d") do
        n = n * 10 + tonumber(digit)
    end
    return v:sub(1, 1) == "-" and -n or n
end
function build.int64(v)
    return from_decimal(v, "int64_t")
end
function build.uint64(v)
    return from_decimal(v, "uint64_t")
end
function build.string(v)
    return v
end
function build.bytes(v)
    return values.bytes(unhex(v))
end
local function make(value)
    return build[value[1]](value[2])
end
function build.array(items)
    local list = {}
    for i, item in ipairs(items) do
        list[i] = make(item)
    end
    return values.array(list)
end
function build.map(entries)
    local map = {}
    for key, item in pairs(entries) do
        map[key] = make(item)
    end
    return map
end

-- Fails unless got is what the vector's value describes.
local function check(got, value, where)
    local kind, content = value[1], value[2]
    if kind == "array" then
        t.eq(getmetatable(got), values.array_mt, where)
        t.eq(#got, #content, where .. ": length")
        for i, item in ipairs(content) do
            check(got[i], item, where .. "[" .. i .. "]")
        end
    elseif kind == "map" then
        t.eq(getmetatable(got), nil, where)
        local n = 0
        for key in pairs(got) do
            t.ok(content[key], where .. ": key " .. key)
            n = n + 1
        end
        for key, item in pairs(content) do
            check(got[key], item, where .. "." .. key)
            n = n - 1
        end
        t.eq(n, 0, where .. ": keys")
    elseif kind == "bytes" then
        t.eq(getmetatable(got), values.bytes_mt, where)
        t.eq(hex(tostring(got)), content, where)
    elseif kind == "int64" or kind == "uint64" then
        -- JavaScript has one bigint for both: compare what they count.
        t.eq(type(got), "cdata", where)
        t.ok(got == make(value), where .. ": " .. tostring(got))
    elseif kind == "null" then
        t.ok(got == values.null, where .. ": null")
    else
        t.eq(got, make(value), where)
    end
end

local buffer = ffi.new("uint8_t[?]", 65536)

local function encode_to_hex(value)
    encode.begin(buffer, 0, 65536)
    local what = encode.value(value)
    if what then
        error(what)
    end
    local length, spilled = encode.finish()
    return hex(ffi.string(spilled or buffer, length))
end

local function decode_hex(text)
    local s = unhex(text)
    -- A block of just this length, so that nothing follows it.
    local block = ffi.new("uint8_t[?]", #s)
    ffi.copy(block, s, #s)
    return decode.decode(block, 0, #s)
end

local function new_channel(ring_bytes, first_cursor)
    local ch = channel.new(lib, ring_bytes, 1048576, first_cursor)
    ch:open(assert(ch:create()))
    return ch
end

-- What is published of the submission ring, as hex; and takes it.
local function submitted(ch, from)
    return hex(ffi.string(ch.sq + from % ch.bytes, (ch.sq_tail - from) % 4294967296))
end

-- Publishes bytes as the host would.
local function publish(ch, bytes, published)
    ffi.copy(ch.cq + ch.cq_head % ch.bytes, bytes, #bytes)
    local words = ffi.cast("uint32_t *", ch.sq - CONTROL_BYTES)
    words[CQ_TAIL] = (ch.cq_head + published) % 4294967296
end

local function new_sink()
    local seen = {}
    return {
        on_result = function(_, id, value, err)
            seen[#seen + 1] = { 16, id, value, err }
        end,
        on_error = function(_, id, code, text)
            seen[#seen + 1] = { 17, id, code, text }
        end,
        on_other = function(_, kind, a, text)
            seen[#seen + 1] = { kind, 0, a, text }
        end,
    }, seen
end

local CURSORS = { 0, 4294967296 - 4096, 4294967296 - 8 }
encode.init(lib, 1048576)

t.test("Lua writes every golden value byte for byte", function()
    for _, vector in ipairs(vectors.values) do
        local got = encode_to_hex(make(vector.value))
        if vector.value[2] == "NaN" then
            got = got:gsub("^cbfff8", "cb7ff8") -- a NaN's sign says nothing
        end
        t.eq(got, vector.lua, vector.name)
    end
    t.ok(#vectors.values > 60, "enough of them")
end)

t.test("Lua reads every golden value of both sides", function()
    for _, vector in ipairs(vectors.values) do
        for _, side in ipairs { vector.lua, vector.js or vector.lua } do
            local got, err = decode_hex(side)
            t.eq(err, nil, vector.name)
            if got == nil then
                got = values.null -- null at the top is nil
            end
            check(got, vector.value, vector.name)
        end
    end
end)

t.test("Lua reads the forms that neither side writes", function()
    for _, vector in ipairs(vectors.decodeOnly) do
        local got, err = decode_hex(vector.hex)
        t.eq(err, nil, vector.name)
        check(got, vector.value, vector.name)
    end
end)

t.test("Lua refuses every malformed value", function()
    for _, vector in ipairs(vectors.malformed) do
        local got, err = decode_hex(vector.hex)
        t.eq(got, nil, vector.name)
        t.eq(type(err), "string", vector.name)
    end
end)

t.test("Lua refuses every cut of every golden value", function()
    for _, vector in ipairs(vectors.values) do
        for n = 0, #vector.lua / 2 - 1 do
            local got, err = decode_hex(vector.lua:sub(1, 2 * n))
            t.eq(got, nil, vector.name .. " cut to " .. n)
            t.ok(err, vector.name .. " cut to " .. n)
        end
    end
end)

-- vectors with arguments that encode and send_encoded can make: by their payload
local ARGUMENTS = {
    ["90"] = { n = 0 }, ["920102"] = { n = 2, 1, 2 }, ["91c0"] = { n = 1, nil },
    ["91a26869"] = { n = 1, "hi" },
}

for _, cursor in ipairs(CURSORS) do
    t.test("Lua writes every golden submission byte for byte from cursor " .. cursor, function()
        local seen = 0
        for _, vector in ipairs(vectors.records) do
            if vector.from == "lua" then
                seen = seen + 1
                local ch = new_channel(4096, cursor)
                local payload = unhex(vector.payload)
                if vector.kind <= 2 then
                    local args = t.ok(ARGUMENTS[vector.payload], vector.name)
                    local length, spilled = ch:encode(args.n, args[1], args[2])
                    t.eq(spilled, nil, vector.name)
                    ch:send_encoded(vector.kind, vector.pending, vector.id, vector.a, vector.b,
                                    length)
                else
                    t.eq(ch:send_text(vector.kind, vector.id, vector.a, vector.b, payload), true,
                         vector.name)
                end
                -- What pads a record may be anything.
                local used = 48 + #vector.payload
                t.eq(submitted(ch, cursor):sub(1, used), vector.hex:sub(1, used), vector.name)
                t.eq((ch.sq_tail - cursor) % 4294967296, #vector.hex / 2, vector.name)
                lib.rts_channel_destroy(ch.c)
            end
        end
        t.ok(seen >= 10)
    end)

    t.test("Lua reads every golden completion from cursor " .. cursor, function()
        local count = 0
        for _, vector in ipairs(vectors.records) do
            if vector.from == "host" then
                count = count + 1
                local ch = new_channel(4096, cursor)
                local sink, seen = new_sink()
                publish(ch, unhex(vector.hex), #vector.hex / 2)
                t.eq(ch:drain(sink), 1, vector.name)
                local kind, id, content, text = unpack(seen[1], 1, 4)
                t.eq(kind, vector.kind, vector.name)
                if kind == 16 then
                    local want = decode_hex(vector.payload)
                    t.eq(id, vector.id, vector.name)
                    t.eq(content, want, vector.name)
                    t.eq(text, nil, vector.name)
                else
                    t.eq(content, vector.a, vector.name)
                    t.eq(text, unhex(vector.payload), vector.name)
                end
                t.eq(ch.cq_head, (cursor + #vector.hex / 2) % 4294967296, vector.name)
                lib.rts_channel_destroy(ch.c)
            end
        end
        t.ok(count >= 6)
    end)

    t.test("Lua cuts and joins golden messages from cursor " .. cursor, function()
        for _, vector in ipairs(vectors.messages) do
            local ch = new_channel(vector.ring_bytes, cursor)
            local payload = unhex(vector.payload)
            if vector.from == "lua" then
                local block = ffi.new("uint8_t[?]", #payload + 1, payload) -- with its NUL
                local sent = 0
                while sent < #payload do
                    sent = t.ok(ch:send_part(vector.kind, vector.id, vector.a, vector.b, block,
                                             #payload, sent), vector.name)
                end
                t.eq(submitted(ch, cursor), vector.hex, vector.name)
            else
                local sink, seen = new_sink()
                publish(ch, unhex(vector.hex), #vector.hex / 2)
                t.eq(ch:drain(sink), 3, vector.name)
                t.eq(#seen, 1, vector.name)
                t.eq(seen[1][2], vector.id, vector.name)
                t.eq(seen[1][3], decode_hex(vector.payload), vector.name)
            end
            lib.rts_channel_destroy(ch.c)
        end
    end)

    t.test("Lua refuses every golden bad record from cursor " .. cursor, function()
        for _, vector in ipairs(vectors.badRecords) do
            local ch = new_channel(vector.ring_bytes, cursor)
            local sink, seen = new_sink()
            publish(ch, unhex(vector.hex), vector.published)
            local count, err = ch:drain(sink)
            -- A kind that is none is for the sink to refuse; it has seen no other.
            if count then
                t.ok(seen[1][1] < 16 or seen[1][1] > 21, vector.name .. ": kind " .. seen[1][1])
            else
                t.eq(type(err), "string", vector.name)
                t.eq(#seen, 0, vector.name)
            end
            lib.rts_channel_destroy(ch.c)
        end
    end)
end

t.done()
