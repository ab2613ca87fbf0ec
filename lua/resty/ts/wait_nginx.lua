-- How a coroutine waits in nginx: on an ngx.semaphore that a light thread posts, the waiter, which
-- itself waits for the doorbell, a cosocket.
--
-- Runs on the Lua side. Invariants: while calls are pending the doorbell is armed, or somebody is
-- about to drain; without a doorbell (no descriptors, no room for its socket) answers are looked
-- for. An exiting worker is held up by awaited calls only: the doorbell's cosocket is closed when
-- there are none. A waiter that its coroutine left behind (the client is gone) is found by the
-- sweep, as nobody waits on its semaphore any more. A timer that is due may never come (nginx had
-- no connection for it), and then another is made.

local ffi = require "ffi"
local native = require "resty.ts.native"
local ngx_semaphore = require "ngx.semaphore"

local ffi_new = ffi.new
local ffi_str = ffi.string
local ipairs = ipairs
local pcall = pcall
local tonumber = tonumber
local math_max = math.max
local setmetatable = setmetatable
local ngx_timer_at = ngx.timer.at
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local ngx_spawn = ngx.thread.spawn
local ngx_kill = ngx.thread.kill
local ngx_exiting = ngx.worker.exiting
local ngx_log = ngx.log
local ngx_ERR = ngx.ERR
local ngx_NOTICE = ngx.NOTICE

local SWEEP_SECONDS = 0.2
-- After which a timer will not come any more.
local LATE_SECONDS = 1
-- While a call is past its deadline and the host has not said that it knows.
local WATCH_SECONDS = 0.05
-- How long a call waits before it sees to it itself that there are a waiter and a sweep.
local LOOK_SECONDS = 1
-- How long the worker may spin for one answer, in µs.
local SPIN_US = 10
-- A timer's pool is freed when it ends only: after so many wake-ups the waiter starts anew.
local WAKEUPS_A_TIMER = 100000
local BUSY_TURNS = 64
-- Where the doorbell's socket is made, when nothing is said of it.
local FOLDERS = { "/tmp", "/dev/shm" }
-- How often answers are looked for when there is no doorbell, and how long until it is tried again.
local POLL_SECONDS, IDLE_POLL_SECONDS = 0.001, 0.02
local DEAF_SECONDS = 1
-- 20 days. Nothing comes of the timeout, but cosockets must have one.
local FOREVER_MS = 1728000000

local all = {} -- whose clients may be in use
local exit_watched = false
local exit_tasks = {}
local waiter_main, sweep, on_worker_exit, on_start_deadline, on_restart

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
        running = false,    -- whether waiter_main runs
        due = 0,            -- when the one that is scheduled is late, else 0
        sweep_due = 0,      -- when the sweep that is scheduled is late, else 0
        wakeups_a_timer = WAKEUPS_A_TIMER,
        kicker = nil,       -- the semaphore of kicker_main, while it runs
        kick_posted = false,
        kick_next = false,  -- whether the kick is left to the next turn
        room = {},          -- waiters for room in the submission ring
    }, nginx)
end


-- Returns at once; the client learns later how it went.
function nginx:start()
    self:ensure_running()
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
        self.client:start_timed_out(life)
    end
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
    client:try_again()
    if at and client.restart_at == at then
        self:restart_later(math_max(1, at - client.now_ms()))
    end
end


function nginx:ensure_running()
    local now = ngx_now()
    if self.running or now < self.due then
        return
    end
    local ok, err = ngx_timer_at(0, waiter_main, self)
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


local function kicker_main(self)
    local channel = self.client.channel
    local lib = channel.lib
    local kicker = ngx_semaphore.new(0)
    self.kicker = kicker
    while true do
        if kicker:wait(FOREVER_MS / 1000) then
            self.kick_posted = false
            -- With answers to be read there is another turn at once: it kicks for both.
            self.kick_next = lib.rts_cq_tail(channel.c) ~= channel.cq_head
            if not self.kick_next then
                lib.rts_sq_kick(channel.c)
            end
        end
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


-- Spins for the answer of a function that lately answered within that time, when nothing else is
-- pending: cheaper for the worker than to sleep, and its doorbell's two system calls. One that was
-- slower is tried again after 2, 4, … 1,024 more calls.
local function spin_for_answer(self, fn)
    local client = self.client
    local channel = client.channel
    if client.pending > 1 or channel.host ~= 0 or client.spin_us == 0 then
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


-- Waits until w.done, the answer of fn. Returns false after timeout_ms.
function nginx:wait(w, timeout_ms, fn)
    spin_for_answer(self, fn)
    local left = timeout_ms / 1000
    local ok
    repeat
        ok = w.sem:wait(left < LOOK_SECONDS and left or LOOK_SECONDS)
        left = left - LOOK_SECONDS
        if not ok and not w.done and left > 0 then
            -- nginx may have lost the timers that answers depend on, and who waits needs them.
            self.client:drain()
            self:ensure_running()
            self:sweep_later()
        end
    until ok or w.done or left <= 0
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


-- All of them look again.
local function post_room(self)
    local room = self.room
    if #room > 0 then
        self.room = {}
        for i = 1, #room do
            room[i].grace = true
            room[i].sem:post(1)
        end
    end
end


-- Has the doorbell listen. Returns its path; or nil, err.
local function listen(self, c)
    local lib = self.client.channel.lib
    local size = 108
    local path = ffi_new("char[?]", size)
    local length = ffi_new("size_t[1]")
    local given = self.client.runtime_dir
    local err
    for _, folder in ipairs(given and { given } or FOLDERS) do
        length[0] = size
        if lib.rts_bell_listen(c, folder, path, length, native.error_args()) == 0 then
            return "unix:" .. ffi_str(path, tonumber(length[0]))
        end
        err = err or native.error_text()
    end
    return nil, err
end


-- Connects a cosocket to the doorbell. Returns it, or nil, err.
local function connect_bell(self)
    local channel = self.client.channel
    local lib, c = channel.lib, channel.c
    local path, err = listen(self, c)
    if not path then
        return nil, err
    end
    local sock = ngx.socket.tcp()
    sock:settimeouts(1000, 1000, FOREVER_MS)
    self.connecting = true -- so that c lives
    local ok
    ok, err = sock:connect(path)
    self.connecting = false
    if not ok then
        lib.rts_bell_unlisten(c)
        return nil, err
    end
    if lib.rts_bell_accept(c, native.error_args()) ~= 0 then
        return nil, native.error_text()
    end
    if channel.c ~= c then -- another life has begun meanwhile
        lib.rts_bell_move(c, channel.c)
    end
    return sock
end


-- While the worker exits: finds calls that nobody waits for, so that they do not hold it up.
local function exit_sweeper(self)
    while self.client:awaited() > 0 do
        ngx_sleep(0.05)
        self.client:sweep()
    end
    if self.client.released then
        return
    end
    self.client.channel:ring()
end


local function waiter_loop(self, sock)
    local client = self.client
    local channel = client.channel
    local lib = channel.lib
    local sweeper, armed, busy = false, false, 0
    for _ = 1, self.wakeups_a_timer do
        client:drain()
        if self.kick_next then
            self:kick_later()
        end
        post_room(self)
        if client.stopped then
            return false
        end
        if ngx_exiting() then
            if client:awaited() == 0 then
                return false
            end
            if not sweeper then
                sweeper = true
                ngx_spawn(exit_sweeper, self)
            end
        end
        armed = lib.rts_cq_arm(channel.c, channel.cq_head) ~= 0
        if not armed then
            -- A host that never stops answering must not keep nginx from all else.
            busy = busy + 1
            if busy % BUSY_TURNS == 0 then
                ngx_sleep(0)
            end
        else
            busy = 0
            local _, err = sock:receiveany(64)
            if err and err ~= "timeout" then
                return true, err
            end
            armed = err ~= nil
        end
    end
    -- The doorbell must not ring while it changes. When it did already, its byte is on the way.
    if armed and lib.rts_cq_disarm(channel.c) == 0 then
        sock:receiveany(64)
    end
    return true
end


-- Looks for answers now and then, for want of a doorbell. Returns whether to go on.
local function poll_loop(self)
    local client = self.client
    local deadline = ngx_now() + DEAF_SECONDS
    while ngx_now() < deadline do
        client:drain()
        post_room(self)
        if client.stopped or ngx_exiting() and client:awaited() == 0 then
            return false
        end
        ngx_sleep(client.pending > 0 and POLL_SECONDS or IDLE_POLL_SECONDS)
    end
    return true
end


-- Waits on the doorbell until it is to be connected anew. Returns whether to go on.
local function ring_loop(self, sock)
    local channel = self.client.channel
    local kicker = ngx_spawn(kicker_main, self)
    local ok, again, reason = pcall(waiter_loop, self, sock)
    ngx_kill(kicker)
    self.kicker, self.kick_posted = nil, false
    channel.lib.rts_sq_kick(channel.c)
    channel.lib.rts_cq_disarm(channel.c)
    sock:close()
    if not ok then
        self.client:broken("reading its answers failed: " .. again)
    elseif reason then
        -- Only a host can have closed it, and one that does cannot be relied on.
        self.client:broken("the doorbell broke: " .. reason)
    end
    self.client:check_life()
    return again
end


function waiter_main(premature, self)
    if self.running then
        return -- another was late, and came
    end
    self.due = 0
    if self.client.stopped then
        self.client:release()
        return
    end
    if premature and self.client:awaited() == 0 then
        return
    end
    self.running = true
    local sock, err = connect_bell(self)
    local again
    if sock then
        if self.deaf then
            self.deaf = false
            ngx_log(ngx_NOTICE, "resty.ts: the doorbell is connected again")
        end
        again = ring_loop(self, sock)
    else
        if not self.deaf then
            self.deaf = true
            ngx_log(ngx_ERR, "resty.ts: the doorbell does not connect, so answers are looked for ",
                    "every millisecond: ", err, "; it is tried again until it does (descriptors: ",
                    "worker_rlimit_nofile; its socket's folder: runtime_dir)")
        end
        again = poll_loop(self)
    end
    self.running = false
    if self.client.stopped then
        self.client:release()
    elseif again or self.client:awaited() > 0 then
        self:ensure_running()
    end
end


function sweep(premature, self)
    self.sweep_due = 0
    if premature then
        return
    end
    self.client:sweep()
    if self.client:unsettled() then
        self:sweep_later()
    end
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
