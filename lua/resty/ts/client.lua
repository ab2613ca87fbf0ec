-- Clients: their calls, and the completions that answer them.
--
-- Runs on the Lua side: calls in the coroutine that makes them, completions in whichever drains.
-- Invariant: every call is answered once, by the host or in its place. A call that is whole in the
-- ring, and that no environment has begun, outlives the environment.

local again = require "resty.ts.again"
local bit = require "bit"
local blocking = require "resty.ts.blocking"
local channel = require "resty.ts.channel"
local errors = require "resty.ts.errors"
local failure = require "resty.ts.failure"
local lifecycle = require "resty.ts.lifecycle"
local lives = require "resty.ts.lives"
local plugin_log = require "resty.ts.plugin_log"
local replies = require "resty.ts.replies"
local slots = require "resty.ts.slots"
local submissions = require "resty.ts.submissions"
local wait = require "resty.ts.wait"
local watchdog = require "resty.ts.watchdog"
local wire = require "resty.ts.wire"

local band = bit.band
local math_ceil = math.ceil
local pcall = pcall
local tostring = tostring
local select = select
local setmetatable = setmetatable

local KIND_NOTIFY = wire.KIND_NOTIFY
local KIND_READY = wire.KIND_READY
local KIND_LOG = wire.KIND_LOG
local KIND_WAIT = wire.KIND_WAIT
local KIND_LOGGED = wire.KIND_LOGGED

local MAX_SLOTS = 65535
local CODE_BY_NUMBER = errors.by_number
local ABANDONED = slots.ABANDONED
local abandon, free_slot = slots.abandon, slots.free
local kick = slots.kick
local send, submit = submissions.send, submissions.submit

local _M = {}
local mt = { __index = _M }

for _, methods in ipairs { lifecycle, lives, plugin_log.methods, replies.methods, slots.methods,
                           submissions.methods, watchdog } do
    for name, method in pairs(methods) do
        _M[name] = method
    end
end


local function no_log()
end


-- options: as ts.start's, with defaults filled in. lib: native.load's.
-- Returns a client that is not started.
function _M.new(lib, options, log)
    local self = setmetatable({
        lib = lib,
        channel = channel.new(lib, options.ring_bytes, options.max_message_bytes,
                              options.first_cursor),
        options = options,
        runtime_dir = options.runtime_dir,
        spin_us = options.spin_us,
        log = log or no_log,
        state = "starting",
        generation = 0,         -- of what the environment was told: gone with it, or out of date
        life = nil,             -- the environment's: lives.lua
        graves = {},            -- lives that have ended, and whose threads may not have
        fault = nil,            -- { code, text }: why the life is to end, found while reading
        carried = nil,          -- what is to be sent before anything else: carry.lua's
        dead = nil,             -- the last one, while its channel is still ours
        short_lives = 0,        -- that ended soon, in a row
        restart_at = nil,       -- when the next life is to begin, while calls are refused
        replay = nil,           -- of whoever must tell each environment something
        start_patience = 2,     -- how many times start_timeout_ms a start goes on: lives.lua's
        stuck_since = nil,      -- when a start was first put off as others do not end
        kept = {},              -- name -> text: what an environment leaves to the next
        kept_bytes = 0,
        last_end = nil,         -- { code, text, stack }: of the last life that ended
        host = nil,             -- the host's file
        library_dir = nil,
        told = false,           -- whether the log has which runtime `auto` has come to
        stopped = false,        -- by ts.stop
        ended = false,          -- and the Node thread has
        taking = false,         -- whether completions are handled just now
        released = false,       -- and channel and runtime are freed
        why = nil,              -- { code, text } while calls are refused
        pending = 0,            -- slots taken
        abandoned = 0,          -- of these, whose callers have given up
        shortest_ms = 1 / 0,    -- the least that any call was ever given
        slots = 0,              -- slots ever used
        free = {},              -- their stack
        nfree = 0,
        waiters = {},           -- slot -> waiter or ABANDONED, false when free
        spare = nil,            -- a waiter of a call that has blocked, for the next one
        ids = {},               -- slot -> id: slot + 65536 * generation
        reload = nil,           -- the host's function that reloads what has changed
        reloads = { asked = false, flight = nil }, -- what the host asks for: reload.lua's
        reply = nil,            -- the host's function that takes replies to what it asks
        replies = {},           -- what the host asks, and the replies that wait: replies.lua's
        plugin_log = plugin_log.new(options.max_log_bytes_per_second),
        unlogged = 0,           -- log entries sent that the host has not answered for
        given_up = 0,           -- log entries that it may answer for all the same
        cancels = {},           -- slots whose CANCEL found no room yet
        modules = {},           -- index -> module that the environment knows
        functions = {},         -- index -> function
        inline = options.sync_inline and not options.inspect,
        stats = { calls = 0, notifications = 0, completed = 0, failed = 0, timeouts = 0,
                  abandoned = 0, refused = 0, dropped_log_entries = 0, dropped_log_lines = 0,
                  lives = 0, exited = 0, stalled = 0, out_of_memory = 0, carried_over = 0,
                  repeated = 0, sync_inline = 0, sync_waited = 0 },
    }, mt)
    self.waiting = wait.new(self)
    replies.init(lib)
    return self
end


-- Completions ---------------------------------------------------------------------------------

local function complete(self, id, ok, value, text)
    local slot = band(id, 0xffff)
    local w = self.waiters[slot]
    if not w or self.ids[slot] ~= id then
        self:broken("an answer to call " .. id .. ", which is not pending")
        return
    end
    free_slot(self, slot)
    if w == ABANDONED then
        self.abandoned = self.abandoned - 1
        return
    end
    w.done, w.ok, w.value, w.text = true, ok, value, text
    self.waiting:wake(w)
end


function _M:on_result(id, value, err)
    if err then
        self:broken("call " .. id .. " has a result that is not MessagePack: " .. err)
        return
    end
    complete(self, id, true, value, nil)
end


function _M:on_error(id, number, text)
    complete(self, id, false, CODE_BY_NUMBER[number] or "protocol", text)
end


-- A call waits for its module, or begins after that.
local function on_wait(self, id, waits)
    local slot = band(id, 0xffff)
    local w = self.waiters[slot]
    if not w or self.ids[slot] ~= id then
        self:broken("a word on call " .. id .. ", which is not pending")
    elseif w ~= ABANDONED then
        w.waits_since = waits and self.now_ms() or nil
    end
end


-- What is left of a call's deadline in ms, when it failed with its environment and had not begun:
-- then it can be made again. Else 0.
local function left_unbegun(self, w, timeout_ms)
    if w.ok or not w.waits_since or not again.ended[w.value] then
        return 0
    end
    return math_ceil(w.waits_since + timeout_ms - self.now_ms())
end


function _M:on_other(kind, a, text, id)
    if kind == KIND_LOG then
        self.stats.dropped_log_lines = self.stats.dropped_log_lines + id
        self:on_log(a, text)
    elseif kind == KIND_LOGGED then
        self.unlogged = self.unlogged - a - id
        self.stats.dropped_log_entries = self.stats.dropped_log_entries + id
        if self.unlogged < -self.given_up then
            self:broken("a word on log entries that were not sent")
        else
            self.plugin_log.entries = self.plugin_log.entries + a
        end
    elseif kind == KIND_READY then
        self:on_ready()
    elseif kind == KIND_WAIT then
        on_wait(self, id, a ~= 0)
    else
        self:broken("a completion of kind " .. kind)
    end
end


local function take_completions(self)
    if #self.replies < replies.MOST then
        local count, err = self.channel:drain(self)
        if not count then
            self:broken(err)
        end
    else
        self.channel.more = true
    end
    if self.carried then
        self:send_carried()
    end
    if #self.cancels > 0 then
        self:flush_cancels()
    end
    if #self.replies > 0 then
        self:send_replies()
    end
    self:check_life()
end


jit.off(take_completions) -- as channel.lua's drain


-- The last drain threw, an error of our own: what it was handling is still the next record, so the
-- environment, or what is left of it, is given up.
local function failed_to_take(self)
    self:broken("an error was thrown while its answers were read")
    local ok, err = pcall(self.check_life, self)
    if not ok then
        self:lost(tostring(err))
    end
end


-- Handles what has come, as much as one turn of nginx's loop may have. Never yields.
-- all: whether the caller blocks for what is there.
-- Returns whether something is left to the next turn.
function _M:drain(all)
    local ch = self.channel
    if self.released or not self.life or ch.more and not all and self.waiting:turn_lasts() then
        return ch.more
    end
    if self.taking and wait.in_nginx then
        failed_to_take(self)
    else
        self.taking = true
        take_completions(self)
    end
    self.taking = false
    if ch.more then
        self.waiting:end_turn()
    end
    return ch.more
end

jit.off(_M.drain)


-- Calls ---------------------------------------------------------------------------------------

-- The arguments, four of them on the stack and the rest in a table: select(i, ...) with a variable
-- i is not compiled.
local function spread(n, ...)
    if n <= 4 then
        return ...
    end
    local v1, v2, v3, v4 = ...
    return v1, v2, v3, v4, { select(5, ...) }
end


-- A waiter of a caller that cannot sleep on it.
local function sync_waiter(self, start_ms)
    local w = self.spare
    if w then
        self.spare = nil
        w.done, w.ok, w.value, w.sent, w.claimed, w.start_ms = false, false, nil, 0, false, start_ms
        return w
    end
    return { done = false, ok = false, value = nil, text = nil, sent = 0, sync = true,
             start_ms = start_ms }
end


local function result(self, ok, value, text)
    if ok then
        self.stats.completed = self.stats.completed + 1
        return value
    end
    self.stats.failed = self.stats.failed + 1
    return failure(value, text)
end


-- ended: whether its handler was.
local function timed_out(self, fn, slot, timeout_ms, ended)
    self.stats.timeouts = self.stats.timeouts + 1
    if ended then
        free_slot(self, slot)
        return failure("timeout", fn.title .. " was ended after " .. timeout_ms .. " ms")
    end
    abandon(self, slot, "timeout")
    local life = self.life
    return failure("timeout", fn.title .. " did not answer within " .. timeout_ms .. " ms"
                              .. (life and not life.ready and ": Node is not ready" or ""))
end


-- Calls fn with n arguments, v1 to v4 and the rest in `more`, and waits for its answer as the phase
-- allows. What takes `...` only hands it on: a tail call there ends a trace, and with it that of
-- whoever called.
function _M:call_with(fn, timeout_ms, n, v1, v2, v3, v4, more)
    if self.why and not self:try_again() then
        return failure(self.why.code, self.why.text)
    end
    local waiting = self.waiting
    local phase = waiting.blocked_phase()
    if phase then
        return failure("wrong_phase", phase .. " cannot yield; use ts.notify or ts.call_sync")
    end
    local w = waiting:new_waiter()
    w.timeout_ms = timeout_ms
    local slot, err, code = submit(self, w, fn, timeout_ms, n, v1, v2, v3, v4, more)
    if not slot then
        waiting:recycle(w)
        return nil, err, code
    end
    if not waiting:wait(w, timeout_ms, fn) then
        waiting:recycle(w)
        return timed_out(self, fn, slot, timeout_ms)
    end
    local ok, value, text = w.ok, w.value, w.text
    local left = ok and 0 or left_unbegun(self, w, timeout_ms)
    waiting:recycle(w)
    if left > 0 then
        return self:call_with(fn, left, n, v1, v2, v3, v4, more)
    end
    return result(self, ok, value, text)
end


-- Calls fn and waits for its answer as the phase allows.
function _M:call(fn, timeout_ms, ...)
    local n = select("#", ...)
    local value, err, code = self:call_with(fn, timeout_ms, n, spread(n, ...))
    if err then
        return nil, err, code
    end
    return value
end


-- Calls fn with arguments as call_with, and blocks until its answer, at most timeout_ms; and, where
-- an environment ends before it has begun the call, for the next one to start and answer, start_ms
-- at most. Both are less when others have just blocked in vain (blocking.lua).
function _M:call_sync_with(fn, timeout_ms, start_ms, n, v1, v2, v3, v4, more)
    if self.why and not self:try_again() then
        return failure(self.why.code, self.why.text)
    end
    timeout_ms = blocking.call_ms(timeout_ms)
    if timeout_ms == 0 then
        self.stats.timeouts = self.stats.timeouts + 1
        return failure("timeout", fn.title .. " was not called: others have just blocked the "
                                  .. "worker in vain")
    end
    local began = self.now_ms()
    local deadline = began + timeout_ms
    local w = sync_waiter(self, start_ms)
    local slot, err, code = submit(self, w, fn, timeout_ms, n, v1, v2, v3, v4, more)
    if not slot then
        return nil, err, code
    end
    local ch = self.channel
    local life = self.life
    local ended = false
    if w.claimed then
        ended = self.lib.rts_lease_run(ch.c) ~= 0
        if ch:take_result(self, self.ids[slot]) then
            self.spare = w
            return result(self, w.ok, w.value, w.text)
        end
    else
        self.lib.rts_sq_kick(ch.c)
    end
    repeat
        local is_more = self:drain(true)
        if w.done then
            local left = left_unbegun(self, w, timeout_ms)
            if left > 0 then
                return self:call_sync_with(fn, left, start_ms, n, v1, v2, v3, v4, more)
            end
            if not w.ok then
                blocking.in_vain(self.now_ms() - began)
            end
            return result(self, w.ok, w.value, w.text)
        end
        if ended then
            break
        end
        if start_ms > 0 and self.life ~= life then
            life = self.life
            deadline = self.now_ms() + start_ms
        end
        local left = deadline - self.now_ms()
        if left > 0 and not is_more then
            self.lib.rts_cq_wait(ch.c, ch.cq_head, self.spin_us, (left < 20 and left or 20) * 1000)
            self:watch(true)
        end
    until left <= 0
    blocking.in_vain(self.now_ms() - began)
    return timed_out(self, fn, slot, timeout_ms, ended)
end


-- Calls fn and blocks until its answer, at most timeout_ms.
function _M:call_sync(fn, timeout_ms, ...)
    local n = select("#", ...)
    local value, err, code = self:call_sync_with(fn, timeout_ms, 0, n, spread(n, ...))
    if err then
        return nil, err, code
    end
    return value
end


-- Sends without wanting an answer. entries: how many log entries are in it.
-- Returns true, or nil, err, code.
function _M:notify_with(fn, entries, ...)
    if self.why and not self:try_again() then
        return failure(self.why.code, self.why.text)
    end
    if self.pending >= MAX_SLOTS then
        return failure("queue_full", self.pending .. " calls are pending")
    end
    local n = select("#", ...)
    local w = sync_waiter(self, 0)
    local slot, err, code = send(self, w, KIND_NOTIFY, fn, entries, n, spread(n, ...))
    if not slot then
        return nil, err, code
    end
    -- The id is only for the chunks of a large message, so it can be used again at once after it.
    free_slot(self, slot)
    self.spare = w
    self.unlogged = self.unlogged + entries
    self.stats.notifications = self.stats.notifications + 1
    kick(self)
    return true
end


function _M:notify(fn, ...)
    return self:notify_with(fn, 0, ...)
end


return _M
