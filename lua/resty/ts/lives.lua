-- The lives of a client: when its environment ends by itself, another one is started, with a
-- channel of its own.
--
-- Runs on the Lua side; nothing here yields. Invariants: calls that the host had begun fail with
-- the reason, those that were only queued go on in the next life; an environment that keeps ending
-- soon is started less and less often, and meanwhile calls fail at once; no start is the last one;
-- a life is freed only when its thread has ended, however long that takes, and no more than two of
-- a worker do not end.

local bit = require "bit"
local buffers = require "resty.ts.buffers"
local carry = require "resty.ts.carry"
local encode = require "resty.ts.encode"
local errors = require "resty.ts.errors"
local failure = require "resty.ts.failure"
local ffi = require "ffi"
local left = require "resty.ts.left"
local native = require "resty.ts.native"
local slots = require "resty.ts.slots"
local wire = require "resty.ts.wire"

local ffi_new = ffi.new
local ffi_str = ffi.string
local band = bit.band
local tonumber = tonumber
local math_max = math.max
local math_min = math.min

local ABANDONED = slots.ABANDONED
local CODE_BY_NUMBER = errors.by_number
local TEXT = errors.texts
local KIND_CALL = wire.KIND_CALL
local KIND_NOTIFY = wire.KIND_NOTIFY
local KIND_MODULE = wire.KIND_MODULE
local KIND_FUNCTION = wire.KIND_FUNCTION
local STATE_FAILED = 3
local NUMBER_BY_CODE = errors.numbers

-- A life shorter than this, in ms, is one of a crash loop.
local STEADY_MS = 1000
local LEAST_DELAY_MS, MOST_DELAY_MS, MOST_CONNECT_DELAY_MS = 100, 10000, 500
local STACK_BYTES = 4194304
local SCRATCH_BYTES = 4096
-- A start goes on for so many times start_timeout_ms, and twice as long each time that this was too
-- short, up to so many: a busy machine needs its time.
local LEAST_PATIENCE, MOST_PATIENCE = 2, 64
-- Another start ends the same way until somebody mends the cause.
local FINAL = { no_libnode = true, wrong_abi = true, no_host = true, no_node = true,
                bad_option = true }
-- So many environments of a worker may be left that do not end: no other is started beside them.
local MOST_LEFT = 2
-- How long they may take to end all the same before the worker is replaced.
local REPLACE_MS = 2000

local scratch = ffi_new("uint8_t[?]", SCRATCH_BYTES)

-- Of all clients: no two environments of a process have the same number.
local generations = 0

local _M = {}


local function next_generation()
    generations = generations + 1
    return generations
end


-- Starting --------------------------------------------------------------------------------------

-- A message for carry.send: a notification of fn with two arguments.
local function notification(fn, a, b)
    encode.begin(scratch, 0, SCRATCH_BYTES)
    if encode.arguments(2, a, b) then
        encode.drop()
        return nil -- it was sent once, and so can be carried
    end
    local length, buffer, size = encode.finish()
    if not buffer then
        buffer, size = buffers.take(length)
        ffi.copy(buffer, scratch, length)
    end
    return { kind = KIND_NOTIFY, id = 0, a = fn.index, b = 0, buffer = buffer, size = size,
             length = length }
end


local function definition(kind, index, b, name)
    local buffer, size = buffers.take(#name)
    ffi.copy(buffer, name, #name)
    return { kind = kind, id = 0, a = index, b = b, buffer = buffer, size = size, length = #name }
end


-- What a new environment must know before it is sent what the one before left.
local function definitions(self)
    local messages = {}
    for index, module in pairs(self.modules) do
        messages[#messages + 1] = definition(KIND_MODULE, index, 0, module.name)
    end
    for index, fn in pairs(self.functions) do
        messages[#messages + 1] = definition(KIND_FUNCTION, index, fn.module.index, fn.name)
    end
    local replay = self.replay
    if replay then
        replay(self, function(fn, a, b)
            messages[#messages + 1] = notification(fn, a, b)
        end)
    end
    return messages
end


-- Sends what was carried over, as far as there is room; until then nobody else may.
function _M:send_carried()
    local ch = self.channel
    ch.capacity = ch.bytes
    if carry.send(ch, self.carried) then
        self.carried = nil
    else
        ch.capacity = 0
        self.waiting:sweep_later()
    end
    self.lib.rts_sq_kick(ch.c)
end


-- Starts an environment. messages: what the one before had not begun, or nil.
-- Returns true; or nil, err, code, and then nothing has changed.
function _M:begin_life(messages)
    local ch, lib = self.channel, self.lib
    local c, err, number = ch:create()
    if not c then
        return failure(CODE_BY_NUMBER[number], err)
    end
    local generation = next_generation()
    -- At exit nginx closes the Lua state: this ends the Node thread before static destructors run.
    -- Set before there is one, as a signal may end plain LuaJIT at any instruction.
    local holder = ffi.gc(ffi_new("rts_runtime_t *[1]"), lib.rts_runtime_leave)
    local code = lib.rts_runtime_start(c, self:runtime_options(generation), holder,
                                       native.error_args())
    if code ~= 0 then
        err = native.error_text()
        lib.rts_channel_destroy(c)
        return failure(CODE_BY_NUMBER[-code], err)
    end
    local before = ch.c
    ch:open(c)
    if before then
        lib.rts_bell_move(before, c)
        -- Whoever waits for the doorbell has it armed in the old mapping.
        lib.rts_bell_ring(c)
        self.graves[#self.graves + 1] = self.dead
        self.dead = nil
    end
    self.life = { holder = holder, runtime = holder[0], generation = generation, ready = false,
                  ready_at = 0, timeouts = 0, looked_at = 0, still_ms = 0, late_ms = 0,
                  stopped_ms = 0 }
    self.stats.lives = self.stats.lives + 1
    self.generation = generation
    self.why, self.restart_at, self.given_up = nil, nil, 0
    if before then
        local carried = definitions(self)
        for _, message in ipairs(messages or {}) do
            carried[#carried + 1] = message
        end
        self.carried = carried
        self:send_carried()
    end
    self.waiting:watch_start(self.options.start_timeout_ms, self.life)
    return true
end


-- The host is ready, or what it was told is out of date.
function _M:on_ready()
    local life = self.life
    if not life or self.why then
        return
    end
    if life.ready then
        self.generation = next_generation()
    else
        life.ready, life.ready_at = true, self.now_ms()
        self.start_patience = LEAST_PATIENCE
        self.state = "ready"
        self:tell_choice()
    end
end


-- Another start_timeout_ms have passed. In a worker that was paused many of them count as one.
function _M:start_timed_out(life)
    if self.life ~= life or life.ready or life.ending or self.stopped then
        return
    end
    life.timeouts = life.timeouts + 1
    local timeout_ms = self.options.start_timeout_ms
    if life.timeouts >= self.start_patience then
        self.start_patience = math_min(2 * self.start_patience, MOST_PATIENCE)
        self:give_up(life, "start_timeout", "the runtime was not ready within " .. life.timeouts
                                            .. " times start_timeout_ms, " .. timeout_ms .. " ms")
        return
    end
    if life.timeouts == 1 then
        self.log(2, "the runtime is not ready after start_timeout_ms, " .. timeout_ms
                    .. " ms: calls wait on, each until its own deadline")
    end
    self.waiting:watch_start(timeout_ms, life)
end


-- Ending ----------------------------------------------------------------------------------------

-- Where JavaScript was when it was ended; nil when that is not known.
local function stack_of(self, life)
    local buffer, size = buffers.take(STACK_BYTES)
    local length = tonumber(self.lib.rts_runtime_stack(life.runtime, buffer, size))
    local stack = length > 0 and length <= size and ffi_str(buffer, length) or nil
    buffers.give(buffer, size)
    return stack
end


-- Of what the old ring holds, what is to go on: not what nobody waits for, nor replies to what the
-- old environment asked. Returns the messages, their slots, and how many log entries are in them.
local function left_over(self)
    local keep, entries = {}, 0
    local function is_wanted(message)
        local fn = self.functions[message.a]
        local wanted = message.carried and message.a ~= self.reply.index and fn and not fn.bound
        if wanted and message.kind == KIND_CALL then
            local slot = band(message.id, 0xffff)
            local w = self.waiters[slot]
            wanted = w and w ~= ABANDONED and self.ids[slot] == message.id
            keep[slot] = wanted or nil
            if wanted and w.sync and w.start_ms > 0 then
                message.b = self:stamp(w.start_ms)
            end
        elseif wanted then
            entries = entries + message.b
        end
        return wanted
    end
    local ok, collected = pcall(carry.collect, self.channel)
    if not ok then -- no memory
        self.log(1, "what was queued is lost: " .. collected)
        collected = {}
    end
    local messages = carry.rest(collected, is_wanted)
    -- What had been carried over before, and had found no room yet.
    for _, message in ipairs(carry.rest(self.carried or {}, is_wanted)) do
        messages[#messages + 1] = message
    end
    return messages, keep, entries
end


-- Calls fail at once for a while.
local function back_off(self, delay_ms, code, text, messages)
    for _, message in ipairs(messages or {}) do
        buffers.give(message.buffer, message.size)
    end
    self.restart_at = self.now_ms() + delay_ms
    local told = text .. "; the next start is in " .. delay_ms .. " ms"
    if FINAL[code] then
        self:refuse("failed", code, text)
        self.log(1, told .. ", with the next call")
    else
        self:refuse("backing_off", "unavailable", told)
        self.log(1, "crash loop: " .. told)
        self.waiting:restart_later(delay_ms)
    end
end


-- How long to wait before the next start, in ms.
local function delay_after(self, life)
    local steady = life and life.ready and self.now_ms() - life.ready_at >= STEADY_MS
    self.short_lives = steady and 0 or self.short_lives + 1
    if self.short_lives <= 1 then
        return 0
    end
    -- Somebody who starts the host by hand waits for it.
    local most_ms = self.options.connect and MOST_CONNECT_DELAY_MS or MOST_DELAY_MS
    return math_min(most_ms, LEAST_DELAY_MS * 2 ^ (self.short_lives - 2))
end


-- Starts the next life now, unless those that do not end are too many. Returns true; or nil, err,
-- code.
local function begin_next(self, messages)
    local now = self.now_ms()
    local count = left.count(now)
    if count < MOST_LEFT then
        self.stuck_since = nil
        return self:begin_life(messages)
    end
    self.stuck_since = self.stuck_since or now
    local text = count .. " environments do not end: their handlers are blocked in native code"
    if now - self.stuck_since >= REPLACE_MS and self.options.replace_worker
       and self.waiting.replace_worker()
    then
        text = text .. "; this worker exits, and nginx's master starts another in its place"
    end
    return failure("unavailable", text)
end


-- Starts the next life, now or later. life: the one before, or nil where none began.
local function go_on(self, life, code, text, messages)
    -- A start that was too long has taken its time, and the next one has more.
    local delay_ms = code == "start_timeout" and 0 or delay_after(self, life)
    if FINAL[code] and delay_ms == 0 then
        delay_ms = LEAST_DELAY_MS
    end
    if delay_ms == 0 then
        self.state = self.state == "starting" and "starting" or "restarting"
        local ok, err, why = begin_next(self, messages)
        if ok then
            return
        end
        code, text = why, err
        delay_ms = math_max(LEAST_DELAY_MS, delay_after(self, nil))
    end
    back_off(self, delay_ms, code, text, messages)
end


local function end_life(self, code, text)
    local life = self.life
    self.life, self.fault = nil, nil
    self.dead = life
    left.add(self.lib, life, self.lib.rts_runtime_state(life.runtime) ~= STATE_FAILED,
             self.now_ms())
    local stack = stack_of(self, life)
    if code == "stalled" and not stack then
        text = text .. "; it did not say where: it is in native code, or stopped"
    end
    local messages, keep, entries = left_over(self)
    self.cancels, self.replies, self.carried = {}, {}, nil
    local failed = self:fail_pending(code, text, keep)
    self.last_end = { code = code, text = text, stack = stack, before_ready = not life.ready }
    if self.stats[code] then
        self.stats[code] = self.stats[code] + 1
    end
    self.stats.carried_over = self.stats.carried_over + #messages
    local started = life.ready or self.state ~= "starting"
    self.log(1, (started and "the environment ended: " or "the runtime did not start: ")
                .. (TEXT[code] or code) .. ": " .. text
                .. (started and "; " .. failed .. " calls in flight failed, " .. #messages
                                .. " queued messages go on" or ""))
    self:drop_unlogged(entries, "the environment ended before their handlers had")
    go_on(self, life, code, (TEXT[code] or code) .. ": " .. text, messages)
end


-- The same, whatever is thrown meanwhile: somebody must begin the next life.
local function end_surely(self, code, text)
    local ok, err = pcall(end_life, self, code, text)
    if not ok then
        self:lost(tostring(err))
    end
end


-- Sees whether the environment has ended, or is to end.
function _M:check_life()
    local life = self.life
    if not life or self.stopped then
        return
    end
    local fault = self.fault
    if fault then
        if fault.code ~= "protocol" then
            self.channel:drain_rest(self)
        end
        end_surely(self, fault.code, fault.text)
    elseif self.lib.rts_runtime_state(life.runtime) == STATE_FAILED then
        -- What it had answered before it ended.
        self.channel:drain_rest(self)
        local status = self:status()
        local code = CODE_BY_NUMBER[status.error] or "unavailable"
        local text = life.text or ffi_str(status.text)
        if text == "" and code == "out_of_memory" then
            local limit = self.options.max_heap_mb
            text = "the heap has reached " .. (limit > 0 and "max_heap_mb, " .. limit
                                               or "V8's limit")
        end
        end_surely(self, code, text)
    end
end


-- A record that cannot be: the two sides no longer agree, so nothing more is read.
function _M:broken(what)
    if not self.fault and self.life then
        self.fault = { code = "protocol", text = what }
        self:distrust_log()
        self.lib.rts_runtime_fail(self.life.runtime, NUMBER_BY_CODE.protocol)
    end
end


-- The end of a life could not be dealt with: calls fail for a while, and then one more is started.
function _M:lost(text)
    self.dead = self.life or self.dead
    self.life, self.fault, self.carried = nil, nil, nil
    if not self.why then
        local delay_ms = LEAST_DELAY_MS
        self.restart_at = self.now_ms() + delay_ms
        self.waiting:restart_later(delay_ms)
        self:refuse("backing_off", "unavailable", "the environment's end failed: " .. text)
        self.log(1, "the environment's end failed: " .. text)
    end
end


-- Starts the next life when it is time. Returns whether calls are accepted.
function _M:try_again()
    if self.restart_at and not self.stopped and self.now_ms() >= self.restart_at then
        self.restart_at = nil
        self.state = "restarting"
        local ok, err, code = begin_next(self)
        if not ok then
            back_off(self, math_max(LEAST_DELAY_MS, delay_after(self, nil)), code, err)
        end
    end
    return not self.why
end


-- Now and then ----------------------------------------------------------------------------------

-- What is to be done now and then, while anything is pending.
function _M:sweep()
    if self.released then
        self:reap()
        return
    end
    self:abandon_left()
    if #self.replies > 0 then
        self:send_replies()
    end
    if self.life then
        self:watch()
        self:drain()
    end
    self:reap()
end


-- Frees the lives whose threads have ended.
function _M:reap()
    local graves = self.graves
    for i = #graves, 1, -1 do
        if not self.waiting.connecting and self.lib.rts_runtime_reap(graves[i].holder) == 1 then
            table.remove(graves, i)
        end
    end
end


-- Whether `sweep` has anything to wait for.
function _M:unsettled()
    local life, ch = self.life, self.channel
    return self.pending > 0 or #self.graves > 0 or self.carried ~= nil
           or life ~= nil and life.ending ~= nil
           -- The watchdog waits for the host to read on.
           or life ~= nil and life.ready and self.lib.rts_sq_begun(ch.c) ~= ch.sq_tail
end


return _M
