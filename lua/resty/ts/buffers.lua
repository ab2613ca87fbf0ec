-- Buffers for messages of more than one record, used again: one that is new for each large message
-- is memory that the garbage collector gives back late.
--
-- Runs on the Lua side. Invariant: who has taken a buffer has it alone until it is given back.

local ffi = require "ffi"
local native = require "resty.ts.native"

local ffi_new = ffi.new

local LEAST_BYTES = 256
local MOST_KEPT_BYTES = 16777216
-- From here on memory is libc's: it is not cleared first, and is given back at once.
local LARGE_BYTES = 1048576

local _M = {}

local free = {} -- size -> stack
local kept_bytes = 0


-- A uint8_t[] or uint8_t * of at least `bytes`, and its size.
function _M.take(bytes)
    local size = LEAST_BYTES
    while size < bytes do
        size = size * 2
    end
    local stack = free[size]
    if stack and #stack > 0 then
        local buffer = stack[#stack]
        stack[#stack] = nil
        kept_bytes = kept_bytes - size
        return buffer, size
    end
    if size >= LARGE_BYTES then
        return native.allocate(size), size
    end
    return ffi_new("uint8_t[?]", size), size
end


function _M.give(buffer, size)
    if kept_bytes + size > MOST_KEPT_BYTES then
        if size >= LARGE_BYTES then
            native.free(buffer)
        end
        return
    end
    kept_bytes = kept_bytes + size
    local stack = free[size]
    if not stack then
        stack = {}
        free[size] = stack
    end
    stack[#stack + 1] = buffer
end


return _M
