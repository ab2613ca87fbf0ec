-- core.config: what config.yaml says (here conf/config.json), and the resources of apisix.yaml
-- (here conf/apisix.json) as lists that follow the file.
--
-- Two ways to follow, as APISIX has: "yaml" makes every item anew, with a new modifiedIndex, when
-- anything in the file has changed; "etcd" makes only those anew that are not what they were.
-- Runs in init_worker and in timers, never in a request.
local cjson = require "cjson.safe"
local log = require "apisix.core.log"
local json = require "apisix.core.json"

local _M = { type = "yaml" }

local config
local objects, by_key = {}, {}

local function read_file(name)
    local path = ngx.config.prefix() .. "conf/" .. name
    local file, err = io.open(path, "rb")
    if not file then
        return nil, "failed to open file " .. path .. " : " .. err
    end
    local text = file:read("*a")
    file:close()
    -- APISIX puts environment variables in this way; the stand-in, where nginx was started.
    return cjson.decode((text:gsub("%${{PREFIX}}", ngx.config.prefix())))
end

function _M.local_conf(force)
    if force or not config then
        local err
        config, err = read_file("config.json")
        if not config then
            return nil, err
        end
        _M.type = config.stand_in_provider or "yaml"
    end
    return config
end

local function id_of(item, index)
    return tostring(item.id or item.username or "arr_" .. index)
end

local function accept(obj, item, place)
    if type(item) ~= "table" then
        log.error("invalid item data of [", place, "], val: ", json.encode(item),
                  ", it should be an object")
        return false
    end
    if obj.checker then
        local ok, err = obj.checker(item, "/" .. place)
        if not ok then
            log.error("failed to check item data of [", obj.key, "] err:", err, " ,val: ",
                      json.delay_encode(item, true))
            return false
        end
    end
    return true
end

local function same_as_before(obj, id, text)
    local at = _M.type == "etcd" and obj.values_hash[id]
    local kept = at and obj.values[at]
    return kept and obj.texts[id] == text and kept or nil
end

local function put(obj, before, item, index, version)
    local id = id_of(item, index)
    local text = json.stably_encode(item)
    local made = same_as_before(before, id, text)
    if not made then
        if not accept(obj, item, obj.key .. "/" .. id) then
            return true
        end
        local place = "/" .. obj.key .. "/" .. id
        made = { value = item, modifiedIndex = item.modifiedIndex or version, key = place }
        item.id = id
        if obj.filter then
            obj.filter(made)
        end
    end
    local at = obj.values_hash[id] or #obj.values + 1
    obj.values[at], obj.values_hash[id], obj.texts[id] = made, at, text
    return made ~= before.values[before.values_hash[id]]
end

local function sync(obj, items, version)
    local before = { values = obj.values, values_hash = obj.values_hash, texts = obj.texts }
    obj.values, obj.values_hash, obj.texts = {}, {}, {}
    local changed = false
    for index, item in ipairs(items or {}) do
        if type(item) == "table" then
            changed = put(obj, before, item, index, version) or changed
        else
            accept(obj, item, obj.key .. "/" .. index)
        end
    end
    if _M.type == "yaml" or changed or #obj.values ~= #before.values then
        obj.conf_version = version
    end
end

local object_methods = {}

function object_methods:get(id)
    local at = self.values_hash[tostring(id)]
    return at and self.values[at]
end

local data, data_version

-- @param key "/routes", say. opts.checker(item, key) says whether an item is right,
-- opts.filter(made) sees each that is.
function _M.new(key, opts)
    local obj = setmetatable({
        key = key:sub(2), values = {}, values_hash = {}, texts = {}, conf_version = 0,
        checker = opts and opts.checker, filter = opts and opts.filter,
    }, { __index = object_methods })
    objects[#objects + 1], by_key[obj.key] = obj, obj
    if data then
        sync(obj, data[obj.key], data_version)
    end
    return obj
end

function _M.fetch_created_obj(key)
    return by_key[key:sub(2)]
end

-- Reads the file; what was made of it before goes. @param version larger than the last.
function _M.stand_in_follow(version)
    local read, err = read_file("apisix.json")
    if not read then
        log.error("failed to parse the content of file apisix.json: ", err)
        return
    end
    data, data_version = read, version
    for _, obj in ipairs(objects) do
        sync(obj, data[obj.key], version)
    end
end

return _M
