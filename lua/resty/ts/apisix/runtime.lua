-- The runtime in a worker of Apache APISIX, by `plugin_attr.resty-ts` of its config.yaml. APISIX
-- loads its plugins anew when it is told to; what is here outlives them.
--
-- Runs on the Lua side, in init_worker of each worker and of the privileged agent, where Node is
-- not started. Invariant: a start that fails is in the error log with its cure, once; requests then
-- meet a runtime that is not there.

local apisix_plugin = require "apisix.plugin"
local contexts = require "resty.ts.apisix.contexts"
local core = require "apisix.core"
local ts = require "resty.ts"

local ngx = ngx
local pairs = pairs
local next = next
local type = type

local NAME = "resty-ts"
-- why: the reason when the start has failed, or when there is none here.
local _M = { started = false, why = nil }

local alive = {}        -- names of plugins that APISIX has loaded
local left = {}         -- those that it has let go of, until it is known whether for good
local looking = false


-- Starts the runtime in this worker, unless it runs.
function _M.start()
    if _M.started then
        return
    end
    _M.started = true
    local attr = apisix_plugin.plugin_attr(NAME)
    if type(attr) ~= "table" then
        _M.why = "config.yaml has no plugin_attr.resty-ts: set plugins, the absolute path of the "
                 .. "folder of the TypeScript plugins, there"
        core.log.error("resty.ts: ", _M.why)
        return
    end
    local ok, err, code = ts.start(attr)
    if not ok and code ~= "already_started" then
        _M.why = err
        core.log.error("resty.ts: plugin_attr.resty-ts: ", err)
    elseif not ts.stats() then
        _M.why = "Node does not run in nginx's privileged agent"
    end
end


local function reload()
    local report, err = ts.reload()
    if not report then
        core.log.error("resty.ts: the plugins' reload: ", err)
    end
end


local function look(premature)
    looking = false
    if premature then
        return
    end
    local again = false
    for name in pairs(left) do
        if alive[name] then
            again = true
        else
            contexts.forget(name)
        end
    end
    left = {}
    if again and not _M.why then
        reload()
    end
end


-- APISIX has loaded the plugin.
function _M.enter(name)
    alive[name] = true
    _M.start()
end


-- APISIX lets go of the plugin: for good, or to load it anew, which is done when this timer runs.
-- Then what has changed of its TypeScript is reloaded, too.
-- Returns false when all ends anyway, as the worker exits.
function _M.leave(name)
    if ngx.get_phase() == "exit_worker" then
        return false
    end
    alive[name] = nil
    left[name] = true
    if not looking then
        looking = ngx.timer.at(0, look) and true or false
    end
    return true
end


-- Gives APISIX's plugin object the functions by which the runtime hears of it.
function _M.follow(object)
    function object.init()
        _M.enter(object.name)
    end

    function object.destroy()
        _M.leave(object.name)
    end
end


-- The names of the plugins that are loaded, sorted.
function _M.plugins()
    local names = {}
    for name in next, alive do
        names[#names + 1] = name
    end
    core.table.sort(names)
    return names
end


return _M
