-- Checks what Lua code says of plugins, http.chain's lists above all, and knows their policies.
--
-- Pure: needs no nginx. Invariant: what is wrong is error(), at the public function's caller.

local values = require "resty.ts.values"

local type = type
local error = error
local pairs = pairs
local ipairs = ipairs
local tostring = tostring
local math_floor = math.floor
local table_concat = table.concat

local null = values.null

-- Codes that say that the runtime has no room, or is not there.
local OVERLOAD = {
    queue_full = true, unavailable = true, exited = true, stalled = true,
    out_of_memory = true, stopped = true, not_started = true,
    start_timeout = true, no_libnode = true, wrong_abi = true, no_host = true,
}
local KINDS = { "on_error", "on_timeout", "on_overload" }

local _M = {
    -- What "closed" answers with.
    CLOSED = { on_error = 500, on_timeout = 504, on_overload = 503 },
}


-- Which policy is for this code.
function _M.kind(code)
    if code == "timeout" then
        return "on_timeout"
    end
    return OVERLOAD[code] and "on_overload" or "on_error"
end


-- A policy as plugins write it, as a status. Returns 0 for "open".
function _M.status(kind, policy)
    if policy == "open" then
        return 0
    end
    return type(policy) == "number" and policy or _M.CLOSED[kind]
end


local function is_policy(v)
    return v == "open" or v == "closed"
           or type(v) == "number" and v >= 400 and v <= 599 and v == math_floor(v)
end


local RULES = {
    on_error = { is_policy, '"closed", "open" or a status from 400 to 599' },
    on_timeout = { is_policy, '"closed", "open" or a status from 400 to 599' },
    on_overload = { is_policy, '"closed", "open" or a status from 400 to 599' },
    timeout_ms = { function(v)
        return type(v) == "number" and v == math_floor(v) and v >= 1 and v <= 86400000
    end, "a whole number of milliseconds from 1 to 86400000" },
    priority = { function(v)
        return type(v) == "number" and v == v
    end, "a number" },
}
local OWN = { name = true, conf = true, [1] = true, [2] = true }


function _M.check_name(name, level)
    if type(name) ~= "string" or name == "" then
        error("a plugin's name is a string, not " .. tostring(name), level + 1)
    end
    return name
end


function _M.check_conf(conf, name, level)
    if type(conf) ~= "table" then
        error("the configuration of " .. name .. " is a table, not a " .. type(conf), level + 1)
    end
    return conf
end


local function check_member(entry, i, level)
    if type(entry) == "string" then
        entry = { entry }
    end
    if type(entry) ~= "table" then
        error("plugin " .. i .. " of a chain is { name = ..., conf = ... }, not a " .. type(entry),
              level + 1)
    end
    local name = _M.check_name(entry.name or entry[1], level + 1)
    local conf = entry.conf or entry[2]
    if conf ~= nil then
        _M.check_conf(conf, name, level + 1)
    end
    local options
    for key, value in pairs(entry) do
        local rule = RULES[key]
        if rule then
            if not rule[1](value) then
                error(key .. " of " .. name .. " is " .. rule[2] .. ", not " .. tostring(value),
                      level + 1)
            end
            options = options or {}
            options[key] = value
        elseif not OWN[key] then
            error("a plugin in a chain has no option " .. tostring(key), level + 1)
        end
    end
    return { name, conf or null, options or null }
end


-- The key of a chain's list, or nil.
function _M.check_key(list, level)
    local key = type(list) == "table" and list.key or nil
    if key ~= nil and type(key) ~= "string" then
        error("the key of a chain is a string, not a " .. type(key), level + 1)
    end
    return key
end


-- A chain's list as `configure` takes it.
-- Returns its members; the names in one text; and for each kind of failure the status that answers
-- when the runtime is not there to say (0: open): one closed plugin closes the chain.
function _M.check_chain(list, level)
    if type(list) ~= "table" or #list == 0 then
        error("a chain is a list of one plugin or more", level + 1)
    end
    local members, names, policies = {}, {}, {}
    for i, entry in ipairs(list) do
        members[i] = check_member(entry, i, level + 1)
        names[i] = members[i][1]
    end
    for _, kind in ipairs(KINDS) do
        policies[kind] = 0
        for _, member in ipairs(members) do
            local options = member[3]
            if policies[kind] == 0 then
                policies[kind] = _M.status(kind, options ~= null and options[kind] or "closed")
            end
        end
    end
    return members, table_concat(names, ", "), policies
end


return _M
