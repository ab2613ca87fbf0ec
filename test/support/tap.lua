-- A small TAP producer for tests in plain LuaJIT: the test runner counts its lines.
--
--   local t = require "tap"
--   t.test("a sentence that must hold", function()
--       t.eq(1 + 1, 2)
--       t.err("timeout", calc.wait(1000))
--   end)
--   t.done()
--
-- A test ends at its first failed assertion. t.done() must be the last call: a file that
-- stops before it counts as failed.
local tap = {}

local count, failed = 0, 0
local SKIP = {}

local function show(value, depth)
    depth = depth or 0
    if type(value) == "string" then
        return string.format("%q", #value > 200 and value:sub(1, 200) .. "..." or value)
    elseif type(value) == "number" then
        -- %.17g tells -0 from 0, and neighbouring doubles apart
        return string.format("%.17g", value)
    elseif type(value) ~= "table" or depth > 3 then
        return tostring(value)
    end
    local parts = {}
    for key, item in pairs(value) do
        parts[#parts + 1] = "[" .. show(key, depth + 1) .. "]=" .. show(item, depth + 1)
    end
    table.sort(parts)
    return "{" .. table.concat(parts, ", ") .. "}"
end

-- Equal in type and value, tables by content; NaN equals NaN, and 0 does not equal -0.
local function same(a, b)
    if type(a) ~= type(b) then
        return false
    elseif type(a) == "number" then
        return a == b and 1 / a == 1 / b or a ~= a and b ~= b
    elseif type(a) ~= "table" or rawequal(a, b) then
        return a == b
    end
    for key, value in pairs(a) do
        if not same(value, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if rawequal(a[key], nil) then -- ts.null == nil in LuaJIT
            return false
        end
    end
    return getmetatable(a) == getmetatable(b)
end

local function fail(level, ...)
    error(table.concat({ ... }), level + 1)
end

-- Fails unless the value is true in Lua's sense; returns it.
function tap.ok(value, what)
    if not value then
        fail(2, what or "value", " is ", show(value))
    end
    return value
end

-- Fails unless both are the same (see `same`).
function tap.eq(got, want, what)
    if not same(got, want) then
        fail(2, what and what .. ": " or "", "got ", show(got), ", want ", show(want))
    end
end

-- Fails unless text is a string in which the Lua pattern occurs.
function tap.match(text, pattern, what)
    if type(text) ~= "string" or not text:find(pattern) then
        fail(2, what and what .. ": " or "", show(text), " does not match ", show(pattern))
    end
end

-- Takes what a failing call returned, `nil, err, code`, and fails unless the code is the wanted
-- one and err a text. Returns err.
function tap.err(want, value, err, code)
    if value ~= nil then
        fail(2, "no error, but ", show(value), "; want ", want)
    elseif code ~= want then
        fail(2, "code ", show(code), " (", show(err), "), want ", show(want))
    elseif type(err) ~= "string" or err == "" then
        fail(2, "the error text is ", show(err))
    end
    return err
end

-- Fails unless f(...) raises an error in whose text the pattern occurs.
function tap.throws(pattern, f, ...)
    local ok, err = pcall(f, ...)
    if ok then
        fail(2, "nothing was raised, want ", show(pattern))
    elseif not tostring(err):find(pattern) then
        fail(2, "raised ", show(tostring(err)), ", want ", show(pattern))
    end
end

-- Ends the running test as skipped.
function tap.skip(reason)
    error({ SKIP, reason or "no reason given" }, 0)
end

function tap.test(sentence, body)
    count = count + 1
    local skipped
    local ok, err = xpcall(body, function(err)
        if type(err) == "table" and err[1] == SKIP then
            skipped = err[2]
            return nil
        end
        return debug.traceback(tostring(err), 2)
    end)
    if ok then
        print("ok " .. count .. " - " .. sentence)
    elseif skipped then
        print("ok " .. count .. " - " .. sentence .. " # SKIP " .. skipped)
    else
        failed = failed + 1
        print("not ok " .. count .. " - " .. sentence)
        print("# " .. tostring(err):gsub("\n", "\n# "))
    end
    io.stdout:flush()
end

-- Prints the plan and ends the process.
function tap.done()
    print("1.." .. count)
    io.stdout:flush()
    os.exit(failed == 0 and 0 or 1)
end

return tap
