-- Inline configurations found by what is in them: one that is written in a handler is a new table
-- for each request, and to encode it each time, for its key, costs the worker 2 µs.
--
-- Runs on the Lua side. Invariant: what is found was added for the very same content. Only for
-- tables of a few strings, numbers and booleans, and written out: a loop would end the trace of
-- every request that comes to it.

local nkeys = require("resty.ts.values").nkeys

local getmetatable = getmetatable
local type = type
local pairs = pairs
local table_sort = table.sort

local MOST_KEYS = 4
local PLAIN = { string = true, number = true, boolean = true }

local _M = {}

-- A plugin's name -> how many keys -> { their names, in order; tree: the first one's value -> the
-- second's -> … -> the chain }.
local shapes = {}
-- The chains that were given to `add`: of one content each, so it is looked at once, also where it
-- is not for this.
local seen = {}


local function step(node, conf, key)
    if not node or not key then
        return node
    end
    return node[conf[key]]
end


-- The chain that was added for this content, or nil.
function _M.find(name, conf)
    local shape = shapes[name]
    shape = shape and shape[nkeys(conf)]
    if not shape or getmetatable(conf) then
        return nil
    end
    local node = step(shape.tree, conf, shape[1])
    node = step(node, conf, shape[2])
    node = step(node, conf, shape[3])
    node = step(node, conf, shape[4])
    return node
end


-- The keys in order; nil when it is not a table for this.
local function keys_of(conf)
    if getmetatable(conf) then
        return nil
    end
    local keys = {}
    for key, value in pairs(conf) do
        -- 0 and -0 are the same key of a table, and not the same for JavaScript.
        if #keys == MOST_KEYS or type(key) ~= "string" or not PLAIN[type(value)] or value == 0
           or value ~= value
        then
            return nil
        end
        keys[#keys + 1] = key
    end
    table_sort(keys)
    return keys
end


-- Has `find` find the chain. Of a plugin's configurations with as many keys, those that have the
-- first one's.
function _M.add(name, conf, chain)
    if seen[chain] then
        return
    end
    seen[chain] = true
    local keys = keys_of(conf)
    if not keys then
        return
    end
    local of_name = shapes[name] or {}
    shapes[name] = of_name
    local n = #keys
    if n == 0 then
        of_name[0] = { tree = chain }
        return
    end
    local shape = of_name[n] or keys
    shape.tree = shape.tree or {}
    for i = 1, n do
        if shape[i] ~= keys[i] then
            return
        end
    end
    of_name[n] = shape
    local node = shape.tree
    for i = 1, n - 1 do
        local value = conf[keys[i]]
        node[value] = node[value] or {}
        node = node[value]
    end
    node[conf[keys[n]]] = chain
end


-- Forgets all of them.
function _M.clear()
    shapes, seen = {}, {}
end


return _M
