-- The watchdog: has an environment end whose event loop has stopped turning.
--
-- Runs on the Lua side; nothing here yields. These functions are methods of client.lua's clients.
-- Invariants: a host that has something to read and does not move `rts_sq_begun` is not in its
-- loop. Time is what was seen to pass, a little at each look: a worker or a machine that was paused
-- has seen none.

local errors = require "resty.ts.errors"
local slots = require "resty.ts.slots"
local wire = require "resty.ts.wire"

local math_min = math.min
local math_max = math.max
local io_open = io.open

local KIND_CANCEL = wire.KIND_CANCEL
local kick = slots.kick
local NUMBER_BY_CODE = errors.numbers

-- How long an environment that is ended may take before another one is started beside it.
local PATIENCE_MS = 1250
-- One look has seen this much at most, and half of what is to be seen: the host has its time
-- between two.
local MOST_SEEN_MS = 400
-- How long a host process may be stopped (SIGSTOP, a debugger) before it is ended, too.
local STOPPED_MS = 10000
-- The deadline of a call that has none.
local NO_DEADLINE_MS = 86400000

local _M = {}


-- Whether a caller would have given up by now, had it begun before these ms did.
local function past_deadline(self, ms)
    for slot = 0, self.slots - 1 do
        local w = self.waiters[slot]
        if w and w.timeout_ms and w.timeout_ms <= ms then
            return true
        end
    end
    return false
end


-- How long a handler may compute at a stretch: as long as any that is under way may take.
local function longest_deadline(self)
    local most = self.options.timeout_ms
    for slot = 0, self.slots - 1 do
        local w = self.waiters[slot]
        local ms = w and w.timeout_ms or 0
        if ms < NO_DEADLINE_MS then
            most = math_max(most, ms)
        end
    end
    return most
end


-- Whether the host is a process that somebody has stopped.
local function is_stopped(self)
    local pid = self:status().process_id
    local file = pid ~= 0 and io_open("/proc/" .. pid .. "/stat")
    if not file then
        return false
    end
    local text = file:read("*a")
    file:close()
    -- The name before it may have anything in it.
    local state = text and text:match(".*%) (%a)")
    return state == "T" or state == "t"
end


local function begin_count(life, begun)
    life.begun, life.still_ms, life.late_ms = begun, 0, 0
end


-- What the environment is to end for, or nil.
local function finding(self, life)
    local stall_ms = self.options.stall_ms
    local text = "a handler has not come back to the event loop for more than "
    if life.late_ms >= stall_ms and (self.abandoned > 0 or past_deadline(self, life.late_ms)) then
        return text .. stall_ms .. " ms past the deadline of a call"
    end
    if life.still_ms >= stall_ms then
        local most_ms = stall_ms + longest_deadline(self)
        if life.still_ms >= most_ms then
            return text .. most_ms .. " ms"
        end
    end
    return nil
end


-- Has the environment end, and at the latest in PATIENCE_MS has it taken for ended.
function _M:give_up(life, code, text)
    life.code, life.text, life.ending = code, text, PATIENCE_MS
    self.lib.rts_runtime_fail(life.runtime, NUMBER_BY_CODE[code])
    self.waiting:sweep_later()
end


-- To be called now and then while calls are pending, or something is there that the host has not
-- read.
-- blocked: whether the worker blocks for an answer, so that no timer tells whose deadline is past.
function _M:watch(blocked)
    local life = self.life
    if not life or not life.ready and not life.ending then
        return
    end
    local now = self.now_ms()
    local seen_ms = math_min(now - life.looked_at, MOST_SEEN_MS)
    life.looked_at = now
    if life.ending then
        life.ending = life.ending - seen_ms
        if life.ending <= 0 then
            -- It does not end: native code, or stopped. Its thread is left to itself.
            self.fault = { code = life.code, text = life.text }
            self:check_life()
        end
        return
    end
    local begun = self.lib.rts_sq_begun(self.channel.c)
    if begun ~= life.begun or begun == self.channel.sq_tail then
        begin_count(life, begun)
        life.stopped_ms = 0
        return
    end
    local stall_ms, timeout_ms = self.options.stall_ms, self.options.timeout_ms
    life.still_ms = life.still_ms + math_min(seen_ms, (stall_ms + timeout_ms) / 2)
    -- A call past its deadline sends a CANCEL, which a host in its loop reads at once.
    local is_late = self.abandoned > 0 or blocked
    life.late_ms = is_late and life.late_ms + math_min(seen_ms, stall_ms / 2) or 0
    local text = finding(self, life)
    if not text then
        return
    end
    if is_stopped(self) then
        life.stopped_ms = life.stopped_ms + life.still_ms
        if life.stopped_ms < STOPPED_MS then
            begin_count(life, begun)
            return
        end
    end
    self:give_up(life, "stalled", text)
end


-- Asks for a sign of life: a host that has read everything may loop in what nobody waits for.
function _M:beat()
    local life, ch = self.life, self.channel
    if life and life.ready and self.lib.rts_sq_begun(ch.c) == ch.sq_tail
       and ch:send_text(KIND_CANCEL, 0, 0, 0, "")
    then
        kick(self)
    end
    if self:unsettled() then
        self.waiting:sweep_later()
    end
end


return _M
