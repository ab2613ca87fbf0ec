-- How a coroutine waits in nginx: on an ngx.semaphore that a light thread posts (waiter_nginx.lua).
--
-- Runs on the Lua side. Invariants: an exiting worker is held up by awaited calls only. A waiter
-- that its coroutine left behind (the client is gone) is found by the sweep, as nobody waits on its
-- semaphore any more. A timer that is due may never come (nginx had no connection for it), and then
-- another is made.

local native = require "resty.ts.native"
local ngx_process = require "ngx.process"
local ngx_semaphore = require "ngx.semaphore"
local waiter_nginx = require "resty.ts.waiter_nginx"

local ipairs = ipairs
local math_max = math.max
local math_min = math.min
local setmetatable = setmetatable
local ngx_timer_at = ngx.timer.at
local ngx_now = ngx.now
local ngx_log = ngx.log
local ngx_ERR = ngx.ERR

local SWEEP_SECONDS = 0.2
-- After which a timer will not come any more.
local LATE_SECONDS = 1
-- While a call is past its deadline and the host has not said that it knows.
local WATCH_SECONDS = 0.05
-- How often the host is asked for a sign of life.
local BEAT_SECONDS = 1
-- How long a call waits before it sees to it itself that there are a waiter and a sweep.
local LOOK_SECONDS = 1
-- How long the worker may spin for one answer, in µs.
local SPIN_US = 10
-- A timer's pool is freed when it ends only: after so many wake-ups the waiter starts anew.
local WAKEUPS_A_TIMER = 100000
-- How often, within a ms of nginx's clock, answers are taken without the doorbell, and so without
-- a turn of nginx's loop: one request may make any number of calls.
local MOST_LOOKS = 64
-- Until a start that failed is tried again.
local FAILED_MS = 1000
local WAY_SECONDS = waiter_nginx.WAY_SECONDS
local FOREVER_MS = waiter_nginx.FOREVER_MS
local guarded = waiter_nginx.guarded

local all = {} -- whose clients may be in use
local exit_watched = false
local exit_tasks = {}
local sweep, beat, on_worker_exit, on_start_deadline, on_restart

local YIELDABLE = {
    rewrite = true, access = true, content = true, timer = true, server_rewrite = true,
    ssl_cert = true, ssl_session_fetch = true, ssl_client_hello = true, preread = true,
}


local nginx = {}
nginx.__index = nginx


-- client: has pending, drain(), each_waiter(f), channel
function nginx.new(client)
    return setmetatable({
        client = client,
        free = {},
        nfree = 0,
        deaf = false,       -- whether there is no doorbell, and the log says so
        connecting = false, -- whether the doorbell's connection is being made
        running = false,    -- whether waiter_nginx.main runs
        due = 0,            -- when the one that is scheduled is late, else 0
        sweep_due = 0,      -- when the sweep that is scheduled is late, else 0
        beat_due = 0,       -- the same of the beat
        wakeups_a_timer = WAKEUPS_A_TIMER,
        turn_at = 0,        -- nginx's clock, and ours in µs, when it was seen to move
        turn_us = 0,
        full_at = 0,        -- nginx's clock when a turn had what it may have
        look_at = 0,        -- and when answers were looked for without the doorbell, how often
        looks = 0,
        kicker = nil,       -- the semaphore of waiter_nginx's kicker, while it runs
        kick_posted = false,
        room = {},          -- waiters for room in the submission ring
    }, nginx)
end


-- Returns at once; the client learns later how it went.
function nginx:start()
    self:ensure_running()
    self:beat_later()
    if not exit_watched then
        exit_watched = ngx_timer_at(FOREVER_MS / 1000, on_worker_exit) and true or false
    end
    for i = #all, 1, -1 do
        if all[i].client.released then
            table.remove(all, i)
        end
    end
    all[#all + 1] = self
    return true
end


-- Has the client look whether this life has become ready, after timeout_ms.
function nginx:watch_start(timeout_ms, life)
    ngx_timer_at(timeout_ms / 1000, on_start_deadline, self, life)
    self:sweep_later()
end


function on_start_deadline(premature, self, life)
    if not premature then
        guarded("the start's deadline", self.client.start_timed_out, self.client, life)
    end
end


-- Has this worker exit gracefully, where nginx's master starts another then. Returns whether.
function nginx.replace_worker()
    if ngx_process.type() ~= "worker" then
        return false
    end
    ngx_process.signal_graceful_exit()
    return true
end


-- Has the client start its next life, after delay_ms.
function nginx:restart_later(delay_ms)
    ngx_timer_at(delay_ms / 1000, on_restart, self)
end


-- nginx's clock is that of its last turn, so a timer can come before its time.
function on_restart(premature, self)
    local client = self.client
    if premature then
        return
    end
    local at = client.restart_at
    if not guarded("starting the environment", client.try_again, client) then
        client.restart_at = client.restart_at or client.now_ms() + FAILED_MS
        self:restart_later(FAILED_MS)
        return
    end
    if at and client.restart_at == at then
        self:restart_later(math_max(1, at - client.now_ms()))
    end
end


function nginx:ensure_running()
    local now = ngx_now()
    if self.running or now < self.due then
        return
    end
    local ok, err = ngx_timer_at(0, waiter_nginx.main, self)
    if ok then
        self.due = now + LATE_SECONDS
    else
        ngx_log(ngx_ERR, "resty.ts: cannot start the waiter: ", err)
    end
end


-- Fires early, with premature set, when the worker begins to exit.
function on_worker_exit(premature)
    if not premature then
        ngx_timer_at(FOREVER_MS / 1000, on_worker_exit)
        return
    end
    for _, task in ipairs(exit_tasks) do
        ngx_timer_at(0, task)
    end
    -- Wakes the waiters, which see that the worker is exiting.
    for i = 1, #all do
        if all[i].running then
            all[i].client.channel:ring()
        end
    end
end


-- Has `task` run, as a timer's handler, when a worker begins to exit in which a client was started.
function nginx.at_exit(task)
    exit_tasks[#exit_tasks + 1] = task
end


-- Whether nothing but the caller holds up this worker, when it exits: nginx's own rule. To be
-- called from a timer's handler between two sleeps, as a timer of its own would count.
function nginx.is_last()
    for i = 1, #all do
        local one = all[i]
        if one.running or one.due > ngx_now() or one.client:awaited() > 0 then
            return false
        end
    end
    return native.nginx().ngx_event_no_timers_left() == 0
end


-- A name of the phase when a coroutine cannot wait in it.
function nginx.blocked_phase()
    local phase = ngx.get_phase()
    if YIELDABLE[phase] then
        return nil
    end
    return phase
end


-- Runs f(premature, arg) in so many seconds. Returns whether it will.
function nginx.after(seconds, f, arg)
    return ngx_timer_at(seconds, f, arg) and true or false
end


-- Whether the turn of nginx's loop lasts that had all that it may have.
function nginx:turn_lasts()
    return ngx_now() == self.full_at
end


function nginx:end_turn()
    self.full_at = ngx_now()
end


-- Whether answers may be taken that the doorbell has not brought.
function nginx:may_look()
    local now = ngx_now()
    if now ~= self.look_at then
        self.look_at, self.looks = now, 0
    end
    self.looks = self.looks + 1
    return self.looks <= MOST_LOOKS
end


-- Wakes the host at the end of this turn of nginx's loop, with all that was submitted in it: the
-- kicker's semaphore is among the posted events.
function nginx:kick_later()
    local kicker = self.kicker
    if not kicker then
        local channel = self.client.channel
        channel.lib.rts_sq_kick(channel.c)
    elseif not self.kick_posted then
        self.kick_posted = true
        kicker:post(1)
    end
end


-- Has the client sweep before long.
function nginx:sweep_later()
    local now = ngx_now()
    if now >= self.sweep_due then
        local seconds = self.client.abandoned > 0 and WATCH_SECONDS or SWEEP_SECONDS
        if ngx_timer_at(seconds, sweep, self) then
            self.sweep_due = now + seconds + LATE_SECONDS
        end
    end
end


-- Has the client ask its host for a sign of life, now and then.
function nginx:beat_later()
    local now = ngx_now()
    if now >= self.beat_due and ngx_timer_at(BEAT_SECONDS, beat, self) then
        self.beat_due = now + BEAT_SECONDS + LATE_SECONDS
    end
end


function nginx:new_waiter()
    if not self.running then
        self:ensure_running()
    end
    self:sweep_later()
    local n = self.nfree
    if n > 0 then
        self.nfree = n - 1
        return self.free[n]
    end
    return { sem = ngx_semaphore.new(0), done = false, ok = false, value = nil, text = nil,
             sent = 0 }
end


-- What a coroutine waits on with wait(seconds) until another calls post(1).
function nginx.new_signal()
    return ngx_semaphore.new(0)
end


-- Spins for the answer of a function that lately answered within that time, when nothing else is
-- pending: cheaper for the worker than to sleep, and its doorbell's two system calls. One that was
-- slower is tried again after 2, 4, … 1,024 more calls.
local function spin_for_answer(self, fn)
    local client = self.client
    local channel = client.channel
    if client.pending > 1 or channel.host ~= 0 or client.spin_us == 0 then
        return
    end
    if not self:may_look() then
        return
    end
    local skip = fn.skip_spins
    if skip > 0 then
        fn.skip_spins = skip - 1
        return
    end
    if channel.lib.rts_cq_spin(channel.c, channel.cq_head, SPIN_US) ~= 0 then
        client:drain()
        fn.failed_spins = 0
    else
        local failed = fn.failed_spins
        fn.failed_spins = failed < 10 and failed + 1 or 10
        fn.skip_spins = 2 ^ fn.failed_spins
    end
end


-- Waits on for `left` seconds. nginx may have lost the timers that answers depend on, and who waits
-- needs them. Returns whether w was posted.
local function wait_on(self, w, left)
    local ok
    while left > 0 and not ok do
        self.client:drain()
        self:ensure_running()
        self:sweep_later()
        ok = w.sem:wait(math_min(left, LOOK_SECONDS))
        left = left - LOOK_SECONDS
    end
    return ok
end


-- Waits until w.done, the answer of fn. Returns false after timeout_ms.
function nginx:wait(w, timeout_ms, fn)
    spin_for_answer(self, fn)
    local seconds = timeout_ms / 1000
    local ok = w.sem:wait(math_min(seconds, LOOK_SECONDS))
    if not ok and not w.done then
        -- Not here: a loop would end the trace that waits.
        ok = wait_on(self, w, seconds - LOOK_SECONDS)
    end
    if w.done and not ok then
        w.sem:wait(0) -- answered in the same turn as it timed out: take the post that is left
    end
    return w.done
end


function nginx.wake(_, w)
    local sem = w.sem
    if sem then -- a synchronous call has none
        sem:post(1)
    end
end


function nginx:recycle(w)
    if w.sem:count() ~= 0 then
        return -- a post is left on it: not to be used again
    end
    w.done, w.ok, w.value, w.text, w.sent, w.waits_since = false, false, nil, nil, 0, nil
    local n = self.nfree + 1
    self.nfree = n
    self.free[n] = w
end


-- Returns whether w was among those that wait for room.
local function leave_room(self, w)
    local room = self.room
    for i = 1, #room do
        if room[i] == w then
            table.remove(room, i)
            return true
        end
    end
    return false
end


-- Waits until the host has read on, w.done, or timeout_ms have passed.
function nginx:wait_room(w, head, timeout_ms)
    local channel = self.client.channel
    if channel.lib.rts_sq_want_room(channel.c, head) == 0 then
        return
    end
    local room = self.room
    room[#room + 1] = w
    self:ensure_running()
    local ok = w.sem:wait(timeout_ms / 1000)
    if not leave_room(self, w) and not ok then
        w.sem:wait(0) -- posted in the same turn as it timed out
    end
end


-- Gives nginx its turn, in the middle of what w's coroutine does. w may be done then: it failed.
function nginx.give_way(w)
    w.sem:wait(WAY_SECONDS)
end


-- All of them look again.
function nginx:post_room()
    local room = self.room
    if #room > 0 then
        self.room = {}
        for i = 1, #room do
            room[i].grace = true
            room[i].sem:post(1)
        end
    end
end


function sweep(premature, self)
    self.sweep_due = 0
    if premature then
        return
    end
    guarded("the sweep", self.client.sweep, self.client)
    if self.client:unsettled() then
        self:sweep_later()
    end
    self:beat_later()
end


function beat(premature, self)
    self.beat_due = 0
    if premature or self.client.stopped then
        return
    end
    guarded("the beat", self.client.beat, self.client)
    self:beat_later()
end


-- Whether nobody waits on this waiter any more. One that was posted for room may not have run yet.
function nginx.abandoned(w)
    if w.sync or w.sem:count() < 0 then
        return false
    end
    local grace = w.grace
    w.grace = false
    return not grace
end


return nginx
