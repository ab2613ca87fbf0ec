-- Values through the real bridge, in both directions: what comes back is what went in, or there is
-- an error that says what could not be carried, and where.
local ffi = require "ffi"
local t = require "tap"
local support = require "support"

local ts = require "resty.ts"
local values

local function echo(value)
    local got, err = values.echo(value)
    if err then
        error(err, 2)
    end
    return got
end

local function is_array(v)
    return type(v) == "table" and getmetatable(v) == getmetatable(ts.array {})
end

-- In LuaJIT null == nil, so == does not tell one from the other.
local function is_null(v)
    return not rawequal(v, nil) and v == ts.null
end

local function utf8_char(point)
    local char, floor = string.char, math.floor
    if point < 0x80 then
        return char(point)
    elseif point < 0x800 then
        return char(0xc0 + floor(point / 64), 0x80 + point % 64)
    elseif point < 0x10000 then
        return char(0xe0 + floor(point / 4096), 0x80 + floor(point / 64) % 64, 0x80 + point % 64)
    end
    return char(0xf0 + floor(point / 262144), 0x80 + floor(point / 4096) % 64,
                0x80 + floor(point / 64) % 64, 0x80 + point % 64)
end

local function nested(depth, map)
    local value = ts.null
    for _ = 1, depth do
        value = map and { x = value } or { value }
    end
    return value
end

-- As values.ts has it.
local function digest(s, is_bytes)
    local sum = #s
    for i = 1, #s do
        sum = (sum * 31 + s:byte(i)) % 4294967296
    end
    return sum, is_bytes
end

local function scalars()
    t.test("nil, null, true and false come back", function()
        t.eq(echo(nil), nil)
        t.eq(echo(ts.null), nil, "null at the top is nil")
        t.eq(echo(true), true)
        t.eq(echo(false), false)
        t.eq(values.describe(nil), "null")
        t.eq(values.describe(ts.null), "null")
        t.eq(values.describe(false), "boolean false")
    end)

    t.test("numbers come back bit for bit", function()
        local numbers = { 0, -0.0, 1, -1, 0.1, 0.5, 127, 128, 255, 256, 65535, 65536, 2147483647,
                          2147483648, 4294967295, 4294967296, -32, -33, -128, -129, -2147483648,
                          9007199254740991, 9007199254740992, -9007199254740991,
                          -9007199254740992, 1e308, -1e308, 5e-324, 2.2250738585072014e-308,
                          1 / 0, -1 / 0, 0 / 0, math.pi, 1e15 + 0.5 }
        for _, number in ipairs(numbers) do
            t.eq(echo(number), number)
        end
        t.eq(echo(numbers), ts.array(numbers))
        t.eq(values.describe(-0.0), "number -0")
        t.eq(values.describe(0), "number 0")
        t.eq(values.describe(0 / 0), "number NaN")
        t.eq(values.describe(-1 / 0), "number -Infinity")
        t.eq(values.describe(9007199254740992), "number 9007199254740992")
    end)

    t.test("64-bit integers are bigints, and come back as they count", function()
        local cases = {
            { 0LL, "0" }, { 1LL, "1" }, { -1LL, "-1" }, { 9007199254740993LL, "9007199254740993" },
            { 0x7fffffffffffffffLL, "9223372036854775807" },
            { -0x7fffffffffffffffLL - 1, "-9223372036854775808" },
            { 0ULL, "0" }, { 0x8000000000000000ULL, "9223372036854775808" },
            { 0xffffffffffffffffULL, "18446744073709551615" },
        }
        for _, case in ipairs(cases) do
            t.eq(values.describe(case[1]), "bigint " .. case[2])
            local back = echo(case[1])
            t.eq(type(back), "cdata")
            t.ok(back == case[1], case[2])
            t.ok(ffi.istype("int64_t", back) or ffi.istype("uint64_t", back))
            t.eq(tostring(back):gsub("U?LL$", ""), case[2])
        end
    end)
end

local function strings()
    t.test("a string is a string, with NULs and of every plane", function()
        for _, s in ipairs { "", "a", "\0", "a\0b\0", ("x"):rep(31), ("x"):rep(32),
                             ("x"):rep(255), ("x"):rep(256), ("x"):rep(65535),
                             ("x"):rep(65536), "\239\187\191bom", "\239\187\191" .. ("x"):rep(300),
                             ("\195\188"):rep(300), ("\240\159\152\128"):rep(100) } do
            t.eq(echo(s), s)
            t.eq(values.describe(s):match("^%a+"), "string")
        end
        for plane = 0, 16 do
            local points = {}
            for i, low in ipairs { 0, 1, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfffd, 0xfffe,
                                   0xffff } do
                points[i] = plane * 65536 + low
            end
            local chars = {}
            for i, point in ipairs(points) do
                chars[i] = utf8_char(point)
            end
            local s = table.concat(chars)
            t.eq(values.codePoints(s), ts.array(points), "plane " .. plane)
            t.eq(values.fromCodePoints(points), s, "plane " .. plane)
            t.eq(echo(s:rep(20)), s:rep(20), "plane " .. plane)
        end
    end)

    t.test("every scalar value of Unicode comes back", function()
        for from = 0, 0x10ffff, 0x4000 do
            local chars = {}
            for point = from, from + 0x3fff do
                if point < 0xd800 or point > 0xdfff then
                    chars[#chars + 1] = utf8_char(point)
                end
            end
            local s = table.concat(chars)
            t.ok(echo(s) == s, ("from U+%X"):format(from))
        end
    end)

    t.test("bytes are a Uint8Array, whatever is in them", function()
        local all = {}
        for i = 0, 255 do
            all[i + 1] = string.char(i)
        end
        all = table.concat(all)
        for _, s in ipairs { "", "\0", "text", "\255\254\0", all, all:rep(300) } do
            local back = echo(ts.bytes(s))
            t.eq(tostring(back), s)
            t.eq(back[1], s)
            t.ok(back == ts.bytes(s))
            t.eq(values.describe(ts.bytes(s)), "Uint8Array of " .. #s)
        end
        local list = values.byteList(ts.bytes(all))
        for i = 0, 255 do
            t.eq(list[i + 1], i)
        end
        t.eq(tostring(values.bytes(300)):byte(1, 3), 0)
        t.eq({ tostring(values.bytes(300)):byte(254, 258) }, { 235, 242, 249, 0, 7 })
        t.eq(echo(ts.bytes("a")) .. "b", "ab")
        t.eq("b" .. echo(ts.bytes("a")), "ba")
    end)

    t.test("bytes that were decoded stay as they are while calls go on", function()
        local kept = {}
        for i = 1, 300 do
            kept[i] = echo({ ts.bytes(("%d"):format(i):rep(50)) })[1]
        end
        for i = 1, 300 do
            t.eq(tostring(kept[i]), ("%d"):format(i):rep(50))
        end
    end)
end

local function tables()
    t.test("arrays and maps come back as such, also empty ones", function()
        t.eq(values.describe({}), "Object of 0")
        t.eq(values.describe(ts.array {}), "Array of 0")
        t.eq(values.describe({ 1 }), "Array of 1")
        t.eq(values.describe({ a = 1 }), "Object of 1")
        t.eq(echo({}), {})
        t.ok(is_array(echo(ts.array {})))
        t.ok(not is_array(echo({})))
        t.ok(is_array(echo({ 1, 2 })))
        t.eq(echo({ 1, "b", false }), ts.array { 1, "b", false })
        t.eq(echo({ a = { b = { c = { 1 } } } }), { a = { b = { c = ts.array { 1 } } } })
        t.eq(echo({ [""] = 1, length = 2, constructor = 3, ["a.b"] = 4, ["1"] = 5 }),
             { [""] = 1, length = 2, constructor = 3, ["a.b"] = 4, ["1"] = 5 })
        t.eq(echo({ {}, {}, ts.array {} }), ts.array { {}, {}, ts.array {} })
    end)

    t.test("null inside a table is ts.null, in both directions", function()
        local back = echo({ 1, ts.null, 3, ts.null })
        t.eq(#back, 4)
        t.ok(is_null(back[2]) and is_null(back[4]))
        back = echo({ a = ts.null })
        t.ok(is_null(back.a))
        t.eq(values.describe({ ts.null, ts.null }), "Array of 2")
    end)

    t.test("sizes around each header's limit come back", function()
        for _, n in ipairs { 15, 16, 17, 255, 256, 65535, 65536 } do
            local list, map = {}, {}
            for i = 1, n do
                list[i] = i
                map["k" .. i] = i
            end
            local back = echo(list)
            t.eq(#back, n)
            t.ok(back[1] == 1 and back[n] == n)
            back = echo(map)
            for i = 1, n do
                if back["k" .. i] ~= i then
                    error("k" .. i .. " is " .. tostring(back["k" .. i]))
                end
            end
        end
    end)

    t.test("nesting goes 100 deep, and not 101", function()
        for _, map in ipairs { true, false } do
            for _, depth in ipairs { 1, 50, 99, 100 } do
                t.eq(echo(nested(depth, map)), map and nested(depth, map)
                     or values.nested(depth, false))
            end
            local err = t.err("bad_argument", values.echo(nested(101, map)))
            t.match(err, "100")
            t.match(err, "argument 1")
            t.err("bad_argument", values.echo(nested(5000, map)))
        end
        t.eq(echo("after"), "after")
    end)

    t.test("a table's metatable does not change what is sent", function()
        local hidden = setmetatable({ a = 1 }, { __index = { b = 2 }, __pairs = error,
                                                 __len = error })
        t.eq(echo(hidden), { a = 1 })
    end)
end

local function arguments()
    t.test("any number of arguments arrives, with nils where they were", function()
        t.eq(values.count(), 0)
        for _, n in ipairs { 1, 2, 3, 4, 5, 6, 15, 16, 17, 100, 5000 } do
            local args = {}
            for i = 1, n do
                args[i] = i
            end
            t.eq(values.count(unpack(args, 1, n)), n)
            t.eq(values.list(unpack(args, 1, n)), ts.array(args))
        end
        t.eq(values.count(nil), 1)
        t.eq(values.count(nil, nil, nil, nil, nil, nil), 6)
        local back = values.list(nil, 2, nil, 4, nil, 6, nil)
        t.eq(#back, 7)
        for i = 1, 7 do
            t.ok(i % 2 == 0 and back[i] == i or i % 2 == 1 and is_null(back[i]), "argument " .. i)
        end
    end)
end

local function large(ring_bytes)
    t.test("strings and bytes of 0 to 8 MiB come back whole", function()
        local unit = {}
        for i = 0, 255 do
            unit[i + 1] = string.char(i)
        end
        unit = table.concat(unit)
        local quarter = ring_bytes / 4 - 24
        local sizes = { 0, 1, 1000, quarter - 8, quarter - 6, quarter - 5, quarter - 4,
                        quarter - 1, quarter, quarter + 1, quarter + 8, ring_bytes - 24,
                        ring_bytes, ring_bytes + 1, 4 * ring_bytes + 3, 1048576, 8388608 }
        for _, size in ipairs(sizes) do
            local bytes = unit:rep(math.ceil(size / 256)):sub(1, size)
            local back, err = values.echo(ts.bytes(bytes))
            t.eq(err, nil)
            t.ok(tostring(back) == bytes, size .. " bytes")
            local text = ("0123456789abcdef"):rep(math.ceil(size / 16)):sub(1, size)
            t.ok(values.echo(text) == text, "a string of " .. size)
        end
        t.eq(values.digest(ts.bytes(unit:rep(1000))), (digest(unit:rep(1000))))
        t.eq(values.digest(("abc"):rep(100000)), (digest(("abc"):rep(100000))))
        t.eq(digest(values.text(3000000)), values.digest(values.text(3000000)))
    end)

    t.test("many large values at once keep apart", function()
        local jobs = {}
        for i = 1, 12 do
            jobs[i] = function()
                local s = ("%02d"):format(i):rep(150000 + 1000 * i)
                for _ = 1, 3 do
                    local back, err = values.echoLater(s)
                    t.eq(err, nil)
                    t.ok(back == s, "job " .. i)
                end
            end
        end
        support.together(ts, unpack(jobs))
    end)
end

-- A userdata, a pointer, a struct: none has a counterpart.
ffi.cdef "typedef struct { int x; } rts_test_struct;"

local function refusals()
    t.test("what cannot be an argument is named, with its place", function()
        local cycle = {}
        cycle.self = cycle
        local list_cycle = {}
        list_cycle[1] = list_cycle
        local holes = { 1, 2, 3, 4, 5, 6, 7, 8 }
        holes[4] = nil
        -- As many keys as its length says, but not those.
        local disguised = {}
        for i = 1, 4 do
            disguised[i] = i
        end
        disguised.x, disguised.y, disguised[2], disguised[3] = 1, 1, nil, nil
        local cases = {
            { "function", print }, { "function", function() end },
            { "thread", coroutine.create(print) }, { "userdata", io.stdout },
            { "cdata", ffi.new("rts_test_struct") }, { "cdata", ffi.new("int[3]") },
            { "cdata", ffi.new("int *", ffi.cast("int *", 8)) }, { "cdata", ffi.new("complex") },
            { "UTF%-8", "\255" }, { "UTF%-8", "\192\128" }, { "UTF%-8", "\237\160\128" },
            { "UTF%-8", "\244\144\128\128" }, { "UTF%-8", ("x"):rep(1000) .. "\226\130" },
            { "UTF%-8", { ["\255"] = 1 } },
            { "array", { 1, 2, x = 3 } }, { "array", { 1, nil, 3, x = 1 } },
            { "array", holes }, { "array", disguised },
            { "array", { [2] = 1 } }, { "array", { [0] = 1 } }, { "array", { [1.5] = 1 } },
            { "array", { [true] = 1 } }, { "array", { [-1] = 1, 1 } },
            { "array", { 1, 2, 3, nil, 5 } }, { "array", { [{}] = 1 } },
            { "array", ts.array { x = 1 } }, { "array", ts.array { 1, nil, 3 } },
            { "cycle", cycle }, { "cycle", list_cycle },
            { "__proto__", { __proto__ = {} } },
            { "bytes", setmetatable({ 1 }, getmetatable(ts.bytes(""))) },
        }
        for i, case in ipairs(cases) do
            local what = case[1] .. ", case " .. i
            local err = t.err("bad_argument", values.echo(case[2]))
            t.match(err, case[1], what)
            t.match(err, "argument 1", what)
            t.match(err, "^bad argument: values%.ts echo", what)
            -- Nested, and not the first.
            err = t.err("bad_argument", values.list(1, "two", { ok = 1,
                                                                list = { 1, { deep = case[2] } } }))
            t.match(err, case[1], what)
            t.match(err, "argument 3%.list%[2%]%.deep", what .. " nested")
            err = t.err("bad_argument", values.list(1, 2, 3, 4, 5, case[2]))
            t.match(err, "argument 6", what .. " sixth")
        end
        t.eq(ts.stats().pending, 0)
        t.eq(echo("after"), "after")
    end)

    t.test("what cannot be a result is named, with its place", function()
        local words = {
            map = "Map", set = "Set", date = "Date", regexp = "RegExp", error = "Error",
            instance = "Point", symbol = "symbol", ["function"] = "function", class = "function",
            surrogate = "surrogate", lowSurrogate = "surrogate", surrogateKey = "surrogate",
            sparse = "undefined in an array", undefinedInArray = "undefined in an array",
            tooBig = "64 bits", tooSmall = "64 bits", cycle = "cycle", arrayCycle = "cycle",
            tooDeep = "100", tooDeepMap = "100", float64Array = "Float64Array",
            uint16Array = "Uint16Array", dataView = "DataView", arrayBuffer = "ArrayBuffer",
            promiseInside = "Promise", boxedNumber = "Number", boxedString = "String",
            weakMap = "WeakMap", proxyThatThrows = "no keys for you",
            getterThatThrows = "not x",
        }
        local names = values.names()
        t.ok(#names >= 30)
        for _, name in ipairs(names) do
            local word = t.ok(words[name], name)
            t.match(t.err("bad_result", values.give(name)), word, name)
            t.match(t.err("bad_result", values.giveLater(name)), word, name)
            local err = t.err("bad_result", values.giveNested(name))
            t.match(err, word, name)
            if not name:find("[tT]hatThrows") then
                t.match(err, "%.list%[1%]%.deep", name)
            end
        end
        t.eq(ts.stats().pending, 0)
        t.eq(echo("after"), "after")
    end)
end

-- A random value: arrays and maps of at most `depth`. math.random is seeded below.
local function random_value(depth)
    local random = math.random
    local kind = random(depth > 0 and 10 or 8)
    if kind == 1 then
        return random(2) == 1
    elseif kind == 2 then
        return ts.null
    elseif kind == 3 then
        return ({ 0, -0.0, 1 / 0, -1 / 0, 0 / 0, 2 ^ 53, -2 ^ 53, 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32 })
               [random(10)]
    elseif kind == 4 then
        return (random() - 0.5) * 10 ^ random(-300, 300)
    elseif kind == 5 then
        return random(-2 ^ 31, 2 ^ 31 - 1)
    elseif kind == 6 then
        local chars = {}
        for i = 1, random(0, random(4) == 1 and 300 or 12) do
            local point = random(0, ({ 0x7f, 0x7ff, 0xd7ff, 0x10ffff })[random(4)])
            if point >= 0xd800 and point <= 0xdfff then
                point = point - 0x800
            end
            chars[i] = utf8_char(point)
        end
        return table.concat(chars)
    elseif kind == 7 then
        local bytes = {}
        for i = 1, random(0, 40) do
            bytes[i] = string.char(random(0, 255))
        end
        return ts.bytes(table.concat(bytes))
    elseif kind == 8 then
        local n = ffi.cast("uint64_t", random(0, 2 ^ 32 - 1)) * 2ULL ^ 32 + random(0, 2 ^ 32 - 1)
        return random(2) == 1 and n or ffi.cast("int64_t", n)
    end
    local n = random(0, random(3) == 1 and 20 or 4)
    local value = {}
    for i = 1, n do
        value[kind == 9 and i or "k" .. random(1000) .. utf8_char(random(0, 0xd7ff))] =
            random_value(depth - 1)
    end
    return kind == 9 and ts.array(value) or value
end

-- As tap.eq, but int64 and uint64 of the same count are the same.
local function difference(got, want, path)
    if type(want) == "cdata" and want ~= nil and type(got) == "cdata" and got ~= nil then
        if got == want and tostring(got):gsub("U", "") == tostring(want):gsub("U", "") then
            return nil
        end
        return path .. ": " .. tostring(got) .. " for " .. tostring(want)
    elseif type(want) == "table" and type(got) == "table" then
        if getmetatable(got) ~= getmetatable(want) then
            return path .. ": another metatable"
        end
        for key, item in pairs(want) do
            local inner = difference(got[key], item, path .. "." .. key)
            if inner then
                return inner
            end
        end
        for key in pairs(got) do
            if rawequal(want[key], nil) then -- null == nil in LuaJIT
                return path .. ": key " .. key .. " appeared"
            end
        end
        return nil
    end
    local ok, err = pcall(t.eq, got, want, path)
    return not ok and err or nil
end

local function properties(rounds, seed)
    t.test(rounds .. " random values of Lua's come back from TypeScript (seed " .. seed .. ")",
           function()
        math.randomseed(seed)
        for i = 1, rounds do
            local value = random_value(5)
            local back, err = values.echo({ value })
            t.eq(err, nil, "value " .. i)
            local diff = difference(back[1], value, "value " .. i)
            if diff then
                error(diff)
            end
        end
    end)

    t.test(rounds .. " random values of TypeScript's come back from Lua (seed " .. seed .. ")",
           function()
        t.eq(values.generate(seed, rounds), rounds)
        for i = 0, rounds - 1 do
            local value, err = values.sample(i)
            t.eq(err, nil, "sample " .. i)
            local verdict
            verdict, err = values.verify(i, value)
            t.eq(err, nil, "sample " .. i)
            t.eq(verdict, "", "sample " .. i)
        end
    end)
end

local SETTINGS = {
    { ring_bytes = 1048576, first_cursor = 0 },
    { ring_bytes = 4096, first_cursor = 4294967296 - 4096 },
}
local seed = tonumber(os.getenv("RTS_TEST_SEED")) or 20260

for i, setting in ipairs(SETTINGS) do
    support.start(setting)
    values = ts.import("values.ts")
    scalars()
    strings()
    tables()
    arguments()
    large(setting.ring_bytes)
    refusals()
    properties(1500, seed + i)
    assert(ts.stop())
end

t.done()
