-- How a coroutine waits in plain LuaJIT: by yielding to whoever calls poll; on the main thread by
-- polling.
--
-- Runs on the Lua side. Invariant: a coroutine is resumed once for each time that it yielded here:
-- woken, or past its deadline.

local failure = require "resty.ts.failure"
local native = require "resty.ts.native"

local setmetatable = setmetatable
local co_running = coroutine.running
local co_yield = coroutine.yield
local co_resume = coroutine.resume

-- Of a wait: the runtime's end moves no cursor.
local SLICE_MS = 50
local ROUNDS = 1000

local plain = {}
plain.__index = plain


-- Takes what has come, but for a host that never stops.
local function drain(client)
    local rounds = 0
    while client:drain() and rounds < ROUNDS do
        rounds = rounds + 1
    end
end


function plain.new(client)
    return setmetatable({
        client = client,
        starting = nil,         -- a life that is to be ready by start_deadline
        start_deadline = 0,
        free = {},
        nfree = 0,
        room = {},              -- waiters for room
        woken = {},             -- to be resumed: first_woken .. nwoken
        first_woken = 1,
        nwoken = 0,
        next_deadline = 1 / 0,  -- of the coroutines that wait; ms
    }, plain)
end


-- os.exit leaves without closing the Lua state, and so under a running Node thread.
local function stop_before_exit(client)
    local exit = os.exit
    os.exit = function(...) -- luacheck: ignore
        if not client.stopped then
            client:stop(1000)
        end
        exit(...)
    end
end


-- Has the client look whether this life has become ready, after timeout_ms.
function plain:watch_start(timeout_ms, life)
    self.start_deadline = self.client.now_ms() + timeout_ms
    self.starting = life
end


function plain.replace_worker()
    return false
end


-- The next call finds that it is time.
function plain.restart_later()
end


-- Waits until the runtime is ready. Returns true; or nil, err, code.
function plain:start()
    local client = self.client
    stop_before_exit(client)
    while client.state == "starting" do
        local left = self.start_deadline - client.now_ms()
        if left <= 0 then
            client:refuse("failed", "start_timeout", "the runtime was not ready within "
                                                     .. client.options.start_timeout_ms .. " ms")
        else
            client.channel.lib.rts_cq_wait(client.channel.c, client.channel.cq_head, 0,
                                           (left < 5 and left or 5) * 1000)
            drain(client)
        end
    end
    if client.why then
        return failure(client.why.code, client.why.text)
    end
    return true
end


function plain.blocked_phase()
    return nil
end


-- Nobody else has a turn.
function plain.turn_lasts()
    return false
end


function plain.end_turn()
end


function plain.give_way()
end


-- At once: nobody has a turn that ends.
function plain:kick_later()
    local channel = self.client.channel
    channel.lib.rts_sq_kick(channel.c)
end


-- Each poll drains, and that sends what waits for room.
function plain.sweep_later()
end


function plain:new_waiter()
    local n = self.nfree
    if n > 0 then
        self.nfree = n - 1
        return self.free[n]
    end
    return { co = false, woken = false, done = false, ok = false, value = nil, text = nil,
             sent = 0, deadline = 0 }
end


function plain:recycle(w)
    w.done, w.ok, w.value, w.text, w.sent, w.waits_since = false, false, nil, nil, 0, nil
    local n = self.nfree + 1
    self.nfree = n
    self.free[n] = w
end


-- Yields until poll resumes the coroutine: woken, or past its deadline.
local function sleep_until(self, w, co, deadline)
    w.co, w.deadline = co, deadline
    if deadline < self.next_deadline then
        self.next_deadline = deadline
    end
    co_yield(w)
end


function plain:wait(w, timeout_ms)
    local client = self.client
    local co = co_running()
    if co then
        sleep_until(self, w, co, client.now_ms() + timeout_ms)
        return w.done
    end
    local deadline = client.now_ms() + timeout_ms
    while not w.done do
        local left = deadline - client.now_ms()
        if left <= 0 then
            return false
        end
        self:poll(left, w)
    end
    return true
end


function plain:wake(w)
    if w.co and not w.woken then
        w.woken = true
        local n = self.nwoken + 1
        self.nwoken = n
        self.woken[n] = w
    end
end


local function resume(w)
    local co = w.co
    w.co, w.woken = false, false
    local ok, err = co_resume(co)
    if not ok then
        error(debug.traceback(co, err), 0)
    end
end


-- Puts a coroutine that is past its deadline with those to resume, and keeps the earliest deadline
-- of the others.
local function check_deadline(w, _, self, now)
    if not w.co then
        return
    end
    if now >= w.deadline then
        if not w.done then
            self:wake(w)
        end
    elseif w.deadline < self.next_deadline then
        self.next_deadline = w.deadline
    end
end


-- Sleeps until something may have come, left ms at most.
local function sleep(self, left)
    local client = self.client
    local channel = client.channel
    local lib, c = channel.lib, channel.c
    lib.rts_sq_kick(c)
    if #self.room > 0 then
        -- Room or completions, whichever comes first: there is one thing only to sleep on.
        lib.rts_sq_wait_room(c, channel.sq_head, 1000)
        local room = self.room
        self.room = {}
        for i = 1, #room do
            self:wake(room[i])
        end
    else
        lib.rts_cq_wait(c, channel.cq_head, client.spin_us,
                        (left < SLICE_MS and left or SLICE_MS) * 1000)
    end
    if client.abandoned > 0 then
        client:watch()
    end
    if #client.graves > 0 then
        client:reap()
    end
    if self.starting and client.now_ms() >= self.start_deadline then
        local life = self.starting
        self.starting = nil
        client:start_timed_out(life)
    end
end


-- Has the bell ring for the next completion; for one that is there already, at once.
local function arm(channel)
    if channel.lib.rts_cq_arm(channel.c, channel.cq_head) == 0 then
        channel:ring()
    end
end


-- Waits up to timeout_ms for completions and resumes whom they are for. With `only`, returns as
-- soon as that waiter is done. Returns how many were resumed.
function plain:poll(timeout_ms, only)
    local client = self.client
    local now = client.now_ms()
    local deadline = now + timeout_ms
    drain(client)
    while self.nwoken == 0 and not (only and only.done) and not client.released do
        if now >= self.next_deadline then
            self.next_deadline = 1 / 0
            client:each_waiter(check_deadline, self, now)
        elseif now >= deadline then
            break
        else
            local left = (self.next_deadline < deadline and self.next_deadline or deadline) - now
            sleep(self, left)
            drain(client)
            now = client.now_ms()
        end
    end
    -- A resumed coroutine may poll, too: it takes over what is left.
    local count = 0
    while self.first_woken <= self.nwoken do
        local i = self.first_woken
        local w = self.woken[i]
        self.woken[i] = nil
        self.first_woken = i + 1
        count = count + 1
        resume(w)
    end
    self.first_woken, self.nwoken = 1, 0
    if self.bell and not client.released then
        arm(client.channel)
    end
    return count
end


function plain:wait_room(w, head, timeout_ms)
    local client = self.client
    local channel = client.channel
    local co = co_running()
    self.room[#self.room + 1] = co and w
    if co then
        sleep_until(self, w, co, client.now_ms() + timeout_ms)
        for i = 1, #self.room do
            if self.room[i] == w then
                table.remove(self.room, i) -- its deadline woke it
                return
            end
        end
        return
    end
    channel.lib.rts_sq_wait_room(channel.c, head,
                                 (timeout_ms < SLICE_MS and timeout_ms or SLICE_MS) * 1000)
    drain(client)
end


function plain.abandoned()
    return false
end


-- The doorbell as a descriptor that becomes readable, for a loop of the caller's.
function plain:fd()
    local channel = self.client.channel
    if not self.bell then
        local fd = channel.lib.rts_bell_pair(channel.c, native.error_args())
        if fd < 0 then
            return nil, native.error_text()
        end
        self.bell = fd
        arm(channel)
    end
    return self.bell
end


return plain
