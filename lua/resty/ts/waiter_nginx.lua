-- The waiter: a light thread that waits for the doorbell, a cosocket, and takes what has come.
--
-- Runs on the Lua side, in a timer, one for each client. Invariants: while calls are pending the
-- doorbell is armed, or somebody is about to drain; without a doorbell (no descriptors, no room for
-- its socket) answers are looked for. The doorbell's cosocket is closed when an exiting worker has
-- no awaited calls, which it would hold up.

local ffi = require "ffi"
local native = require "resty.ts.native"
local ngx_semaphore = require "ngx.semaphore"

local ffi_new = ffi.new
local ffi_str = ffi.string
local ipairs = ipairs
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
local BUSY_TURNS = 64
-- Where the doorbell's socket is made, when nothing is said of it.
local FOLDERS = { "/tmp", "/dev/shm" }
-- How often answers are looked for when there is no doorbell, and how long until it is tried again.
local POLL_SECONDS, IDLE_POLL_SECONDS = 0.001, 0.02
local DEAF_SECONDS = 1

local _M = { FOREVER_MS = FOREVER_MS }


-- Kicks a host that naps, and takes what it answers at once: on our core it runs before we go on.
-- It need not ring meanwhile.
local function kick_and_look(self)
    local client = self.client
    local channel = client.channel
    local lib, c = channel.lib, channel.c
    -- An exiting worker leaves its answers to the waiter, which ends with the last of them.
    local look = not ngx_exiting() and lib.rts_cq_disarm(c) ~= 0
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
local function kicker_main(self)
    local channel = self.client.channel
    local lib = channel.lib
    local kicker = ngx_semaphore.new(0)
    self.kicker = kicker
    while true do
        if kicker:wait(FOREVER_MS / 1000) then
            if channel.cq_head ~= self.kick_head then
                -- Answers were read since this was posted. Whom they are for goes first: then the
                -- clients have something to do while the host does.
                kicker:post(1)
                kicker:wait(FOREVER_MS / 1000)
            end
            self.kick_posted = false
            -- With answers to be read there is another turn at once: it kicks for both.
            self.kick_next = lib.rts_cq_tail(channel.c) ~= channel.cq_head
            if not self.kick_next then
                kick_and_look(self)
            end
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
        self.client:broken("reading its answers failed: " .. again)
    elseif reason then
        -- Only a host can have closed it, and one that does cannot be relied on.
        self.client:broken("the doorbell broke: " .. reason)
    end
    self.client:check_life()
    return again
end


-- A timer's handler.
function _M.main(premature, self)
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


return _M
