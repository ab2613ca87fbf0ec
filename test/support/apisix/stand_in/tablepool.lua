-- Tables that are used again, emptied, as APISIX does with a request's ctx: what a plugin keeps of
-- one beyond the log phase is another request's.
local clear = require "table.clear"

local pools = {}

local _M = {}

function _M.fetch(name)
    local pool = pools[name]
    return pool and table.remove(pool) or {}
end

function _M.release(name, tab, keep)
    if not keep then
        setmetatable(tab, nil)
        clear(tab)
    end
    local pool = pools[name] or {}
    pools[name] = pool
    pool[#pool + 1] = tab
end

return _M
