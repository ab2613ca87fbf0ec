-- core.json on cjson: `encode(data, true)` also takes what JSON has no form for.
local cjson = require "cjson.safe"
local tab = require "apisix.core.table"

-- APISIX's cjson has array_mt; where this one has none, no table has this either.
local _M = { version = 0.1, null = cjson.null, array_mt = cjson.array_mt or {} }

local function without_nulls(value)
    for key, item in pairs(value) do
        if item == cjson.null then
            value[key] = nil
        elseif type(item) == "table" then
            without_nulls(item)
        end
    end
    return value
end
_M.strip_nulls = without_nulls

function _M.decode(text, opts)
    local value, err = cjson.decode(text)
    if opts and opts.null_as_nil then
        if value == cjson.null then
            return nil, err
        end
        if type(value) == "table" then
            without_nulls(value)
        end
    end
    return value, err
end

local NAMED_ONLY = { ["function"] = true, userdata = true, cdata = true, thread = true }

local function plain(value, seen)
    if NAMED_ONLY[type(value)] and value ~= cjson.null or seen[value] then
        return tostring(value)
    end
    if type(value) ~= "table" then
        return value
    end
    seen[value] = true
    local copy = {}
    for key, item in pairs(value) do
        copy[type(key) == "table" and tostring(key) or plain(key, seen)] = plain(item, seen)
    end
    return copy
end

function _M.encode(value, force)
    return cjson.encode(force and plain(value, {}) or value)
end

local function stable(value, out)
    if type(value) ~= "table" then
        out[#out + 1] = cjson.encode(value)
        return
    end
    if tab.isarray(value) and #value > 0 then
        for index, item in ipairs(value) do
            out[#out + 1] = index == 1 and "[" or ","
            stable(item, out)
        end
        out[#out + 1] = "]"
        return
    end
    local names = {}
    for name in pairs(value) do
        names[#names + 1] = tostring(name)
    end
    table.sort(names)
    out[#out + 1] = "{"
    for index, name in ipairs(names) do
        out[#out + 1] = (index == 1 and "" or ",") .. cjson.encode(name) .. ":"
        stable(value[name], out)
    end
    out[#out + 1] = "}"
end

-- The same text for the same value, whatever the order of its keys.
function _M.stably_encode(value)
    local out = {}
    stable(value, out)
    return table.concat(out)
end

-- Encoded only when the line of the log that it is part of is written.
function _M.delay_encode(value, force)
    return setmetatable({ data = value, force = force }, {
        __tostring = function(self)
            return _M.encode(self.data, self.force) or ""
        end,
    })
end

return _M
