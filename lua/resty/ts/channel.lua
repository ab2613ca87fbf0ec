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
local tonumber = tonumber

local HEADER_BYTES = wire.HEADER_BYTES
local FLAG_MORE = wire.FLAG_MORE * 256
local KIND_CHUNK = wire.KIND_CHUNK
local KIND_RESULT = wire.KIND_RESULT
local KIND_ERROR = wire.KIND_ERROR
local KIND_ASK = wire.KIND_ASK
local WRAP = 4294967296
-- What one drain takes at most, so that nginx has its turn: records, as each may wake a coroutine,
-- and µs. The clock is read after so many bytes of records.
local MOST_RECORDS = 256
local MOST_US = 2000
local CLOCK_BYTES = 16384
-- An array or map of more bytes than this is decoded in steps.
local LARGE_BYTES = 32768

-- With less than this free, the cursor of the host is looked at again before encoding.
local LITTLE_ROOM = 1024

local u32_ptr = ffi.typeof("uint32_t *")
local char_ptr = ffi.typeof("const char *")

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
        host = 0,               -- at the last submission: 0 awake, 1 asleep
        partial = {},           -- id -> { buffer, size, filled, total, kind, a, id }
        whole = nil,            -- such an entry that is being decoded, with its `decoding`
        work = { left = 0, stop_at = 0 },
        more = false,           -- whether the last drain left something to the next turn
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
    if self.whole then
        buffers.give(self.whole.buffer, self.whole.size)
    end
    self.partial, self.whole, self.more = {}, nil, false
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


-- Encodes arguments into the ring, behind where a record's header goes: the way of almost every
-- call.
-- It throws when there is no memory.
-- Returns their length: send_encoded sends them;
-- or length, buffer, size, pieces when they did not fit: send them with send_part, then give the
-- buffer to buffers.give;
-- or nil, what, code when they cannot be carried.
function _M:encode(n, v1, v2, v3, v4, more)
    local room = self:room(LITTLE_ROOM)
    local at = band(self.sq_tail, self.mask)
    local start = at + HEADER_BYTES
    -- With no room for a header even, the limit lies before the start: the encoder spills.
    local stop = at + math_min(room, self.max_payload + HEADER_BYTES)
    encode.begin(self.sq, start, stop, true)
    local what, code = encode.arguments(n, v1, v2, v3, v4, more)
    if what then
        encode.drop()
        return nil, what, code
    end
    local length, buffer, size, pieces = encode.finish()
    if length > self.max_message_bytes then
        if buffer then
            buffers.give(buffer, size)
        end
        return nil, length .. " bytes of arguments, and max_message_bytes is "
                    .. self.max_message_bytes, "too_large"
    end
    return length, buffer, size, pieces
end


-- Publishes what `encode` has put into the ring just before, as one record.
function _M:send_encoded(kind, pending, id, a, b, length)
    write_header(self.sq32, band(self.sq_tail, self.mask), length, kind + pending * 65536, id, a, b,
                 length)
    publish(self, length)
end


-- Copies n bytes of a message, from `from` on: of its buffer, with the pieces in it.
local function copy_pieces(to, buffer, pieces, from, n)
    local before = 0 -- bytes of pieces
    for i = 1, #pieces do
        local piece = pieces[i]
        local begins = piece.at + before
        if from < begins and n > 0 then
            local part = math_min(n, begins - from)
            ffi_copy(to, buffer + (from - before), part)
            to, from, n = to + part, from + part, n - part
        end
        if from >= begins and from < begins + piece.length and n > 0 then
            local part = math_min(n, begins + piece.length - from)
            ffi_copy(to, ffi_cast(char_ptr, piece.string) + (from - begins), part)
            to, from, n = to + part, from + part, n - part
        end
        before = before + piece.length
    end
    ffi_copy(to, buffer + (from - before), n)
end


-- Sends as much of a message as there is room for.
-- sent: how much was sent before, 0 at first. pieces: as from `encode`, or nil.
-- Returns how much is sent now; nothing was when it is nil.
function _M:send_part(kind, id, a, b, buffer, length, sent, pieces)
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
    if pieces then
        copy_pieces(self.sq + at + HEADER_BYTES, buffer, pieces, sent, part)
    else
        ffi_copy(self.sq + at + HEADER_BYTES, buffer + sent, part)
    end
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
        entry = { buffer = buffer, size = size, filled = 0, total = total, kind = kind, a = a,
                  id = id }
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


-- Whether a large value is decoded in steps: a string is one copy, however long it is.
local function takes_steps(kind, bytes, at)
    if kind ~= KIND_RESULT and kind ~= KIND_ASK then
        return false
    end
    local code = bytes[at]
    return code >= 0x80 and code < 0xa0 or code >= 0xdc and code < 0xe0
end


-- An entry as `gather` makes it, of a record that is a whole message.
local function copied(self, kind, id, a, at, length)
    local buffer, size = buffers.take(length)
    ffi_copy(buffer, self.cq + at + HEADER_BYTES, length)
    return { buffer = buffer, size = size, total = length, kind = kind, a = a, id = id }
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


-- Hands self.whole to `sink`. Returns whether that is done; else it goes on when called again.
local function deliver_whole(self, sink)
    local entry = self.whole
    local kind, id, a, total = entry.kind, entry.id, entry.a, entry.total
    if not entry.decoding and (total <= LARGE_BYTES or not takes_steps(kind, entry.buffer, 0))
    then
        self.whole = nil
        deliver(sink, kind, id, a, entry.buffer, 0, total)
        buffers.give(entry.buffer, entry.size) -- decoding copies
        return true
    end
    entry.decoding = entry.decoding or decode.begin(entry.buffer, 0, total)
    local done, value, err = decode.step(entry.decoding)
    if not done then
        return false
    end
    self.whole = nil
    buffers.give(entry.buffer, entry.size)
    if kind == KIND_RESULT then
        sink:on_result(id, value, err)
    else
        sink:on_ask(a, value, err)
    end
    return true
end


-- Whether the time of a turn is over. work: { left = bytes until the clock is read, stop_at }
local function is_over(self, work)
    work.left = CLOCK_BYTES
    local now = tonumber(self.lib.rts_now_us())
    if work.stop_at == 0 then
        work.stop_at = now + MOST_US
    end
    return now >= work.stop_at
end


-- Goes on with self.whole while there is time. Returns whether it is delivered.
local function finish_whole(self, sink, work)
    while not deliver_whole(self, sink) do
        if is_over(self, work) then
            return false
        end
    end
    return true
end


-- Hands the record at `head` to `sink`, or keeps it as a part of a message.
-- Returns where the next one is; or nil, err when it is malformed.
local function take(self, sink, head, tail)
    local cq, cq32 = self.cq, self.cq32
    local here = (tail - head) % WRAP
    if here < HEADER_BYTES then
        return nil, "a completion of which " .. here .. " bytes are there"
    end
    local at = band(head, self.mask)
    local i = rshift(at, 2)
    local length = cq32[i]
    local kind_and_flags = cq32[i + 1]
    local size = HEADER_BYTES + band(length + 7, -8)
    if length > self.max_payload or size > here or kind_and_flags > FLAG_MORE + 255 then
        return nil, "a completion of " .. length .. " bytes, kind word " .. kind_and_flags
    end
    local id, a = cq32[i + 2], cq32[i + 3]
    if kind_and_flags > 255 or kind_and_flags == KIND_CHUNK then
        local entry, err = gather(self, at, length, kind_and_flags, id, a, cq32[i + 5])
        if err then
            return nil, err
        end
        self.whole = entry or nil
    elseif length > LARGE_BYTES and takes_steps(kind_and_flags, cq, at + HEADER_BYTES) then
        self.whole = copied(self, kind_and_flags, id, a, at, length)
    else
        deliver(sink, kind_and_flags, id, a, cq, at + HEADER_BYTES, length)
    end
    head = (head + size) % WRAP
    -- Before the sink can call us again: each record is read once.
    self.cq_head = head
    self.work.left = self.work.left - size
    return head
end


local function load_tail(self)
    local tail = self.lib.rts_cq_tail(self.c)
    return tail
end


local function release(self, head)
    self.lib.rts_cq_release(self.c, head)
end


-- Hands the next completion to `sink` when it is the result of this call, and all that is there: of
-- a call that was answered while its caller blocked, it is. In no loop, which would end the
-- caller's trace. Returns whether it was.
function _M:take_result(sink, id)
    local head = self.cq_head
    local tail = load_tail(self)
    local cq32, i = self.cq32, rshift(band(head, self.mask), 2)
    local size = HEADER_BYTES + band(cq32[i] + 7, -8)
    if (head + size) % WRAP ~= tail or cq32[i + 1] ~= KIND_RESULT or cq32[i + 2] ~= id
       or size > LARGE_BYTES or self.whole or not take(self, sink, head, tail)
    then
        return false
    end
    release(self, tail)
    return true
end


-- Hands completions that are there to `sink`, as many as one turn of nginx's loop may have;
-- self.more then says whether some were left.
-- Returns how many records; or nil, err when one is malformed: the channel is of no more use then.
function _M:drain(sink)
    local work = self.work
    work.left, work.stop_at = CLOCK_BYTES, 0
    self.more = false
    if self.whole and not finish_whole(self, sink, work) then
        self.more = true
        return 0
    end
    local head, tail = self.cq_head, load_tail(self)
    local count, full = 0, false
    while head ~= tail and not full do
        local available = (tail - head) % WRAP
        if available > self.bytes then
            return nil, "the completion cursor is " .. available .. " bytes ahead"
        end
        while head ~= tail and not full do
            local err
            head, err = take(self, sink, head, tail)
            if err then
                return nil, err
            end
            count = count + 1
            full = count >= MOST_RECORDS or self.more
                   or work.left < 0 and is_over(self, work)
                   or self.whole and not finish_whole(self, sink, work)
        end
        release(self, head)
        tail = load_tail(self)
    end
    self.more = self.more or head ~= tail or self.whole ~= nil
    return count
end

-- LuaJIT compiles what is called here. A trace of the whole would end at the loop, each time.
jit.off(_M.drain)


-- The same with all that is there, of a host that has ended.
function _M:drain_rest(sink)
    local rounds = self.bytes / HEADER_BYTES
    repeat
        rounds = rounds - 1
    until not self:drain(sink) or not self.more or rounds <= 0
end


return _M
