-- What the tests in plain LuaJIT share: where things are, a started runtime, child processes.
local ffi = require "ffi"
local bit = require "bit"
local t = require "tap"

local _M = {}

local here = debug.getinfo(1, "S").source:match("^@(.*)test/lua/support%.lua$")
if here:sub(1, 1) ~= "/" then
    here = assert(io.popen("pwd")):read("*l") .. "/" .. here
end
_M.root = here
_M.fixtures = here .. "test/lua/fixtures"

-- Starts the runtime on the fixtures, or raises. options are added to ts.start's.
function _M.start(options)
    local ts = require "resty.ts"
    local all = { modules = _M.fixtures, timeout_ms = 30000, start_timeout_ms = 30000 }
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    local ok, err = ts.start(all)
    if not ok then
        error("ts.start: " .. err, 2)
    end
    return ts
end

-- Runs each function in a coroutine of its own and polls until all have returned.
function _M.together(ts, ...)
    local left = select("#", ...)
    for _, f in ipairs { ... } do
        coroutine.wrap(function()
            f()
            left = left - 1
        end)()
    end
    local deadline = os.time() + 60
    while left > 0 do
        t.ok(os.time() < deadline, "coroutines that came back in time")
        ts.poll(100)
    end
end

function _M.temporary_folder()
    local folder = assert(io.popen("mktemp -d /tmp/rts-lua-XXXXXX")):read("*l")
    return folder
end

function _M.remove_folder(folder)
    assert(folder:match("^/tmp/rts%-lua%-"))
    os.execute("rm -rf '" .. folder .. "'")
end

function _M.write(path, text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
end

function _M.read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

-- Child processes: luajit's io.popen and os.execute lose the signal a process died of.

ffi.cdef [[
int fork(void);
int waitpid(int pid, int *status, int options);
int execvp(const char *file, char *const argv[]);
int kill(int pid, int sig);
int open(const char *path, int flags, int mode);
int dup2(int from, int to);
void _exit(int status);
int usleep(unsigned us);
]]
local C = ffi.C
local WNOHANG = 1

-- Starts `luajit script args...`, whose output goes to a file. Returns a child for wait.
function _M.spawn(script, ...)
    local output = os.tmpname()
    local words = { "luajit", script, ... }
    local argv = ffi.new("char *[?]", #words + 1)
    local keep = {}
    for i, word in ipairs(words) do
        keep[i] = ffi.new("char[?]", #word + 1, word)
        argv[i - 1] = keep[i]
    end
    io.stdout:flush()
    local pid = C.fork()
    if pid == 0 then
        local fd = C.open(output, 577, 384) -- O_WRONLY | O_CREAT | O_TRUNC, 0600
        C.dup2(fd, 1)
        C.dup2(fd, 2)
        C.execvp("luajit", argv)
        C._exit(127)
    end
    return { pid = pid, output = output, status = ffi.new("int[1]") }
end

-- Waits for a child, at most timeout_ms, and ends it then.
-- Returns "exit N", "signal N" or "hangs", and what it printed.
function _M.wait(child, timeout_ms)
    local verdict
    for _ = 1, (timeout_ms or 20000) / 10 do
        if C.waitpid(child.pid, child.status, WNOHANG) == child.pid then
            local status = child.status[0]
            local signal = bit.band(status, 0x7f)
            verdict = signal ~= 0 and "signal " .. signal or "exit " .. bit.rshift(status, 8)
            break
        end
        C.usleep(10000)
    end
    if not verdict then
        C.kill(child.pid, 9)
        C.waitpid(child.pid, child.status, 0)
        verdict = "hangs"
    end
    local text = _M.read(child.output)
    os.remove(child.output)
    return verdict, text
end

function _M.run(script, ...)
    return _M.wait(_M.spawn(script, ...))
end

-- Waits until the child has printed a line with this text; false when it ends or takes 20 s.
function _M.wait_for_line(child, text)
    for _ = 1, 2000 do
        if _M.read(child.output):find(text, 1, true) then
            return true
        end
        C.usleep(10000)
    end
    return false
end

function _M.kill(child, signal)
    C.kill(child.pid, signal)
end

return _M
