-- What an environment had not begun when it ended, taken over into the next one's channel.
--
-- Runs on the Lua side; nothing here yields. Invariants: the old ring may have been written to by
-- whoever had it, so nothing in it is believed: lengths are checked, and a message that is not
-- whole is dropped. Until all is sent the channel shows no room to anybody else, so the order
-- stays.

local bit = require "bit"
local buffers = require "resty.ts.buffers"
local wire = require "resty.ts.wire"

local ffi_copy = require("ffi").copy
local band = bit.band
local rshift = bit.rshift

local HEADER_BYTES = wire.HEADER_BYTES
local FLAG_MORE = wire.FLAG_MORE
local KIND_CALL = wire.KIND_CALL
local KIND_NOTIFY = wire.KIND_NOTIFY
local KIND_CHUNK = wire.KIND_CHUNK
local WRAP = 4294967296

local _M = {}


-- Adds a record's payload to a message. Returns whether it fits.
local function append(message, from, length)
    if message.length + length > message.total then
        return false
    end
    ffi_copy(message.buffer + message.length, from, length)
    message.length = message.length + length
    return true
end


-- Copies the calls and notifications that the host of this channel has not begun, in their order.
-- Returns a list of { kind, pending, id, a, b, buffer, size, length, carried = true }.
function _M.collect(channel)
    local lib, sq32 = channel.lib, channel.sq32
    local messages, partial = {}, {}
    local at = lib.rts_sq_begun(channel.c)
    local tail = channel.sq_tail
    local left = (tail - at) % WRAP
    if left > channel.bytes or band(at, 7) ~= 0 then
        return messages
    end
    while left > 0 do
        local offset = band(at, channel.mask)
        local i = rshift(offset, 2)
        local length, word, id = sq32[i], sq32[i + 1], sq32[i + 2]
        local size = HEADER_BYTES + band(length + 7, -8)
        if length > channel.max_payload or size > left then
            return messages
        end
        local kind = band(word, 0xff)
        local message
        if kind == KIND_CHUNK then
            message = partial[id]
        elseif kind == KIND_CALL or kind == KIND_NOTIFY then
            local total = sq32[i + 5]
            -- One that is whole is in the ring.
            if total <= left then
                local buffer, buffer_size = buffers.take(total)
                message = {
                    kind = kind, pending = rshift(word, 16), id = id, a = sq32[i + 3],
                    b = sq32[i + 4], total = total, buffer = buffer, size = buffer_size, length = 0,
                    carried = true,
                }
                partial[id] = message
            end
        end
        if message then
            local whole = append(message, channel.sq + offset + HEADER_BYTES, length)
            if not whole or band(rshift(word, 8), FLAG_MORE) == 0 then
                partial[id] = nil
                if whole and message.length == message.total then
                    messages[#messages + 1] = message
                else
                    buffers.give(message.buffer, message.size)
                end
            end
        end
        at = (at + size) % WRAP
        left = left - size
    end
    for _, message in pairs(partial) do
        buffers.give(message.buffer, message.size)
    end
    return messages
end


-- Those of the messages that have not been sent yet and that `is_wanted`, to be sent anew.
function _M.rest(messages, is_wanted)
    local rest = {}
    for i = messages.first or 1, #messages do
        local m = messages[i]
        if is_wanted(m) then
            m.sent = nil
            rest[#rest + 1] = m
        else
            buffers.give(m.buffer, m.size)
        end
    end
    return rest
end


-- Sends as much of the messages as there is room for, in their order.
-- Returns whether all is sent; else what is left stays in the list.
function _M.send(channel, messages)
    local first = messages.first or 1
    while messages[first] do
        local m = messages[first]
        local sent = channel:send_part(m.kind, m.id, m.a, m.b, m.buffer, m.length, m.sent or 0)
        if not sent then
            messages.first = first
            return false
        end
        m.sent = sent
        if sent == m.length then
            buffers.give(m.buffer, m.size)
            messages[first] = false
            first = first + 1
        end
    end
    return true
end


return _M
