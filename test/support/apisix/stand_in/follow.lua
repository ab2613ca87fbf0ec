-- Keeps every worker up to date with what a test changes: the file of resources, and the plugins to
-- load. A version of each stands in a shared dictionary; each worker says there which one it has
-- taken, so that the test can wait for all. Work is done in timers, as in APISIX.
--
-- `start` runs in init_worker, `follow` in timers, the others in the control API's requests.
local semaphore = require "ngx.semaphore"
local config = require "apisix.core.config"
local plugin = require "apisix.plugin"

local _M = {}

local INTERVAL = 0.05

local dict = ngx.shared.stand_in

-- What this process has taken.
local taken = { config = -1, plugins = 0 }

local function version_of(what)
    return dict:get(what) or 0
end

local function follow()
    if version_of("plugins") ~= taken.plugins then
        taken.plugins = version_of("plugins")
        plugin.load()
    end
    if version_of("config") ~= taken.config then
        taken.config = version_of("config")
        config.stand_in_follow(taken.config)
    end
    dict:set("taken:" .. ngx.worker.pid(), taken.config .. "/" .. taken.plugins)
end

-- Reads the file for the first time. Lists that are made later are filled when they are made.
function _M.start()
    taken.config, taken.plugins = version_of("config"), version_of("plugins")
    config.stand_in_follow(taken.config)
    dict:set("taken:" .. ngx.worker.pid(), taken.config .. "/" .. taken.plugins)
    assert(ngx.timer.every(INTERVAL, function(premature)
        if not premature then
            follow()
        end
    end))
end

-- Counts "config" or "plugins" up. Returns when this process has followed; others do in their time.
function _M.announce(what)
    dict:incr(what, 1, 0)
    local done = semaphore.new()
    assert(ngx.timer.at(0, function()
        local ok, err = pcall(follow)
        if not ok then
            ngx.log(ngx.ERR, "stand-in: ", err)
        end
        done:post()
    end))
    assert(done:wait(30))
end

-- What there is to take, and what each process has: { wanted, taken = { [pid] = … } }.
function _M.state()
    local state = { wanted = version_of("config") .. "/" .. version_of("plugins"), taken = {} }
    for _, key in ipairs(dict:get_keys(0)) do
        local pid = key:match("^taken:(%d+)$")
        if pid then
            state.taken[pid] = dict:get(key)
        end
    end
    return state
end

return _M
