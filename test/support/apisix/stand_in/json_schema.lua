-- Checks values by JSON Schema (drafts 4 to 7) with the results and the messages of the validator
-- that APISIX uses: an empty table is an object and an array, defaults are filled in in place.
-- Runs wherever a configuration is checked: it neither yields nor asks nginx for a request.
local tab = require "apisix.core.table"
local cjson = require "cjson.safe"

local check

local KIND_OBJECT, KIND_EMPTY, KIND_ARRAY = 0, 1, 2

local function kind_of(value)
    local keys = tab.nkeys(value)
    if keys == 0 then
        return KIND_EMPTY
    end
    return #value == keys and KIND_ARRAY or KIND_OBJECT
end

local function is_object(value)
    return type(value) == "table" and kind_of(value) <= KIND_EMPTY
end

local function is_array(value)
    return type(value) == "table" and kind_of(value) >= KIND_EMPTY
end

local TYPES = {
    object = is_object,
    array = is_array,
    table = function(value) return type(value) == "table" end,
    integer = function(value) return type(value) == "number" and value % 1 == 0 end,
    null = function(value) return value == cjson.null end,
}
for _, name in ipairs { "string", "boolean", "number", "function" } do
    TYPES[name] = function(value) return type(value) == name end
end

local function has_type(name, value)
    local test = TYPES[name] or error("invalid JSON type: " .. tostring(name))
    return test(value)
end

local function characters(text)
    return select(2, text:gsub("[^\128-\191]", ""))
end

local function matches(text, pattern)
    return ngx.re.find(text, pattern, "jo") ~= nil
end

local function sorted_names(map)
    local names = {}
    for name in pairs(map) do
        names[#names + 1] = name
    end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    return names
end

-- The schema that a reference leads to, in the same document.
local function resolve(schema, root)
    while type(schema) == "table" and schema["$ref"] do
        local reference = schema["$ref"]
        local target = root
        for part in reference:gsub("^#", ""):gmatch("[^/]+") do
            part = part:gsub("~1", "/"):gsub("~0", "~")
            target = target[part]
            if target == nil then
                target = tonumber(part) and root[tonumber(part) + 1]
            end
            if target == nil then
                error("reference not found: " .. reference)
            end
        end
        schema = target
    end
    return schema
end

local function check_types(schema, value)
    if type(schema.type) == "string" and not has_type(schema.type, value) then
        return false, "wrong type: expected " .. schema.type .. ", got " .. type(value)
    end
    if type(schema.type) == "table" then
        for _, name in ipairs(schema.type) do
            if has_type(name, value) then
                return true
            end
        end
        return false, "wrong type: expected one of " .. table.concat(schema.type, ", ")
            .. ", got " .. type(value)
    end
    return true
end

local function check_known(schema, value, root)
    for _, name in ipairs(sorted_names(schema.properties or {})) do
        local below = schema.properties[name]
        if value[name] ~= nil then
            local ok, err = check(below, value[name], root)
            if not ok then
                return false, ("property %q validation failed: "):format(name) .. err
            end
        elseif tab.array_find(schema.required, name) then
            return false, ("property %q is required"):format(name)
        elseif type(below) == "table" and below.default ~= nil and below.default ~= cjson.null then
            value[name] = tab.deepcopy(below.default)
        end
    end
    for _, name in ipairs(schema.required or {}) do
        if value[name] == nil then
            return false, ("property %q is required"):format(name)
        end
    end
    return true
end

local function check_dependencies(schema, value, root)
    for _, name in ipairs(sorted_names(schema.dependencies or {})) do
        local needs = schema.dependencies[name]
        if value[name] ~= nil then
            if type(needs) == "table" and #needs > 0 then
                for _, other in ipairs(needs) do
                    if value[other] == nil then
                        return false, ("property %q is required when %q is set")
                            :format(other, name)
                    end
                end
            else
                local ok, err = check(needs, value, root)
                if not ok then
                    return false, ("failed to validate dependent schema for %q: "):format(name)
                        .. err
                end
            end
        end
    end
    return true
end

local function check_others(schema, value, root)
    local patterns, others = schema.patternProperties or {}, schema.additionalProperties
    for _, name in ipairs(sorted_names(value)) do
        local known = schema.properties and schema.properties[name] ~= nil
        for _, pattern in ipairs(sorted_names(patterns)) do
            if matches(name, pattern) then
                known = true
                local ok, err = check(patterns[pattern], value[name], root)
                if not ok then
                    return false, ("failed to validate %s (matching %q): "):format(name, pattern)
                        .. err
                end
            end
        end
        if not known and others == false then
            return false, "additional properties forbidden, found " .. name
        end
        if not known and type(others) == "table" then
            local ok, err = check(others, value[name], root)
            if not ok then
                return false, "failed to validate additional property " .. name .. ": " .. err
            end
        end
    end
    return true
end

local function check_object(schema, value, root)
    local ok, err = check_known(schema, value, root)
    if ok then
        ok, err = check_dependencies(schema, value, root)
    end
    if ok then
        ok, err = check_others(schema, value, root)
    end
    if not ok then
        return false, err
    end
    local count = tab.nkeys(value)
    if schema.minProperties and count < schema.minProperties then
        return false, "expect object to have at least " .. schema.minProperties .. " properties"
    end
    if schema.maxProperties and count > schema.maxProperties then
        return false, "expect object to have at most " .. schema.maxProperties .. " properties"
    end
    return true
end

local function check_items(schema, value, root)
    local items = schema.items
    if type(items) ~= "table" then
        return true
    end
    local positional = #items > 0
    for index, item in ipairs(value) do
        local below, what = items, "item "
        if positional then
            below = items[index]
            if below == nil then
                below, what = schema.additionalItems, "additional item "
            end
        end
        if below == false then
            return false, "found unexpected extra items in array"
        end
        if type(below) == "table" then
            local ok, err = check(below, item, root)
            if not ok then
                return false, "failed to validate " .. what .. index .. ": " .. err
            end
        end
    end
    return true
end

local function check_array(schema, value, root)
    if schema.minItems and #value < schema.minItems then
        return false, "expect array to have at least " .. schema.minItems .. " items"
    end
    if schema.maxItems and #value > schema.maxItems then
        return false, "expect array to have at most " .. schema.maxItems .. " items"
    end
    local ok, err = check_items(schema, value, root)
    if not ok then
        return false, err
    end
    if schema.uniqueItems then
        for second = 2, #value do
            for first = 1, second - 1 do
                if tab.deep_eq(value[first], value[second]) then
                    return false, ("expected unique items but items %d and %d are equal")
                        :format(first, second)
                end
            end
        end
    end
    return true
end

local function check_string(schema, value)
    local length = characters(value)
    if schema.minLength and length < schema.minLength then
        return false, ("string too short, expected at least %d, got %d")
            :format(schema.minLength, length)
    end
    if schema.maxLength and length > schema.maxLength then
        return false, ("string too long, expected at most %d, got %d")
            :format(schema.maxLength, length)
    end
    if schema.pattern and not matches(value, schema.pattern) then
        return false, ("failed to match pattern %q with %q"):format(schema.pattern, value)
    end
    return true
end

local function check_number(schema, value)
    local function fails(limit, text)
        return false, ("expected %s to be %s %s"):format(value, text, limit)
    end
    if schema.minimum and value < schema.minimum then
        return fails(schema.minimum, "at least")
    end
    if schema.exclusiveMinimum and value <= schema.exclusiveMinimum then
        return fails(schema.exclusiveMinimum, "greater than")
    end
    if schema.maximum and value > schema.maximum then
        return fails(schema.maximum, "at most")
    end
    if schema.exclusiveMaximum and value >= schema.exclusiveMaximum then
        return fails(schema.exclusiveMaximum, "smaller than")
    end
    if schema.multipleOf then
        local quotient = value / schema.multipleOf
        if math.abs(quotient - math.floor(quotient + 0.5)) > 1e-12 * math.max(1, quotient) then
            return fails(schema.multipleOf, "a multiple of")
        end
    end
    return true
end

local function check_alternatives(schema, value, root)
    for index, below in ipairs(schema.allOf or {}) do
        local ok, err = check(below, value, root)
        if not ok then
            return false, "allOf " .. index .. " failed: " .. err
        end
    end
    if schema.anyOf then
        local matched, required = false, {}
        for _, below in ipairs(schema.anyOf) do
            matched = matched or (check(below, value, root))
            if type(below) == "table" and below.required then
                required[#required + 1] = cjson.encode(below.required)
            end
        end
        if not matched then
            return false, "object matches none of the required"
                .. (#required > 0 and ": " .. table.concat(required, " or ") or "")
        end
    end
    if schema.oneOf then
        local matched
        for index, below in ipairs(schema.oneOf) do
            if check(below, value, root) then
                if matched then
                    return false, ("value should match only one schema, "
                        .. "but matches both schemas %d and %d"):format(matched, index)
                end
                matched = index
            end
        end
        if not matched then
            return false, "value should match only one schema, but matches none"
        end
    end
    return true
end

local function check_conditions(schema, value, root)
    if schema["if"] ~= nil then
        local branch = check(schema["if"], value, root) and "then" or "else"
        if schema[branch] ~= nil and not check(schema[branch], value, root) then
            return false, branch .. " clause did not match"
        end
    end
    if schema["not"] ~= nil and check(schema["not"], value, root) then
        return false, "value wasn't supposed to match schema"
    end
    if schema.enum then
        local found = false
        for _, allowed in ipairs(schema.enum) do
            found = found or tab.deep_eq(allowed, value)
        end
        if not found then
            return false, "matches none of the enum values"
        end
    end
    if schema.const ~= nil and not tab.deep_eq(schema.const, value) then
        return false, "failed to check const value"
    end
    return true
end

-- true, or false and what is wrong.
function check(schema, value, root)
    schema = resolve(schema, root)
    if type(schema) == "boolean" then
        return schema, not schema and "expect false always" or nil
    end
    local ok, err = check_types(schema, value)
    if ok and is_object(value) then
        ok, err = check_object(schema, value, root)
    end
    if ok and is_array(value) then
        ok, err = check_array(schema, value, root)
    end
    if ok and type(value) == "string" then
        ok, err = check_string(schema, value)
    end
    if ok and type(value) == "number" then
        ok, err = check_number(schema, value)
    end
    if ok then
        ok, err = check_alternatives(schema, value, root)
    end
    if ok then
        ok, err = check_conditions(schema, value, root)
    end
    return ok, err
end

local _M = {}

function _M.check(schema, value)
    return check(schema, value, schema)
end

return _M
