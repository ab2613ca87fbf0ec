-- The life of a client: its runtime starts, ends by itself, or is stopped; and what it says of
-- itself. These functions are methods of client.lua's clients.
--
-- Runs on the Lua side; nothing here yields. Invariant: once `why` is set no call is accepted, and
-- every call that was pending has been answered with it.

local ffi = require "ffi"
local buffers = require "resty.ts.buffers"
local encode = require "resty.ts.encode"
local errors = require "resty.ts.errors"
local failure = require "resty.ts.failure"
local native = require "resty.ts.native"
local runtimes = require "resty.ts.runtimes"

local ffi_new = ffi.new
local ffi_str = ffi.string
local pairs = pairs
local select = select

local SETTINGS_BYTES = 4096
local settings_buffer = ffi_new("uint8_t[?]", SETTINGS_BYTES)
local CODE_BY_NUMBER = errors.by_number
local TEXT = errors.texts

local _M = {}


-- What the host is told: src/host/main.ts, HostSettings. MessagePack.
local function settings_of(self)
    local options = self.options
    encode.begin(settings_buffer, 0, SETTINGS_BYTES)
    encode.value {
        modules = options.modules or "",
        plugins = options.plugins or "",
        maxMessageBytes = options.max_message_bytes,
        spinUs = options.spin_us,
        life = self.generation,
        stalledAt = "",
    }
    local length, buffer, size = encode.finish()
    local settings = ffi_str(buffer or settings_buffer, length)
    if buffer then
        buffers.give(buffer, size)
    end
    return settings
end


-- Starts the runtime. Returns true, or nil, err, code.
function _M:start(library_dir, host)
    local options = self.options
    local c_options = ffi_new("rts_runtime_options_t")
    c_options.library_dir = library_dir
    c_options.libnode = options.libnode
    c_options.host = host
    local settings = settings_of(self)
    c_options.settings = settings
    c_options.settings_bytes = #settings
    c_options.max_heap_mb = options.max_heap_mb
    runtimes.fill(c_options, options)
    -- At exit nginx closes the Lua state: this ends the Node thread before static destructors run.
    -- Set before there is one, as a signal may end plain LuaJIT at any instruction.
    local out = ffi.gc(ffi_new("rts_runtime_t *[1]"), self.lib.rts_runtime_destroy)
    local code = self.lib.rts_runtime_start(self.channel.c, c_options, out, native.error_args())
    if code ~= 0 then
        local text = native.error_text()
        self.lib.rts_channel_destroy(self.channel.c)
        return failure(CODE_BY_NUMBER[-code], text)
    end
    self.holder = out
    self.runtime = out[0]
    local lib = self.lib
    self.now_ms = function()
        return tonumber(lib.rts_now_us()) / 1000
    end
    return self.waiting:start(options.start_timeout_ms)
end


-- The runtime has not become ready in time.
function _M:start_timed_out()
    if self.state == "starting" then
        self:refuse("failed", "start_timeout", "the runtime was not ready within "
                                               .. self.options.start_timeout_ms .. " ms")
        self.log(1, "the runtime was not ready within start_timeout_ms")
        self.lib.rts_runtime_stop(self.runtime, 0)
    end
end


-- The runtime ended by itself, or did not start.
function _M:on_runtime_end()
    local status = self:status()
    local code = CODE_BY_NUMBER[status.error] or "unavailable"
    local text = ffi_str(status.text)
    local started = self.state == "ready"
    self.log(1, (started and "the runtime ended: " or "the runtime did not start: ")
                .. (TEXT[code] or code) .. ": " .. text)
    self.state = "failed"
    -- What was in flight failed for its own reason; what comes later finds nothing there.
    self:fail_all(code, text)
    if code == "exited" then
        code = "unavailable"
    end
    self.why = { code = code, text = text }
end


-- A record that cannot be: the two sides no longer agree, so nothing more is read.
function _M:broken(what)
    if self.why then
        return
    end
    self.state = "failed"
    self.why = { code = "protocol", text = what }
    self.log(1, "protocol error, the runtime is stopped: " .. what)
    self:fail_all("protocol", what)
    self.lib.rts_runtime_stop(self.runtime, 0)
end


-- Refuses calls from now on, and fails the pending ones.
function _M:refuse(state, code, text)
    self.state = state
    self.why = { code = code, text = text }
    self:fail_all(code, text)
end


function _M:status()
    local status = ffi_new("rts_runtime_status_t")
    self.lib.rts_runtime_status(self.runtime, status)
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
    if self.released then
        return true
    end
    local deadline = self.now_ms() + timeout_ms
    self.stopped = true
    self:refuse("stopped", "stopped", "ts.stop was called")
    self.channel:ring()
    local left = deadline - self.now_ms()
    if self.lib.rts_runtime_stop(self.runtime, left > 0 and left or 0) ~= 0 then
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
    self.lib.rts_runtime_destroy(self.holder)
end


return _M
