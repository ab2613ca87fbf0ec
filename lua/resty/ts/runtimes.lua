-- Which runtime: the options of ts.start that say where Node runs, checked and handed to C.
--
-- Runs on the Lua side. Invariant: the strings that C is given are fields of the options, which
-- outlive the call.

local failure = require "resty.ts.failure"

local ffi_str = require("ffi").string
local ipairs = ipairs
local type = type
local concat = table.concat
local find = string.find
local match = string.match
local tonumber = tonumber

-- As rts_runtime_options_t has them.
local RUNTIMES = { embedded = 0, process = 1, auto = 2 }

local _M = {}


-- Whoever reaches the inspector runs what they like as the worker's user: so loopback alone.
local function check_inspect(address)
    local host, port = match(address, "^(.*):(%d+)$")
    port = tonumber(port)
    if not port or port < 1 or port > 65535
       or not (host == "[::1]" or find(host, "^127%.%d+%.%d+%.%d+$"))
    then
        return failure("bad_option", "inspect is an address of loopback with a port, such as "
                                     .. "\"127.0.0.1:9229\", not \"" .. address .. "\"")
    end
    return true
end


-- Returns true; or nil, err, code.
function _M.check(options)
    if options.inspect then
        if options.connect or options.shared then
            return failure("bad_option", "inspect is not for a host that workers share: start one "
                                         .. "by hand, with node --inspect")
        end
        local ok, err, code = check_inspect(options.inspect)
        if not ok then
            return nil, err, code
        end
    end
    if not RUNTIMES[options.runtime] then
        return failure("bad_option", "runtime is \"auto\", \"embedded\" or \"process\", not \""
                                     .. options.runtime .. "\"")
    end
    if options.connect or options.shared then
        local name = options.connect and "connect" or "shared"
        if options.runtime == "embedded" then
            return failure("bad_option", name .. " is for runtime \"process\"")
        end
        if options.connect and options.shared then
            return failure("bad_option", "a host that connect names is shared anyway")
        end
        options.runtime = "process"
    end
    if options.runtime == "auto" and options.libnode then
        options.runtime = "embedded" -- whoever names a libnode wants that one
    end
    for _, name in ipairs(options.environment) do
        if type(name) ~= "string" or not find(name, "^[%a_][%w_]*$") then
            return failure("bad_option", "environment is a list of names of variables")
        end
    end
    options.environment_names = concat(options.environment, " ")
    return true
end


-- Writes them to an rts_runtime_options_t.
function _M.fill(c_options, options)
    c_options.runtime = RUNTIMES[options.runtime]
    c_options.node = options.node
    -- Of shared: the folder below which the socket is.
    c_options.connect = options.shared and (options.runtime_dir or "/tmp") or options.connect
    c_options.shared = options.shared and 1 or 0
    c_options.environment = options.environment_names
    c_options.kill_ms = options.kill_ms
end


-- What `auto` has come to, in words. status: an rts_runtime_status_t.
function _M.choice(status)
    local version = ffi_str(status.node_version)
    if status.process == 0 then
        return "Node " .. version .. " is embedded in the worker: " .. ffi_str(status.libnode)
    end
    return "Node " .. version .. " is a process beside the worker, as none can be embedded: "
           .. ffi_str(status.text)
end


return _M
