-- A client is started and stopped, and what it says of itself. Between the two: lives.lua. These
-- functions are methods of client.lua's clients.
--
-- Runs on the Lua side. Invariant: once `why` is set no call is accepted, and every call that was
-- pending has been answered with it.

local ffi = require "ffi"
local buffers = require "resty.ts.buffers"
local encode = require "resty.ts.encode"
local failure = require "resty.ts.failure"
local runtimes = require "resty.ts.runtimes"
local values = require "resty.ts.values"

local ffi_new = ffi.new
local ffi_str = ffi.string
local pairs = pairs
local select = select

local SETTINGS_BYTES = 4096
local settings_buffer = ffi_new("uint8_t[?]", SETTINGS_BYTES)

local _M = {}


-- What the host is told: src/host/main.ts, HostSettings.
local function settings_of(self, generation)
    local options, last_end = self.options, self.last_end
    local kept = {}
    for _, text in pairs(self.kept) do
        kept[#kept + 1] = text
    end
    return {
        modules = options.modules or "",
        plugins = options.plugins or "",
        maxMessageBytes = options.max_message_bytes,
        maxExternalMb = options.max_external_mb,
        spinUs = options.spin_us,
        life = generation,
        -- What ends an environment while it loads is left to whoever calls it.
        preload = not (last_end and last_end.before_ready),
        stalledAt = last_end and last_end.stack or "",
        kept = values.array(kept),
        watch = options.watch,
        reloadFile = options.reload_file or "",
        startTimeoutMs = options.start_timeout_ms,
        inspect = options.inspect or "",
    }
end


-- As MessagePack. What is too large to be told is done without.
local function encoded(settings)
    encode.begin(settings_buffer, 0, SETTINGS_BYTES)
    if encode.value(settings) then
        encode.drop()
        settings.stalledAt, settings.kept = "", values.array {}
        encode.begin(settings_buffer, 0, SETTINGS_BYTES)
        encode.value(settings)
    end
    local length, buffer, size = encode.finish()
    local text = ffi_str(buffer or settings_buffer, length)
    if buffer then
        buffers.give(buffer, size)
    end
    return text
end


-- What rts_runtime_start is given for an environment of this number.
function _M:runtime_options(generation)
    local options = self.options
    local c_options = ffi_new("rts_runtime_options_t")
    c_options.library_dir = self.library_dir
    c_options.libnode = options.libnode
    c_options.host = self.host
    local settings = encoded(settings_of(self, generation))
    c_options.settings = settings
    c_options.settings_bytes = #settings
    c_options.max_heap_mb = options.max_heap_mb
    c_options.max_external_mb = options.max_external_mb
    c_options.tune_malloc = options.tune_malloc and 1 or 0
    runtimes.fill(c_options, options)
    -- It holds pointers only.
    self.c_strings = settings
    return c_options
end


-- Starts the runtime. Returns true, or nil, err, code.
function _M:start(library_dir, host)
    local lib = self.lib
    self.library_dir, self.host = library_dir, host
    self.now_ms = function()
        return tonumber(lib.rts_now_us()) / 1000
    end
    local ok, err, code = self:begin_life()
    if not ok then
        return nil, err, code
    end
    return self.waiting:start()
end


-- Refuses calls from now on, and fails the pending ones.
function _M:refuse(state, code, text)
    self.state = state
    self.why = { code = code, text = text }
    self:fail_pending(code, text)
    self:drop_unlogged(0, text)
end


-- Gives log entries up that were sent, but for so many.
function _M:drop_unlogged(left, why)
    local dropped = self.unlogged - left
    self.unlogged = left
    if dropped > 0 then
        self.given_up = self.given_up + dropped
        self.stats.dropped_log_entries = self.stats.dropped_log_entries + dropped
        self.log(1, dropped .. " entries for the plugins' log handlers were dropped: " .. why)
    end
end


-- Of the life, or of the last one.
function _M:status()
    local status = ffi_new("rts_runtime_status_t")
    self.lib.rts_runtime_status((self.life or self.dead).runtime, status)
    return status
end


-- Says, once, which runtime `auto` has come to, and why.
function _M:tell_choice()
    if self.options.runtime == "auto" and not self.told then
        self.told = true
        self.log(3, runtimes.choice(self:status()))
    end
end


-- What ts.stats() returns.
function _M:report()
    if self.released then
        return self.last_report
    end
    local status = self:status()
    local ch = self.channel
    local report = {
        state = self.state,
        reason = self.why and select(2, failure(self.why.code, self.why.text)) or nil,
        node_version = ffi_str(status.node_version),
        abi = status.abi,
        backend = ffi_str(status.backend),
        libnode = ffi_str(status.libnode),
        thread_id = status.thread_id,
        runtime = status.process ~= 0 and "process" or "embedded",
        process_id = status.process_id ~= 0 and status.process_id or nil,
        pending = self.pending,
        submission_bytes = (ch.sq_tail - self.lib.rts_sq_head(ch.c)) % 4294967296,
        completion_bytes = (self.lib.rts_cq_tail(ch.c) - ch.cq_head) % 4294967296,
        ring_bytes = ch.bytes,
    }
    for name, count in pairs(self.stats) do
        report[name] = count
    end
    return report
end


-- Stops the runtime. Returns true, or nil, err, code when it does not end in time.
function _M:stop(timeout_ms)
    if self.released or not self.channel.c then
        return true -- it has ended, or never begun
    end
    local deadline = self.now_ms() + timeout_ms
    self.stopped = true
    self.restart_at = nil
    if self.life then
        self.channel:drain_rest(self)
    end
    self:refuse("stopped", "stopped", "ts.stop was called")
    self.channel:ring()
    local left = deadline - self.now_ms()
    if self.life and self.lib.rts_runtime_stop(self.life.runtime, left > 0 and left or 0) ~= 0 then
        return failure("timeout", "the Node thread has not ended within " .. timeout_ms .. " ms")
    end
    self.ended = true
    self:release()
    return true
end


-- Frees channel and runtime once nobody uses them: the thread has ended, and so has the waiter.
function _M:release()
    if not self.ended or self.waiting.running or self.released then
        return
    end
    self.last_report = self:report()
    self.released = true
    self.graves[#self.graves + 1] = self.life or self.dead
    self.life, self.dead = nil, nil
    self:reap()
end


return _M
