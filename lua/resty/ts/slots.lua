-- The slots of a client: which call each stands for, and who waits for it.
--
-- Runs on the Lua side; nothing here yields. Invariant: a slot is taken when its call is made and
-- freed by the one RESULT or ERROR that answers it, or by the end of the environment that would
-- have, never before: a late answer cannot meet another call. A caller that gives up leaves
-- ABANDONED in the slot and tells the host.

local errors = require "resty.ts.errors"
local wire = require "resty.ts.wire"

local KIND_CANCEL = wire.KIND_CANCEL
local NUMBER_BY_CODE = errors.numbers

-- In a slot whose caller has given up.
local ABANDONED = {}

local _M = { ABANDONED = ABANDONED }

-- Of client.lua's clients.
local methods = {}
_M.methods = methods


function _M.take(self)
    local n = self.nfree
    local slot
    if n > 0 then
        slot = self.free[n]
        self.nfree = n - 1
        local id = self.ids[slot] + 65536
        if id >= 4294967296 then
            id = slot + 65536
        end
        self.ids[slot] = id
    else
        slot = self.slots
        self.slots = slot + 1
        self.ids[slot] = slot + 65536
    end
    self.pending = self.pending + 1
    return slot
end


local function free_slot(self, slot)
    self.waiters[slot] = false
    local n = self.nfree + 1
    self.nfree = n
    self.free[n] = slot
    self.pending = self.pending - 1
end

_M.free = free_slot


-- Calls f(w, slot, a, b) with each waiter that waits.
function methods:each_waiter(f, a, b)
    local waiters = self.waiters
    for slot = 0, self.slots - 1 do
        local w = waiters[slot]
        if w and w ~= ABANDONED then
            f(w, slot, a, b)
        end
    end
end


-- Calls that a coroutine waits for.
function methods:awaited()
    return self.pending - self.abandoned
end


-- To be called after a submission: wakes a host that sleeps, once for all of them.
local function kick(self)
    if self.channel.host ~= 0 then
        self.waiting:kick_later()
    end
end

_M.kick = kick


local function send_cancel(self, slot, code)
    local sent = self.channel:send_text(KIND_CANCEL, self.ids[slot], NUMBER_BY_CODE[code], 0, "")
    if sent then
        kick(self)
    end
    return sent
end


-- Tells the host that nobody waits for this call any more. The slot stays taken until it answers.
function _M.abandon(self, slot, code)
    self.waiters[slot] = ABANDONED
    self.abandoned = self.abandoned + 1
    if not send_cancel(self, slot, code) then
        local cancels = self.cancels
        cancels[#cancels + 1] = { slot = slot, id = self.ids[slot], code = code }
    end
    self.waiting:sweep_later()
end


-- Sends the cancels that found no room. One whose call was answered meanwhile is dropped.
function methods:flush_cancels()
    local cancels = self.cancels
    while #cancels > 0 do
        local last = cancels[#cancels]
        if self.ids[last.slot] == last.id and self.waiters[last.slot] == ABANDONED
           and not send_cancel(self, last.slot, last.code)
        then
            return
        end
        cancels[#cancels] = nil
    end
end


local function abandon_if_left(w, slot, self)
    if self.waiting.abandoned(w) then
        self.stats.abandoned = self.stats.abandoned + 1
        if w.sent == 0 then
            free_slot(self, slot) -- it was waiting for room, and nothing of it is in the ring
        else
            _M.abandon(self, slot, "aborted")
        end
    end
end


-- Cancels calls whose coroutine is gone (its client closed the connection, say).
function methods:abandon_left()
    self:each_waiter(abandon_if_left, self)
end


-- Answers pending calls with this error, in place of the host. keep: slots that are left alone, or
-- nil. What is not whole in the ring yet is left alone, too: whoever sends it goes on with that.
-- Returns how many callers were told.
function methods:fail_pending(code, text, keep)
    local waiters = self.waiters
    local told = 0
    for slot = 0, self.slots - 1 do
        local w = waiters[slot]
        if w == ABANDONED then
            free_slot(self, slot)
            self.abandoned = self.abandoned - 1
        elseif w and keep and w.sending then
            w.sent = 0
        elseif w and not (keep and keep[slot]) then
            free_slot(self, slot)
            w.done, w.ok, w.value, w.text = true, false, code, text
            self.waiting:wake(w)
            told = told + 1
        end
    end
    return told
end


return _M
