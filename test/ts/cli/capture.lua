-- Loads generated files as APISIX does, with a stand-in for resty.ts.apisix, and prints as JSON
-- what it is given: one line for each file.
local given
package.preload["resty.ts.apisix"] = function()
    return {
        plugin = function(spec)
            given = spec
            return spec
        end,
    }
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(char)
        return ("\\u%04x"):format(char:byte())
    end) .. '"'
end

local function json(value)
    if type(value) == "string" then
        return quoted(value)
    end
    if type(value) ~= "table" then
        return tostring(value)
    end
    local parts = {}
    for i, item in ipairs(value) do
        parts[i] = json(item)
    end
    if #parts > 0 then
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for key, item in pairs(value) do
        parts[#parts + 1] = quoted(key) .. ":" .. json(item)
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

for _, file in ipairs(arg) do
    given = nil
    assert(dofile(file) == given, file .. " returns something else than what it is given")
    print(json(given))
end
