-- A stand-in for apisix.consumer: which consumer has a credential, and making it the request's.
-- Runs in requests; the list of consumers follows the file (apisix.core.config).
local core = require "apisix.core"
local plugin = require "apisix.plugin"
local lrucache = core.lrucache

local _M = { version = 0.3 }

local consumers

local per_plugin = lrucache.new { ttl = 300, count = 512 }

-- A consumer as auth plugins see it. Items of the list may be credentials of one.
local function node_of(item, conf)
    local owner, credential = item.value.id:match("^(.-)/credentials/(.+)$")
    local from = owner and consumers:get(owner) or item
    local node = core.table.clone(from.value)
    node.modifiedIndex = from.modifiedIndex
    node.credential_id = credential
    node.custom_id = node.labels and node.labels.custom_id
    node.consumer_name = node.id
    node.auth_conf = conf
    return node
end

local function nodes_of(name)
    local nodes = {}
    for _, item in ipairs(consumers.values) do
        local conf = item.value.plugins and item.value.plugins[name]
        if conf then
            nodes[#nodes + 1] = node_of(item, conf)
        end
    end
    if #nodes == 0 then
        return nil
    end
    return { nodes = nodes, len = #nodes, conf_version = consumers.conf_version }
end

-- The consumers that have a configuration of an auth plugin; nil when there are none.
function _M.plugin(name)
    local loaded = plugin.get(name)
    if not loaded or loaded.type ~= "auth" then
        return nil
    end
    return per_plugin(name, consumers.conf_version, nodes_of, name)
end

_M.consumers_conf = _M.plugin

local function by_attribute(conf, key_attr)
    local found = {}
    for _, node in ipairs(conf.nodes) do
        local value = node.auth_conf[key_attr]
        if value == nil then
            core.log.error("missing consumer auth credential '", key_attr,
                           "', skipping consumer: ", node.consumer_name)
        else
            found[value] = node
        end
    end
    return found
end

function _M.consumers_kv(name, conf, key_attr)
    return per_plugin("kv#" .. name .. "#" .. key_attr, conf.conf_version, by_attribute, conf,
                      key_attr)
end

-- The consumer, and the list's conf that attach_consumer wants.
function _M.find_consumer(name, key_attr, value)
    local conf = _M.plugin(name)
    if not conf then
        return nil, nil, "Missing related consumer"
    end
    return _M.consumers_kv(name, conf, key_attr)[value], conf
end

function _M.attach_consumer(ctx, consumer, conf)
    ctx.consumer = consumer
    ctx.consumer_name = consumer.consumer_name
    ctx.consumer_group_id = consumer.group_id
    ctx.consumer_ver = conf.conf_version
    core.request.set_header(ctx, "X-Consumer-Username", consumer.username)
    core.request.set_header(ctx, "X-Credential-Identifier", consumer.credential_id)
    core.request.set_header(ctx, "X-Consumer-Custom-ID", consumer.custom_id)
end

function _M.consumers()
    return consumers.values, consumers.conf_version
end

function _M.init_worker()
    consumers = core.config.new("/consumers", {
        checker = function(item)
            return plugin.plugin_checker(item, core.schema.TYPE_CONSUMER)
        end,
        filter = function(item)
            plugin.set_plugins_meta_parent(item.value.plugins, item)
        end,
    })
end

return _M
