-- Lua's side of a channel: writes submissions, reads completions.
--
-- Runs on the Lua side; nothing here yields. Invariant: LuaJIT hoists FFI loads out of loops, so a
-- cursor of the host's is loaded by a C call only (rts_sq_head, rts_cq_tail); bytes of a record
-- are read after that call and before rts_cq_release. Rings are mapped twice: no record wraps.

local ffi = require "ffi"
local bit = require "bit"
local buffers = require "resty.ts.buffers"
local decode = require "resty.ts.decode"
local encode = require "resty.ts.encode"
local native = require "resty.ts.native"
local wire = require "resty.ts.wire"

local ffi_new = ffi.new
local ffi_cast = ffi.cast
local ffi_copy = ffi.copy
local ffi_str = ffi.string
local band = bit.band
local rshift = bit.rshift
local math_min = math.min
local next = next
local pairs = pairs
local setmetatable = setmetatable

local HEADER_BYTES = wire.HEADER_BYTES
local FLAG_MORE = wire.FLAG_MORE * 256
local KIND_CHUNK = wire.KIND_CHUNK
local KIND_RESULT = wire.KIND_RESULT
local KIND_ERROR = wire.KIND_ERROR
local KIND_ASK = wire.KIND_ASK
local WRAP = 4294967296
local ROUNDS = 64

-- With less than this free, the cursor of the host is looked at again before encoding.
local LITTLE_ROOM = 1024

local u32_ptr = ffi.typeof("uint32_t *")

local _M = {}
local mt = { __index = _M }


-- A channel that is not open yet.
function _M.new(lib, ring_bytes, max_message_bytes, first_cursor)
    encode.init(lib, max_message_bytes)
    return setmetatable({
        lib = lib,
        bytes = ring_bytes,
        first_cursor = first_cursor or 0,
        max_message_bytes = max_message_bytes,
        capacity = 0,           -- bytes that may be written: of the ring, or none
        c = nil,                -- this and what follows: of the mapping that is open
        sq = nil,
        cq = nil,
        sq32 = nil,
        cq32 = nil,
        mask = ring_bytes - 1,
        max_payload = ring_bytes / 4 - HEADER_BYTES,
        sq_tail = 0,            -- ours
        sq_head = 0,            -- the host's, as last seen
        cq_head = 0,            -- ours
        host = 0,               -- at the last submission: 0 awake, 1 asleep, 2 to be kicked
        partial = {},           -- id -> { buffer, filled, total, kind, a }
    }, mt)
end


-- A fresh mapping. Returns it, or nil, err (system, bad_option), code number.
function _M:create()
    local out = ffi_new("rts_channel_t *[1]")
    local code = self.lib.rts_channel_create(self.bytes, self.first_cursor, out,
                                             native.error_args())
    if code ~= 0 then
        return nil, native.error_text(), -code
    end
    return out[0]
end


-- Goes over to a mapping that `create` made.
function _M:open(c)
    local view = ffi_new("rts_view_t")
    self.lib.rts_channel_view(c, view)
    self.c = c
    self.sq, self.cq = view.sq, view.cq
    self.sq32, self.cq32 = ffi_cast(u32_ptr, view.sq), ffi_cast(u32_ptr, view.cq)
    self.sq_tail, self.sq_head, self.cq_head = view.sq_tail, view.sq_tail, view.cq_head
    self.capacity = self.bytes
    self.host = 0
    for _, entry in pairs(self.partial) do
        buffers.give(entry.buffer, entry.size)
    end
    self.partial = {}
end


-- Wakes whoever waits for the doorbell.
function _M:ring()
    self.lib.rts_bell_ring(self.c)
end


-- Bytes that may be written now; at least `wanted` unless there is not so much.
function _M:room(wanted)
    local room = self.capacity - (self.sq_tail - self.sq_head) % WRAP
    if room < wanted then
        self.sq_head = self.lib.rts_sq_head(self.c)
        room = self.capacity - (self.sq_tail - self.sq_head) % WRAP
    end
    return room
end


local function write_header(sq32, at, length, kind_and_flags, id, a, b, total)
    local i = rshift(at, 2)
    sq32[i] = length
    sq32[i + 1] = kind_and_flags
    sq32[i + 2] = id
    sq32[i + 3] = a
    sq32[i + 4] = b
    sq32[i + 5] = total
end


local function publish(self, length)
    local tail = (self.sq_tail + HEADER_BYTES + band(length + 7, -8)) % WRAP
    self.sq_tail = tail
    self.host = self.lib.rts_sq_publish(self.c, tail)
end


-- Encodes arguments into the ring as one record and publishes it: the way of almost every call.
-- Returns true;
-- or false, buffer, length, size when they did not fit: send them with send_part, then give the
-- buffer to buffers.give;
-- or nil, what, code when they cannot be carried (nothing was written).
function _M:send_arguments(kind, pending, id, a, b, n, v1, v2, v3, v4, more)
    local room = self:room(LITTLE_ROOM)
    local at = band(self.sq_tail, self.mask)
    local start = at + HEADER_BYTES
    -- With no room for a header even, the limit lies before the start: the encoder spills.
    local stop = at + math_min(room, self.max_payload + HEADER_BYTES)
    encode.begin(self.sq, start, stop)
    local what, code = encode.arguments(n, v1, v2, v3, v4, more)
    if what then
        encode.drop()
        return nil, what, code
    end
    local length, buffer, size = encode.finish()
    if length > self.max_message_bytes then
        if buffer then
            buffers.give(buffer, size)
        end
        return nil, length .. " bytes of arguments, and max_message_bytes is "
                    .. self.max_message_bytes, "too_large"
    end
    if buffer then
        return false, buffer, length, size
    end
    write_header(self.sq32, at, length, kind + pending * 65536, id, a, b, length)
    publish(self, length)
    return true
end


-- Sends as much of a message as there is room for.
-- sent: how much was sent before, 0 at first.
-- Returns how much is sent now; nothing was when it is nil.
function _M:send_part(kind, id, a, b, buffer, length, sent)
    local part = math_min(length - sent, self.max_payload)
    local room = self:room(HEADER_BYTES + part + 8)
    if room < HEADER_BYTES + band(part + 7, -8) then
        part = band(math_min(room, self.max_payload + HEADER_BYTES) - HEADER_BYTES, -8)
        -- Small pieces would cost more than they bring: wait for an eighth of the ring.
        if part < self.bytes / 8 - HEADER_BYTES then
            return nil
        end
    end
    local at = band(self.sq_tail, self.mask)
    ffi_copy(self.sq + at + HEADER_BYTES, buffer + sent, part)
    local more = sent + part < length and FLAG_MORE or 0
    if sent == 0 then
        write_header(self.sq32, at, part, kind + more, id, a, b, length)
    else
        write_header(self.sq32, at, part, KIND_CHUNK + more, id, 0, 0, 0)
    end
    publish(self, part)
    return sent + part
end


-- Sends a record whose payload is a short string. Returns false when there is no room.
function _M:send_text(kind, id, a, b, text)
    local length = #text
    if self:room(HEADER_BYTES + length + 8) < HEADER_BYTES + length + 8 then
        return false
    end
    local at = band(self.sq_tail, self.mask)
    ffi_copy(self.sq + at + HEADER_BYTES, text, length)
    write_header(self.sq32, at, length, kind, id, a, b, length)
    publish(self, length)
    return true
end


-- One chunk of a completion. Returns the whole message's entry when it was the last. The host sends
-- one message after the other, so what it can make us keep is one of max_message_bytes.
local function gather(self, at, length, kind_and_flags, id, a, total)
    local kind = band(kind_and_flags, 0xff)
    local entry = self.partial[id]
    if kind ~= KIND_CHUNK then
        if next(self.partial) or total > self.max_message_bytes then
            return nil, "a message of " .. total .. " bytes in parts"
        end
        local buffer, size = buffers.take(total)
        entry = { buffer = buffer, size = size, filled = 0, total = total, kind = kind, a = a }
        self.partial[id] = entry
    end
    if not entry or entry.filled + length > entry.total then
        return nil, "a chunk of " .. length .. " bytes"
    end
    ffi_copy(entry.buffer + entry.filled, self.cq + at + HEADER_BYTES, length)
    entry.filled = entry.filled + length
    if band(kind_and_flags, FLAG_MORE) ~= 0 then
        return false
    end
    self.partial[id] = nil
    if entry.filled ~= entry.total then
        return nil, "a message that ends after " .. entry.filled .. " bytes"
    end
    return entry
end


-- Hands one message to `sink`: sink:on_result(id, value, err), sink:on_error(id, code, text),
-- sink:on_ask(id, value, err), sink:on_other(kind, a, text, id).
local function deliver(sink, kind, id, a, bytes, at, length)
    if kind == KIND_RESULT then
        sink:on_result(id, decode.decode(bytes, at, length))
    elseif kind == KIND_ERROR then
        sink:on_error(id, a, ffi_str(bytes + at, length))
    elseif kind == KIND_ASK then
        sink:on_ask(a, decode.decode(bytes, at, length))
    else
        sink:on_other(kind, a, ffi_str(bytes + at, length), id)
    end
end


-- Hands completions that are there to `sink`: all, but what comes meanwhile ROUNDS times only, as
-- the host may never stop.
-- Returns how many records; or nil, err when one is malformed: the channel is of no more use then.
function _M:drain(sink)
    local lib, c = self.lib, self.c
    local cq, cq32 = self.cq, self.cq32
    local mask, ring_bytes = self.mask, self.bytes
    local head = self.cq_head
    local tail = lib.rts_cq_tail(c)
    local count, rounds = 0, 0
    while head ~= tail and rounds < ROUNDS do
        rounds = rounds + 1
        local available = (tail - head) % WRAP
        if available > ring_bytes then
            return nil, "the completion cursor is " .. available .. " bytes ahead"
        end
        while head ~= tail do
            local here = (tail - head) % WRAP
            if here < HEADER_BYTES then
                return nil, "a completion of which " .. here .. " bytes are there"
            end
            local at = band(head, mask)
            local i = rshift(at, 2)
            local length = cq32[i]
            local kind_and_flags = cq32[i + 1]
            local size = HEADER_BYTES + band(length + 7, -8)
            if length > self.max_payload or size > here
               or kind_and_flags > FLAG_MORE + 255
            then
                return nil, "a completion of " .. length .. " bytes, kind word " .. kind_and_flags
            end
            local id, a = cq32[i + 2], cq32[i + 3]
            if kind_and_flags > 255 or kind_and_flags == KIND_CHUNK then
                local entry, err = gather(self, at, length, kind_and_flags, id, a, cq32[i + 5])
                if entry then
                    deliver(sink, entry.kind, id, entry.a, entry.buffer, 0, entry.total)
                    buffers.give(entry.buffer, entry.size) -- decoding copies
                elseif err then
                    return nil, err
                end
            else
                deliver(sink, kind_and_flags, id, a, cq, at + HEADER_BYTES, length)
            end
            head = (head + size) % WRAP
            -- Before the sink can call us again: each record is read once.
            self.cq_head = head
            count = count + 1
        end
        lib.rts_cq_release(c, head)
        tail = lib.rts_cq_tail(c)
    end
    return count
end


return _M
