-- core.string: Lua's own, with searches for plain text.
local _M = setmetatable({ version = 0.1 }, { __index = string })

function _M.find(haystack, needle, from)
    return string.find(haystack, needle, from or 1, true)
end

local function both_strings(s, other, what)
    if type(s) ~= "string" or type(other) ~= "string" then
        error("unexpected type: s:" .. type(s) .. ", " .. what .. ":" .. type(other))
    end
end

function _M.has_prefix(s, prefix)
    both_strings(s, prefix, "prefix")
    return s:sub(1, #prefix) == prefix
end

function _M.has_suffix(s, suffix)
    both_strings(s, suffix, "suffix")
    return #s >= #suffix and s:sub(#s - #suffix + 1) == suffix
end

return _M
