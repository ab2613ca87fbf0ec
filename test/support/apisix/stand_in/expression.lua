-- The conditions of `_meta.filter`: [["arg_a", "==", "1"], …], all of which must hold.
-- A small part of what APISIX's own evaluator knows; what it does not know is an error in words.
local OPERATORS = {
    ["=="] = function(a, b) return tostring(a) == tostring(b) end,
    ["~="] = function(a, b) return tostring(a) ~= tostring(b) end,
    [">"] = function(a, b) return a ~= nil and tonumber(a) > tonumber(b) end,
    ["<"] = function(a, b) return a ~= nil and tonumber(a) < tonumber(b) end,
    ["~~"] = function(a, b) return a ~= nil and ngx.re.find(tostring(a), b, "jo") ~= nil end,
}

local _M = {}

-- A function of ctx.var, or nil and what is wrong.
function _M.new(conditions)
    for _, condition in ipairs(conditions) do
        if type(condition) ~= "table" or #condition ~= 3 then
            return nil, "rule should be a table of three"
        end
        if not OPERATORS[condition[2]] then
            return nil, "invalid operator '" .. tostring(condition[2]) .. "'"
        end
    end
    return function(vars)
        for _, condition in ipairs(conditions) do
            if not OPERATORS[condition[2]](vars[condition[1]], condition[3]) then
                return false
            end
        end
        return true
    end
end

return _M
