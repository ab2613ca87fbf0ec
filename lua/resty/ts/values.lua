-- The types that Lua itself has not: bytes, null, arrays. Shared by encode.lua and decode.lua.

local ffi = require "ffi"

local setmetatable = setmetatable
local getmetatable = getmetatable
local type = type

local _M = {}

-- How many keys a table has.
do
    local ok, nkeys = pcall(require, "table.nkeys")
    _M.nkeys = ok and nkeys or function(t)
        local n = 0
        for _ in next, t do
            n = n + 1
        end
        return n
    end
end

-- null inside a table. In nginx it is ngx.null, so cjson and others know it.
_M.null = ngx and ngx.null or ffi.cast("void *", 0)

local array_mt = { __name = "resty.ts.array" }
_M.array_mt = array_mt

-- A byte string: { s }, so that ngx.print and table.concat take it as it is.
local bytes_mt = { __name = "resty.ts.bytes" }
_M.bytes_mt = bytes_mt

function bytes_mt.__tostring(self)
    return self[1]
end

function bytes_mt.__len(self)
    return #self[1]
end

function bytes_mt.__eq(a, b)
    return a[1] == b[1]
end

function bytes_mt.__concat(a, b)
    if getmetatable(a) == bytes_mt then
        a = a[1]
    end
    if getmetatable(b) == bytes_mt then
        b = b[1]
    end
    return a .. b
end


-- Bytes that are somewhere else, { pointer or string, count }: goes out as a byte string. Read when
-- it is encoded only, so one table serves for all.
_M.view_mt = { __name = "resty.ts.view" }

-- The same, of MessagePack that is there already: goes out as it is. A message holds as many values
-- as its array says, which is up to who makes it.
_M.packed_mt = { __name = "resty.ts.packed" }


-- Marks a Lua string as bytes: it arrives as a Uint8Array, whatever is in it.
function _M.bytes(s)
    if type(s) ~= "string" then
        error("ts.bytes takes a string, not a " .. type(s), 2)
    end
    return setmetatable({ s }, bytes_mt)
end


-- Marks a table as an array, also an empty one. Returns the same table.
function _M.array(t)
    if type(t) ~= "table" then
        error("ts.array takes a table, not a " .. type(t), 2)
    end
    return setmetatable(t, array_mt)
end


return _M
