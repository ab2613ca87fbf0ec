-- core.table: Lua's own, LuaJIT's additions, and what APISIX puts on top.
local new_tab, clear = require "table.new", require "table.clear"

local _M = setmetatable({
    version = 0.2,
    new = new_tab,
    clear = clear,
    nkeys = require "table.nkeys",
    clone = require "table.clone",
    isarray = require "table.isarray",
    isempty = require "table.isempty",
}, { __index = table })

function _M.insert_tail(tab, ...)
    local at = #tab
    for i = 1, select("#", ...) do
        tab[at + i] = (select(i, ...))
    end
    return at + select("#", ...)
end

function _M.set(tab, ...)
    for i = 1, select("#", ...) do
        tab[i] = (select(i, ...))
    end
end

-- tab.a.b.c of (tab, "a", "b", "c"), or nil where the way ends early.
function _M.try_read_attr(tab, ...)
    for i = 1, select("#", ...) do
        if type(tab) ~= "table" then
            return nil
        end
        tab = tab[(select(i, ...))]
    end
    return tab
end

function _M.array_find(array, wanted)
    if type(array) == "table" then
        for index, item in ipairs(array) do
            if item == wanted then
                return index
            end
        end
    end
    return nil
end

-- A copy that has the original's metatables (the very same ones), and each table once.
local function copy_of(orig, copies, path, opts)
    local copy = {}
    copies[orig] = copy
    local shallow = opts and opts.shallow_prefix
    local in_prefix = shallow and (path == shallow or path:sub(1, #shallow + 1) == shallow .. ".")
    for key, value in pairs(orig) do
        local below = path .. "." .. tostring(key)
        if type(value) ~= "table" or in_prefix
            or opts and _M.array_find(opts.shallows, below) then
            copy[key] = value
        else
            copy[key] = copies[value] or copy_of(value, copies, below, opts)
        end
    end
    return setmetatable(copy, getmetatable(orig))
end

function _M.deepcopy(orig, opts)
    if type(orig) ~= "table" then
        return orig
    end
    return copy_of(orig, {}, "self", opts)
end

function _M.deep_eq(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, value in pairs(a) do
        if not _M.deep_eq(value, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end

-- The object's fields that are named in `attrs`.
function _M.pick(object, attrs)
    local picked = {}
    for key, value in pairs(object) do
        if attrs[key] ~= nil then
            picked[key] = value
        end
    end
    return picked
end

return _M
