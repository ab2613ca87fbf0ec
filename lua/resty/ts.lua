-- lua-resty-ts: calls TypeScript from Lua, in nginx or in plain LuaJIT.
--
--     local ts   = require "resty.ts"           -- nginx: ts.start{...} in init_worker_by_lua*
--     local calc = ts.import("calc.ts")
--     local sum, err, code = calc.add(1, 2)     -- the coroutine yields
--
-- Runs on the Lua side. Invariant: a mistake of the caller's (a wrong type) is error(); all else
-- is nil, err, code with a code of docs/errors.md.

local again = require "resty.ts.again"
local client = require "resty.ts.client"
local instances = require "resty.ts.instances"
local native = require "resty.ts.native"
local reload = require "resty.ts.reload"
local runtimes = require "resty.ts.runtimes"
local values = require "resty.ts.values"
local wait = require "resty.ts.wait"

local type = type
local error = error
local pairs = pairs
local ipairs = ipairs
local setmetatable = setmetatable
local failure = require "resty.ts.failure"
local math_floor = math.floor
local math_min = math.min

local _M = {
    _VERSION = "0.1.0",
    null = values.null,
    bytes = values.bytes,
    array = values.array,
}

local MiB = 1048576
-- Between two starts that the machine has no room for.
local MOST_START_DELAY_S = 10
-- Of modules, and of their functions: the host knows each by a number from then on.
local MOST_NAMES = 10000

-- name -> { type, default, least, most }
local OPTIONS = {
    modules = { "string" },
    plugins = { "string" },
    library = { "string" },
    runtime = { "string", "auto" },
    libnode = { "string" },
    node = { "string" },
    connect = { "string" },
    shared = { "boolean", false },
    environment = { "table" },
    kill_ms = { "number", 1000, 0, 60000 },
    replace_worker = { "boolean", true },
    host = { "string" },
    runtime_dir = { "string" },
    privileged_agent = { "boolean", false },
    timeout_ms = { "number", 5000, 1, 86400000 },
    sync_timeout_ms = { "number", 50, 1, 60000 },
    start_timeout_ms = { "number", 10000, 1, 600000 },
    max_pending = { "number", 4096, 1, 65535 },
    ring_bytes = { "number", MiB, 4096, 1024 * MiB },
    max_message_bytes = { "number", 64 * MiB, 4096, 1024 * MiB },
    max_heap_mb = { "number", 0, 0, 1048576 },
    max_external_mb = { "number", 0, 0, 1048576 },
    sync_inline = { "boolean", true },
    tune_malloc = { "boolean", true },
    max_log_bytes_per_second = { "number", 12288, 1024, 1024 * MiB },
    stall_ms = { "number", 1000, 10, 3600000 },
    watch = { "boolean", false },
    reload_file = { "string" },
    inspect = { "string" },
    spin_us = { "number", 80, 0, 10000 },
    instances = { "number", 1, 1, 64 },
    first_cursor = { "number", 0, 0, 4294967295 }, -- for tests
}

local current       -- the client, once started; the first when there are several
local clients       -- all of them, when there are several
local why_not_started = "call ts.start{...} in init_worker_by_lua* first"
local imported = {} -- module name -> { name, index, functions }
local module_count, function_count = 0, 0
local handlers = setmetatable({}, { __mode = "k" }) -- function -> its entry


local function check_options(given)
    local options = {}
    for name, value in pairs(given) do
        local rule = OPTIONS[name]
        if not rule then
            return failure("bad_option", "there is no option " .. tostring(name))
        end
        if type(value) ~= rule[1] then
            return failure("bad_option", name .. " is a " .. rule[1] .. ", not a " .. type(value))
        end
        if rule[1] == "number" and (value ~= math_floor(value) or value < rule[3]
                                    or value > rule[4])
        then
            return failure("bad_option", name .. " is a whole number from " .. rule[3] .. " to "
                                         .. rule[4] .. ", not " .. value)
        end
        options[name] = value
    end
    for name, rule in pairs(OPTIONS) do
        if options[name] == nil then
            options[name] = rule[2]
        end
    end
    if not options.modules and not options.plugins then
        return failure("bad_option", "modules, the folder of the TypeScript modules, is missing; "
                                     .. "or plugins, that of the HTTP plugins")
    end
    for _, name in ipairs { "modules", "plugins", "reload_file", "connect" } do
        if options[name] and options[name]:byte() ~= 47 then -- "/"
            return failure("bad_option", name .. " is an absolute path, not " .. options[name])
        end
    end
    options.environment = options.environment or {}
    local ok, err, code = runtimes.check(options)
    if not ok then
        return nil, err, code
    end
    return options
end


-- number: of the instance, of count.
local function new_log(number, count)
    if wait.in_nginx then
        local ngx_log = ngx.log
        local levels = { ngx.ERR, ngx.WARN, ngx.NOTICE, ngx.INFO, ngx.DEBUG }
        local who = count > 1 and "resty.ts: instance " .. number .. ": " or "resty.ts: "
        return function(level, text)
            ngx_log(levels[level] or ngx.ERR, who, text)
        end
    end
    local names = { "error", "warn", "notice", "info", "debug" }
    return function(level, text)
        io.stderr:write("[", names[level] or "error", "] ", text, "\n")
    end
end


local start


-- Has `start` try again: no memory, descriptors or threads are left now.
local function start_later(options, err, delay_s)
    why_not_started = err .. ": it is tried again"
    ngx.log(ngx.ERR, "resty.ts: ", err, ": the next start is in ", delay_s, " s")
    ngx.timer.at(delay_s, function(premature)
        if not premature then
            start(options, math_min(2 * delay_s, MOST_START_DELAY_S))
        end
    end)
    return true
end


-- Starts Node, in this process or beside it. Options and their defaults: docs/lua-api.md.
--
-- In nginx, to be called in init_worker_by_lua*: returns at once, and calls wait until Node is
-- ready, under their own deadline. In plain LuaJIT returns when Node is ready.
--
-- Returns true; or nil, err, code: bad_option, in_master, already_started, no_host, no_libnode,
-- wrong_abi, start_timeout, module_failed, unavailable, system.
function _M.start(options)
    if type(options) ~= "table" then
        error("ts.start takes a table of options", 2)
    end
    return start(options)
end


-- delay_s: when to try once more, where the machine had no room.
function start(options, delay_s)
    local checked, err, code = check_options(options)
    if not checked then
        return nil, err, code
    end
    if current and current.state ~= "stopped" then
        return failure("already_started", "state is " .. current.state)
    end
    if wait.in_nginx then
        if ngx.get_phase() == "init" then
            return failure("in_master", "call ts.start in init_worker_by_lua*")
        end
        if require("ngx.process").type() == "privileged agent" and not checked.privileged_agent
        then
            why_not_started = "Node runs in nginx's privileged agent with "
                              .. "ts.start{ privileged_agent = true } only"
            return true
        end
    end
    if checked.instances > 1 and not wait.in_nginx then
        return failure("bad_option", "instances: there are several in nginx only")
    end
    local lib, path = native.load(checked.library)
    if not lib then
        return failure("unavailable", path)
    end
    local all = {}
    for i = 1, checked.instances do
        local started = client.new(lib, checked, new_log(i, checked.instances))
        started.reload = _M.internal.entry("resty-ts:host", "reload")
        started.reply = _M.internal.entry("resty-ts:http", "reply")
        started.told = i > 1
        local ok
        ok, err, code = started:start(native.dir, checked.host or native.find_host())
        if not ok then
            all[i] = started
            for j = 1, i do
                all[j]:stop(1000)
            end
            if code == "system" and wait.in_nginx then
                return start_later(options, err, delay_s or 0.1)
            end
            return nil, err, code
        end
        all[i] = started
    end
    current = all[1]
    clients = #all > 1 and all or nil
    return true
end


-- The client that a call goes to; place: of what keeps to one instance (instances.place), or nil.
local function client_of(place)
    if clients then
        return instances.choose(clients, place)
    end
    return current
end


local function not_started()
    return failure("not_started", why_not_started)
end


local function check_names(count)
    if count >= MOST_NAMES then
        error("ts.import: more than " .. MOST_NAMES .. " names of modules or of their functions "
              .. "(do not take them from requests)", 0)
    end
end


-- options: as ts.import's, checked.
local function new_handler(module, name, options)
    -- One for all imports: the host knows it by its index.
    local entry = module.functions[name]
    if not entry then
        check_names(function_count)
        entry = {
            name = name,
            title = module.name .. " " .. name,
            module = module,
            index = function_count, -- the host's name for it
            failed_spins = 0, -- see spin_for_answer in wait_nginx.lua
            skip_spins = 0,
        }
        module.functions[name] = entry
        function_count = function_count + 1
    end
    local timeout_ms, place = options.timeout_ms, options.place
    local call = options.idempotent and again.call or client.call
    local function handler(...)
        local started = client_of(place)
        if not started then
            return not_started()
        end
        return call(started, entry, timeout_ms or started.options.timeout_ms, ...)
    end
    return handler, entry
end


local function check_ms(value, name)
    if value ~= nil and (type(value) ~= "number" or value ~= math_floor(value) or value < 1
                         or value > 86400000)
    then
        error(name .. " is a whole number of milliseconds from 1 to 86400000", 3)
    end
    return value
end


local function module_of(name)
    local module = imported[name]
    if not module then
        check_names(module_count)
        module = { name = name, index = module_count, functions = {} }
        imported[name] = module
        module_count = module_count + 1
    end
    return module
end


-- For resty.ts.http, not for others.
_M.internal = {}


-- The client that runs, or ran, for what has this place; or nil, err, code.
function _M.internal.client(place)
    if not current then
        return not_started()
    end
    return client_of(place)
end


-- All of them; none before the start.
function _M.internal.clients()
    return clients or { current }
end


-- The entry of a module's export: what a client's methods call a function.
function _M.internal.entry(module_name, name)
    local _, entry = new_handler(module_of(module_name), name, {})
    return entry
end


local import_mt = {}

-- Functions are made as they are named; what the module exports shows in the call.
function import_mt.__index(self, name)
    if type(name) ~= "string" then
        error("an export's name is a string, not a " .. type(name), 2)
    end
    local meta = self[import_mt]
    local handler, entry = new_handler(meta.module, name, meta.options)
    handlers[handler] = { entry = entry, options = meta.options }
    self[name] = handler
    return handler
end


-- A TypeScript module, by its path below the folder `modules` of ts.start. Does not look at the
-- module yet: what is wrong with it comes back from the calls.
-- options: timeout_ms, sync_timeout_ms: the deadlines of calls to it, else ts.start's.
-- idempotent: whether a call may be made again whose environment ended before it was answered.
-- key: a string; of several instances all that has this key goes to the same one.
-- Returns a table whose fields are functions.
function _M.import(name, options)
    if type(name) ~= "string" or name == "" then
        error("ts.import takes a module's path", 2)
    end
    options = options or {}
    if options.key ~= nil and type(options.key) ~= "string" then
        error("key is a string, not a " .. type(options.key), 2)
    end
    return setmetatable({
        [import_mt] = {
            module = module_of(name),
            options = {
                timeout_ms = check_ms(options.timeout_ms, "timeout_ms"),
                sync_timeout_ms = check_ms(options.sync_timeout_ms, "sync_timeout_ms"),
                idempotent = options.idempotent,
                place = options.key and instances.place(options.key),
            },
        },
    }, import_mt)
end


local function handler_of(fn, caller)
    local known = handlers[fn]
    if not known then
        error(caller .. " takes a function of an imported module first", 3)
    end
    return known
end


-- Calls fn(...) with options for this call: timeout_ms.
-- Returns what fn returns.
function _M.call(fn, options, ...)
    local known = handler_of(fn, "ts.call")
    local timeout_ms = check_ms(options and options.timeout_ms, "timeout_ms")
    local started = client_of(known.options.place)
    if not started then
        return not_started()
    end
    local call = known.options.idempotent and again.call or client.call
    return call(started, known.entry, timeout_ms or started.options.timeout_ms, ...)
end


-- Calls fn(...) and blocks this worker until the answer, timeout_ms at most (nil: the import's or
-- ts.start's sync_timeout_ms). For phases that cannot yield; legal in all.
-- Returns what fn returns.
function _M.call_sync(fn, timeout_ms, ...)
    local known = handler_of(fn, "ts.call_sync")
    check_ms(timeout_ms, "timeout_ms")
    local started = client_of(known.options.place)
    if not started then
        return not_started()
    end
    return started:call_sync(known.entry, timeout_ms or known.options.sync_timeout_ms
                                          or started.options.sync_timeout_ms, ...)
end


-- Calls fn(...) and wants no answer; what it throws is in the error log. Legal in all phases.
-- Returns true when it is queued; or nil, err, code.
function _M.notify(fn, ...)
    local known = handler_of(fn, "ts.notify")
    local started = client_of(known.options.place)
    if not started then
        return not_started()
    end
    return started:notify(known.entry, ...)
end


-- Loads what has changed of the modules and plugins that are in use, checks and sets it up, and
-- puts it in the place of what was there, without a call that fails or waits. What is broken is
-- refused: the error log has its error, and the version before goes on. Yields.
-- Returns { reloaded = { name, … }, refused = { name = text, … }, unchanged = count }; or
-- nil, err, code.
function _M.reload()
    if not current then
        return not_started()
    end
    return reload.all(clients or { current })
end


-- Ends Node, at once: pending calls fail with `stopped`.
-- timeout_ms: how long to wait for its thread, 1000 by default.
-- Returns true; or nil, err, code: not_started, timeout.
function _M.stop(timeout_ms)
    if not current then
        return not_started()
    end
    local all = clients or { current }
    local ok, err, code = true, nil, nil
    for i = 1, #all do
        local ended, why, what = all[i]:stop(timeout_ms or 1000)
        if not ended then
            ok, err, code = nil, why, what
        end
    end
    return ok, err, code
end


-- The state of the runtime and counters since the start; nil, err, code before it.
-- Returns a table: docs/lua-api.md.
function _M.stats()
    if not current then
        return not_started()
    end
    return instances.report(clients or { current })
end


-- Plain LuaJIT: waits up to timeout_ms for answers and resumes the coroutines that wait for them.
-- Returns how many it resumed.
function _M.poll(timeout_ms)
    if wait.in_nginx then
        error("ts.poll is for plain LuaJIT: in nginx calls wake by themselves", 2)
    end
    if not current then
        return not_started()
    end
    return current.waiting:poll(timeout_ms or 0)
end


-- Plain LuaJIT: a descriptor that becomes readable when there is something for ts.poll to do.
-- Read it empty, then call ts.poll(0).
function _M.fd()
    if wait.in_nginx then
        error("ts.fd is for plain LuaJIT", 2)
    end
    if not current then
        return not_started()
    end
    if current.why then
        return failure(current.why.code, current.why.text)
    end
    return current.waiting:fd()
end


return _M
