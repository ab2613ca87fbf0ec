-- What plugins log, and refusals while there is no environment, go to nginx's error log: at most
-- so many bytes a second and so many for each call, as nginx answers nobody while it writes a
-- line (2 to 5 µs). Who logs a few lines for each request loses none; who loops is held. What is
-- over that is counted, and the log says how much.
--
-- Runs on the Lua side; nothing here yields. Invariant: lines below error_log's level cost nothing;
-- a quarter of the allowance is kept for warnings and errors. A host that has broken the protocol
-- earns nothing by its calls for a while: what it answers is as little to be believed.

local wait = require "resty.ts.wait"

local math_min = math.min

-- Of a line, beside its text: nginx's time, process, request and context.
local LINE_BYTES = 256
-- nginx cuts a line here.
local MOST_LINE_BYTES = 2048
-- So many seconds' worth may come at once.
local BURST_SECONDS = 16
local REPORT_SECONDS = 10
-- What each call, and each entry of a log handler, allows to be written beside.
local CALL_BYTES = 2048
local DISTRUST_MS = 60000

local written_level = function()
    return 5
end
if wait.in_nginx then
    local get_level = require("ngx.errlog").get_sys_filter_level
    written_level = function()
        return get_level() - ngx.ERR + 1
    end
end

-- Of client.lua's clients.
local methods = {}


local function report(_, self)
    local log = self.plugin_log
    local lines, bytes = log.lines, log.bytes
    log.lines, log.bytes, log.timed = 0, 0, false
    self.log(2, lines .. " log lines (" .. bytes .. " bytes) were dropped: more than "
                .. "max_log_bytes_per_second, " .. log.rate .. ", and " .. CALL_BYTES
                .. " for each call")
end


-- What calls have earned since this was asked last.
local function earned(self, log, now)
    local stats = self.stats
    local calls = stats.completed + stats.failed + log.entries
    local more = calls - log.calls
    log.calls = calls
    return now >= log.earns_at and more * CALL_BYTES or 0
end


-- Whether a line of this level and length may be written now.
local function admit(self, log, level, length)
    local cost = LINE_BYTES + math_min(length, MOST_LINE_BYTES)
    local most = log.rate * BURST_SECONDS
    local now = self.now_ms()
    log.left = math_min(most, log.left + (now - log.at) * log.rate / 1000
                              + earned(self, log, now))
    log.at = now
    if log.left - cost < (level > 2 and most / 4 or 0) then
        return false
    end
    log.left = log.left - cost
    return true
end


-- Whether a line may be written; counts it where it may not.
function methods:may_log(level, text)
    local log = self.plugin_log
    if admit(self, log, level, #text) then
        return true
    end
    self.stats.dropped_log_lines = self.stats.dropped_log_lines + 1
    log.lines, log.bytes = log.lines + 1, log.bytes + #text
    if not log.timed then
        log.timed = self.waiting.after(REPORT_SECONDS, report, self)
    end
    return false
end


-- A plugin's line, or what the host says of one.
function methods:on_log(level, text)
    if level <= written_level() and self:may_log(level, text) then
        self.log(level, text)
    end
end


-- The host has broken the protocol.
function methods:distrust_log()
    self.plugin_log.earns_at = self.now_ms() + DISTRUST_MS
end


-- rate: max_log_bytes_per_second.
local function new(rate)
    if not wait.in_nginx then
        rate = math.huge
    end
    return { rate = rate, left = rate * BURST_SECONDS, at = 0, lines = 0, bytes = 0, timed = false,
             entries = 0,           -- of log handlers, that the host has handled
             calls = 0, earns_at = 0 }
end


return { methods = methods, new = new }
