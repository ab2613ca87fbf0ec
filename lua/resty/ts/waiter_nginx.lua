-- The waiter: a light thread that waits for the doorbell, a cosocket, and takes what has come.
--
-- Runs on the Lua side, in a timer, one for each client. Invariants: while calls are pending the
-- doorbell is armed, or somebody is about to drain; without a doorbell (no descriptors, no room for
-- its socket) answers are looked for. The doorbell's cosocket is closed when an exiting worker has
-- no awaited calls, which it would hold up. Nothing here runs for long without giving way to nginx,
-- whatever the host does, and no error ends it for good.

local ffi = require "ffi"
local native = require "resty.ts.native"
local ngx_semaphore = require "ngx.semaphore"

local ffi_new = ffi.new
local ffi_str = ffi.string
local ipairs = ipairs
local error = error
local pcall = pcall
local tonumber = tonumber
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local ngx_spawn = ngx.thread.spawn
local ngx_kill = ngx.thread.kill
local ngx_exiting = ngx.worker.exiting
local ngx_log = ngx.log
local ngx_ERR = ngx.ERR
local ngx_NOTICE = ngx.NOTICE

-- 20 days. Nothing comes of the timeout, but cosockets must have one.
local FOREVER_MS = 1728000000
-- What is read of the doorbell at once: a byte is as good as many.
local BELL_BYTES = 4096
-- For how long nginx waits for us, in µs, and how we give way: ngx.sleep(0) comes back in the same
-- expiry of timers where nginx is built without OpenResty's patch of it.
local MOST_US, WAY_SECONDS = 2000, 0.001
-- Until something that failed is tried again.
local FAILED_SECONDS = 0.2
-- Where the doorbell's socket is made, when nothing is said of it.
local FOLDERS = { "/tmp", "/dev/shm" }
-- How often answers are looked for when there is no doorbell, and how long until it is tried again.
local POLL_SECONDS, IDLE_POLL_SECONDS = 0.001, 0.02
local DEAF_SECONDS = 1

local _M = { FOREVER_MS = FOREVER_MS, WAY_SECONDS = WAY_SECONDS }


-- pcall(f, ...), whose error is for the log.
local function guarded(what, f, ...)
    local ok, err = pcall(f, ...)
    if not ok then
        ngx_log(ngx_ERR, "resty.ts: ", what, " failed: ", err)
    end
    return ok, err
end

_M.guarded = guarded


-- Sleeps when nginx has waited for long, as far as its clock tells: it moves with each turn of the
-- loop, and the doorbell may have been read without one.
local function give_way(self)
    local now, now_us = ngx_now(), tonumber(self.client.lib.rts_now_us())
    if now ~= self.turn_at then
        self.turn_at, self.turn_us = now, now_us
    elseif now_us - self.turn_us > MOST_US then
        ngx_sleep(WAY_SECONDS)
    end
end


-- Kicks the host, and takes what it answers at once: when it is that fast it need not ring.
local function kick_and_look(self)
    local client = self.client
    local channel = client.channel
    local lib, c = channel.lib, channel.c
    -- An exiting worker leaves its answers to the waiter, which ends with the last of them.
    local look = self:may_look() and not ngx_exiting() and lib.rts_cq_disarm(c) ~= 0
    lib.rts_sq_kick(c)
    if not look then
        return
    end
    if lib.rts_cq_tail(c) ~= channel.cq_head then
        client:drain()
    end
    -- Another life may have begun, with a channel of its own.
    if lib.rts_cq_arm(channel.c, channel.cq_head) == 0 then
        channel:ring()
    end
end


-- Kicks the host once for all that was submitted in a turn of nginx's loop.
local function kick_for_turn(self, kicker)
    if not kicker:wait(FOREVER_MS / 1000) then
        return
    end
    self.kick_posted = false
    kick_and_look(self)
end


local function kicker_main(self)
    local channel = self.client.channel
    self.kicker = ngx_semaphore.new(0)
    while true do
        if not guarded("waking the host", kick_for_turn, self, self.kicker) then
            self.kick_posted = false
            channel.lib.rts_sq_kick(channel.c)
            -- What it disarmed may have been left so.
            channel:ring()
            ngx_sleep(WAY_SECONDS)
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
        guarded("the sweep", self.client.sweep, self.client)
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
    local sweeper, armed = false, false
    for _ = 1, self.wakeups_a_timer do
        local more = client:drain()
        self:post_room()
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
        armed = false
        if more then
            ngx_sleep(WAY_SECONDS)
        else
            -- Between two lives nobody reads what is left of the first one; the next one rings.
            armed = client.life and lib.rts_cq_arm(channel.c, channel.cq_head) ~= 0
            if armed or not client.life then
                local _, err = sock:receiveany(BELL_BYTES)
                if err and err ~= "timeout" then
                    return true, err
                end
                armed = armed and err ~= nil
            end
            give_way(self)
        end
    end
    -- The doorbell must not ring while it changes. When it did already, its byte is on the way.
    if armed and lib.rts_cq_disarm(channel.c) == 0 then
        sock:receiveany(BELL_BYTES)
    end
    return true
end


-- It sleeps in each round, and no trace does: LuaJIT need not try.
jit.off(waiter_loop)


-- Looks for answers now and then, for want of a doorbell. Returns whether to go on.
local function poll_loop(self)
    local client = self.client
    local deadline = ngx_now() + DEAF_SECONDS
    while ngx_now() < deadline do
        client:drain()
        self:post_room()
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
        error(again, 0)
    end
    if reason then
        -- Only a host can have closed it, and one that does cannot be relied on.
        self.client:broken("the doorbell broke: " .. reason)
        self.client:check_life()
    end
    return again
end


-- Returns whether to go on.
local function run(self)
    local sock, err = connect_bell(self)
    if sock then
        if self.deaf then
            self.deaf = false
            ngx_log(ngx_NOTICE, "resty.ts: the doorbell is connected again")
        end
        return ring_loop(self, sock)
    end
    if not self.deaf then
        self.deaf = true
        ngx_log(ngx_ERR, "resty.ts: the doorbell does not connect, so answers are looked for ",
                "every millisecond: ", err, "; it is tried again until it does (descriptors: ",
                "worker_rlimit_nofile; its socket's folder: runtime_dir)")
    end
    return poll_loop(self)
end


-- A timer's handler.
function _M.main(premature, self)
    if self.running then
        return -- another was late, and came
    end
    self.due = 0
    local client = self.client
    if client.stopped then
        client:release()
        return
    end
    if premature and client:awaited() == 0 then
        return
    end
    self.running = true
    local ok, again = guarded("waiting for answers", run, self)
    self.connecting = false
    if not ok then
        ngx_sleep(FAILED_SECONDS)
    end
    self.running = false
    if client.stopped then
        client:release()
    elseif again and not (ngx_exiting() and not ok) or client:awaited() > 0 then
        self:ensure_running()
    end
end


return _M
