-- Configurations that are found by what is in them: the same content, and no other. Needs no
-- runtime.
local t = require "tap"

local encode = require "resty.ts.encode"
local ffi = require "ffi"
local literals = require "resty.ts.http.literals"
local native = require "resty.ts.native"
local ts = require "resty.ts"

t.test("a new table with the same content is found, in whatever order it was made", function()
    literals.clear()
    local conf = { secret = "s", limit = 5, strict = false, mode = "x" }
    t.eq(literals.find("p", conf), nil)
    literals.add("p", conf, "chain")
    t.eq(literals.find("p", { secret = "s", limit = 5, strict = false, mode = "x" }), "chain")
    local later = {}
    later.mode, later.strict, later.limit, later.secret = "x", false, 5, "s"
    t.eq(literals.find("p", later), "chain")
    t.eq(literals.find("q", later), nil)
    literals.clear()
    t.eq(literals.find("p", later), nil)
end)

t.test("one without a key, and one of each number of keys, beside each other", function()
    literals.clear()
    literals.add("p", {}, "none")
    local conf = {}
    for i = 1, 4 do
        conf["key" .. i] = "v" .. i
        literals.add("p", conf, "chain " .. i)
    end
    t.eq(literals.find("p", {}), "none")
    t.eq(literals.find("p", { key1 = "v1" }), "chain 1")
    t.eq(literals.find("p", { key1 = "v1", key2 = "v2" }), "chain 2")
    t.eq(literals.find("p", { key1 = "v1", key2 = "v2", key3 = "v3" }), "chain 3")
    t.eq(literals.find("p", { key1 = "v1", key2 = "v2", key3 = "v3", key4 = "v4" }), "chain 4")
end)

t.test("several of one plugin are told apart by their values", function()
    literals.clear()
    for _, secret in ipairs { "a", "b", "c" } do
        for limit = 1, 3 do
            literals.add("p", { secret = secret, limit = limit }, secret .. limit)
        end
    end
    for _, secret in ipairs { "a", "b", "c" } do
        for limit = 1, 3 do
            t.eq(literals.find("p", { secret = secret, limit = limit }), secret .. limit)
        end
    end
end)

t.test("what is not for this is not found, and not added", function()
    literals.clear()
    local nan = 0 / 0
    for i, conf in ipairs {
        { a = { 1 } }, { a = ts.null }, { a = 0 }, { a = -0 }, { a = nan }, { a = ts.bytes("x") },
        { 1 }, { "x", a = 1 }, { a = 1, b = 2, c = 3, d = 4, e = 5 }, { a = 1LL }, ts.array {},
        ts.bytes("x"), setmetatable({ a = 1 }, { __index = { b = 2 } }),
    } do
        literals.add("p", conf, i)
        t.eq(literals.find("p", conf), nil)
    end
    literals.add("p", { a = 1 }, "chain")
    t.eq(literals.find("p", { a = 1 }), "chain")
    t.eq(literals.find("p", setmetatable({ a = 1 }, {})), nil)
    t.eq(literals.find("p", { b = 1 }), nil)
end)

-- What a chain's key is made of.
local buffer = ffi.new("uint8_t[?]", 4096)
local function encoded(conf)
    encode.begin(buffer, 0, 4096)
    local what = encode.arguments(1, conf)
    t.eq(what, nil)
    return ffi.string(buffer, (encode.finish()))
end

t.test("what is found encodes to the same bytes as what was added", function()
    encode.init(native.load(), 65536)
    math.randomseed(42)
    local values = { 1, 2, -1, 0, -0, 1.5, "1", "", "x", true, false, { 1 }, {}, ts.null }
    local keys = { "a", "b", "c", "d", "e", 1 }
    local found = 0
    for _ = 1, 200 do
        literals.clear()
        local added = {}
        for i = 1, 30 do
            local conf = {}
            for _ = 1, math.random(0, 5) do
                conf[keys[math.random(#keys)]] = values[math.random(#values)]
            end
            local chain = literals.find("p", conf)
            if chain then
                found = found + 1
                -- Keys of a table come in any order.
                local again = {}
                for key, value in pairs(added[chain]) do
                    again[key] = value
                end
                t.eq(conf, again)
                for key, value in pairs(conf) do
                    t.eq(encoded { value }, encoded { again[key] })
                end
            else
                literals.add("p", conf, i)
                added[i] = conf
            end
        end
    end
    t.ok(found > 300, found)
end)

t.done()
