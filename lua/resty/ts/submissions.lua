-- Submissions: from a call's arguments to records in the ring.
--
-- Runs on the Lua side, in the coroutine that calls; that one may yield while it waits for room, or
-- between the parts of a large message. Invariants: a slot is taken when all is encoded, which may
-- throw, and given back when nothing was sent. What is sent in part is finished or taken back.

local bit = require "bit"
local buffers = require "resty.ts.buffers"
local failure = require "resty.ts.failure"
local slots = require "resty.ts.slots"
local wire = require "resty.ts.wire"

local band = bit.band
local math_min = math.min
local math_ceil = math.ceil

local KIND_CALL = wire.KIND_CALL
local KIND_MODULE = wire.KIND_MODULE
local KIND_FUNCTION = wire.KIND_FUNCTION
-- In a record's `pending`.
local MOST_PENDING = 65535
-- Of a large message, a quarter of the ring each, that are sent before nginx has its turn.
local PARTS_A_TURN = 4
-- The most that fits into 32 bits as µs.
local MOST_MS = 4000000
local abandon, free_slot, take_slot = slots.abandon, slots.free, slots.take
local kick = slots.kick

local _M = {}

-- Of client.lua's clients.
local methods = {}
_M.methods = methods


-- Waits for room until the deadline, where w, the call's waiter, allows it.
-- Returns true; or nil, err, code.
local function wait_for_room(self, w, deadline, bytes)
    local left = deadline - self.now_ms()
    if w.sync then
        return failure("queue_full", "the submission ring has no room for " .. bytes .. " bytes")
    end
    if left <= 0 then
        return failure("timeout", "the submission ring had no room for " .. bytes .. " bytes")
    end
    self.lib.rts_sq_kick(self.channel.c)
    self.waiting:wait_room(w, self.channel.sq_head, left)
    if w.done then -- all that was pending has failed
        return failure(w.value, w.text)
    end
    return true
end


-- Sends a message that did not fit into the ring at once, waiting for room where that is allowed.
-- Returns true, or nil, err, code.
local function send_rest(self, w, kind, id, a, b, buffer, length, deadline, pieces)
    local ch = self.channel
    local in_a_row = 0
    repeat
        local sent = ch:send_part(kind, id, a, b, buffer, length, w.sent, pieces)
        if sent then
            w.sent = sent
            kick(self)
            in_a_row = in_a_row + 1
            if in_a_row % PARTS_A_TURN == 0 and sent < length and not w.sync then
                self.waiting.give_way(w)
                if w.done then -- all that was pending has failed
                    return failure(w.value, w.text)
                end
            end
        else
            local ok, err, code = wait_for_room(self, w, deadline, length)
            if not ok then
                if w.sent > 0 and not self.why then
                    -- Takes back what is there of it; that is answered as a call is.
                    abandon(self, band(id, 0xffff), "aborted")
                end
                return nil, err, code
            end
        end
    until w.sent == length
    return true
end


-- A name goes in one record.
local function can_be_name(self, name)
    return #name <= self.channel.max_payload - 8 and self.lib.rts_utf8_valid(name, #name) == 1
end


-- Makes module and function known to the host, before their first call.
local function define(self, w, fn, deadline)
    local ch = self.channel
    local module = fn.module
    if not can_be_name(self, module.name) then
        return failure("module_not_found", "the name is not UTF-8, or very long")
    end
    if not can_be_name(self, fn.name) then
        return failure("function_not_found", "the name is not UTF-8, or very long")
    end
    while not self.functions[fn.index] do
        local sent = true
        if not self.modules[module.index] then
            sent = ch:send_text(KIND_MODULE, 0, module.index, 0, module.name)
            self.modules[module.index] = sent and module or nil
        end
        if sent then
            sent = ch:send_text(KIND_FUNCTION, 0, fn.index, module.index, fn.name)
            self.functions[fn.index] = sent and fn or nil
        end
        if not sent then
            local ok, err, code = wait_for_room(self, w, deadline, #module.name + #fn.name)
            if not ok then
                return nil, err, code
            end
        end
    end
    return true
end


-- Makes fn known to the host, at once. A call of it then encodes its arguments before it can yield:
-- they may be in memory that other coroutines use, too. Returns true; or nil, err, code.
function methods:define(fn)
    if self.functions[fn.index] then
        return true
    end
    if self.why and not self:try_again() then
        return failure(self.why.code, self.why.text)
    end
    return define(self, { sync = true }, fn, self.now_ms())
end


-- Has the host know fn, with a slot for the time: by it the sweep finds a caller that goes away
-- while it waits for room. Returns true; or nil, err, code.
local function define_for(self, w, fn, timeout_ms)
    local slot = take_slot(self)
    self.waiters[slot] = w
    w.sending = true
    local ok, err, code = define(self, w, fn, self.now_ms() + timeout_ms)
    w.sending = false
    if self.waiters[slot] == w then
        free_slot(self, slot)
    end
    return ok, err, code
end


-- A call's deadline, as the host reads it (docs/wire-format.md).
function methods:stamp(timeout_ms)
    return math_ceil(self.now_ms() + timeout_ms) % 4294967296
end


-- The least that a call may take of those that are pending, and of one of timeout_ms: what was sent
-- before is handled before it, on this thread, too.
local function shortest(self, timeout_ms)
    if self.abandoned > 0 then
        return 0
    elseif timeout_ms <= self.shortest_ms then
        return timeout_ms
    end
    for slot = 0, self.slots - 1 do
        local w = self.waiters[slot]
        if w and w.timeout_ms and w.timeout_ms < timeout_ms then
            timeout_ms = w.timeout_ms
        end
    end
    return timeout_ms
end


-- Takes the environment for a call that is then sent (lease.h). Returns whether it was to be had.
function methods:claim(timeout_ms)
    local stats = self.stats
    local stall_ms = shortest(self, timeout_ms) + self.options.stall_ms
    if self.lib.rts_lease_claim(self.channel.c, math_min(timeout_ms, MOST_MS) * 1000,
                                math_min(stall_ms, MOST_MS) * 1000) == 0
    then
        stats.sync_waited = stats.sync_waited + 1
        return false
    end
    stats.sync_inline = stats.sync_inline + 1
    return true
end


-- Sends in parts what did not fit into the ring. Returns true; or nil, err, code.
local function send_large(self, w, kind, id, fn, b, timeout_ms, buffer, length, size, pieces)
    w.sending = true
    local ok, err, code = send_rest(self, w, kind, id, fn.index, b, buffer, length,
                                    self.now_ms() + timeout_ms, pieces)
    w.sending = false
    buffers.give(buffer, size)
    return ok, err, code
end


-- Sends one call or notification. Takes its slot when all is encoded, which may throw.
-- Returns the slot; or nil, err, code.
local function send(self, w, kind, fn, timeout_ms, n, v1, v2, v3, v4, more)
    if not self.functions[fn.index] then
        local ok, err, code = define_for(self, w, fn, timeout_ms)
        if not ok then
            return nil, err, code
        end
    end
    local ch = self.channel
    local length, buffer, size, pieces = ch:encode(n, v1, v2, v3, v4, more)
    if not length then
        return failure(size, fn.title .. ": " .. buffer)
    end
    local slot = take_slot(self)
    self.waiters[slot] = w
    local b = kind == KIND_CALL and self:stamp(timeout_ms) or timeout_ms
    if buffer then
        local ok, err, code = send_large(self, w, kind, self.ids[slot], fn, b, timeout_ms, buffer,
                                         length, size, pieces)
        if not ok then
            if self.waiters[slot] == w then
                free_slot(self, slot)
            end
            return nil, err, code
        end
        return slot
    end
    local pending = 0
    if kind == KIND_CALL then
        pending = math_min(self.pending, MOST_PENDING)
        w.claimed = w.sync and self.inline and self:claim(timeout_ms)
    end
    ch:send_encoded(kind, pending, self.ids[slot], fn.index, b, length)
    w.sent = 1
    return slot
end

_M.send = send


-- Sends a call whose answer w waits for. Returns its slot; or nil, err, code.
function _M.submit(self, w, fn, timeout_ms, n, v1, v2, v3, v4, more)
    if self.pending >= self.options.max_pending then
        self.stats.refused = self.stats.refused + 1
        return failure("queue_full", self.pending .. " calls are pending")
    end
    local slot, err, code = send(self, w, KIND_CALL, fn, timeout_ms, n, v1, v2, v3, v4, more)
    if not slot then
        return nil, err, code
    end
    self.stats.calls = self.stats.calls + 1
    if timeout_ms < self.shortest_ms then
        self.shortest_ms = timeout_ms
    end
    kick(self)
    return slot
end


return _M
