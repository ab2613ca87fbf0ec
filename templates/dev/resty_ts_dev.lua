-- What `resty-ts dev` runs in nginx: the start, the phases of a route's chain, and a line on stdout
-- for each request with the time that they took (src/cli/dev/nginx-config.ts, DevEvent).
--
-- Runs on the Lua side, in the worker. Invariants: a phase does what http.run does, nothing else;
-- each start is told of by one line, `ready` or `failed`.

local _M = {}
local PHASES = { "rewrite", "access", "content", "header_filter", "body_filter" }
local LOOK_S = 0.01

local http, lib

local function now_ms()
    return tonumber(lib.rts_now_us()) / 1000
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\\127]', function(char)
        return ("\\u%04x"):format(char:byte())
    end) .. '"'
end

local function write(text)
    io.stdout:write(text, "\n")
    io.stdout:flush()
end

local function failed(why)
    write(('{"event":"failed","why":%s}'):format(quoted(tostring(why))))
end

local function tell_when_ready(premature, ts)
    local report = ts.stats()
    while report.state == "starting" and not premature do
        ngx.sleep(LOOK_S)
        report = ts.stats()
    end
    if report.state == "ready" then
        write('{"event":"ready"}')
    else
        failed(report.reason or report.state)
    end
end

local function start(options, routes_of)
    local ts = require "resty.ts"
    http = require "resty.ts.http"
    local ok, err = ts.start(options)
    if not ok then
        return failed(err)
    end
    lib = require("resty.ts.native").load()
    for name, chain in pairs(routes_of(ts)) do
        http.route(name, chain)
    end
    assert(ngx.timer.at(0, tell_when_ready, ts))
end

-- routes_of: a function of resty.ts that returns each route's chain, by its name.
function _M.start(options, routes_of)
    local ok, err = pcall(start, options, routes_of)
    if not ok then
        failed(err)
    end
end

-- A phase that answers does not return: its time ends where the next one begins.
local function close(times, now)
    if times.open then
        times[times.open] = (times[times.open] or 0) + now - times.since
        times.open = nil
    end
end

function _M.run(phase)
    local times = ngx.ctx.resty_ts_dev
    if not times then
        times = {}
        ngx.ctx.resty_ts_dev = times
    end
    close(times, now_ms())
    times.open, times.since = phase, now_ms()
    http.run()
    close(times, now_ms())
    if phase == "content" and not ngx.headers_sent then
        ngx.exit(404)
    end
end

function _M.log()
    http.run()
    local times = ngx.ctx.resty_ts_dev or {}
    close(times, now_ms())
    local parts = {}
    for _, phase in ipairs(PHASES) do
        if times[phase] then
            parts[#parts + 1] = ('"%s":%.3f'):format(phase, times[phase])
        end
    end
    write(('{"event":"request","method":%s,"uri":%s,"status":%d,"ms":%.3f,"phases":{%s}}'):format(
        quoted(ngx.req.get_method()), quoted(ngx.var.request_uri or "-"), ngx.status,
        tonumber(ngx.var.request_time) * 1000, table.concat(parts, ",")))
end

return _M
