-- Which entry of a list answers a method and a path. Paths are exact, or end in "*" and match what
-- begins so; exact ones go before, then longer ones, then those with the higher priority.
-- Pure: knows no request.
local tab = require "apisix.core.table"

local _M = {}

local function order(a, b)
    if a.exact ~= b.exact then
        return a.exact
    elseif #a.path ~= #b.path then
        return #a.path > #b.path
    end
    return a.priority > b.priority
end

-- @param entries { paths = { … }, methods = { … } or nil, hosts = { … } or nil, priority, value }
function _M.new(entries)
    local rows = {}
    for _, entry in ipairs(entries) do
        for _, path in ipairs(entry.paths) do
            local prefix = path:match("^(.*)%*$")
            rows[#rows + 1] = {
                path = prefix or path, exact = prefix == nil, priority = entry.priority or 0,
                methods = entry.methods, hosts = entry.hosts, value = entry.value,
            }
        end
    end
    table.sort(rows, order)
    return rows
end

local function fits(row, method, path, host)
    if row.exact and row.path ~= path or path:sub(1, #row.path) ~= row.path then
        return false
    end
    return (not row.methods or tab.array_find(row.methods, method) ~= nil)
        and (not row.hosts or tab.array_find(row.hosts, host) ~= nil)
end

-- The value of the entry that fits best.
function _M.match(rows, method, path, host)
    for _, row in ipairs(rows) do
        if fits(row, method, path, host) then
            return row.value
        end
    end
end

return _M
