-- Answers what a plugin asks of nginx beyond the snapshot: docs/http-protocol.md, "A question".
--
-- Runs on the Lua side, in phases that can yield. Invariant: each question has a reply; what nginx
-- refuses is a reply, too, with the reason in words.

local changes = require "resty.ts.http.changes"
local host = require "resty.ts.http.host"
local policy = require "resty.ts.http.policy"
local request = require "resty.ts.http.request"
local values = require "resty.ts.values"

local ngx = ngx
local ngx_req = ngx.req
local pcall = pcall
local type = type
local error = error
local pairs = pairs
local select = select
local tostring = tostring
local unpack = unpack
local table_concat = table.concat
local setmetatable = setmetatable

local plain = changes.plain
local bytes = values.bytes
local array_mt = values.array_mt
local null = values.null

local SHARED = {}
for _, name in ipairs { "get", "set", "add", "replace", "incr", "delete", "ttl", "expire", "lpush",
                        "rpush", "lpop", "rpop", "llen", "safe_set" } do
    SHARED[name] = true
end

local _M = {}


-- A string as such when it is UTF-8, else as bytes.
local function carried(v)
    if type(v) == "string" then
        local client = host.client()
        if client and client.lib.rts_utf8_valid(v, #v) == 0 then
            return bytes(v)
        end
    end
    return v
end


local function variable(question)
    local name = plain(question[2])
    local value
    if name == "request_id" then
        value = request.text(request.get())
    else
        value = ngx.var[name]
    end
    return value and bytes(value)
end


local function body()
    ngx_req.read_body()
    local data = ngx_req.get_body_data()
    if data then
        return bytes(data)
    end
    local path = ngx_req.get_body_file()
    if path then
        return nil, carried(path)
    end
    return bytes("")
end


local function shared(question)
    local name, method = plain(question[2]), plain(question[3])
    local dict = ngx.shared[name]
    if not dict then
        error("there is no shared dictionary " .. name .. ": declare it with lua_shared_dict "
              .. name .. " in nginx's http block", 0)
    end
    if not SHARED[method] then
        error("shared dictionaries have no method " .. tostring(method), 0)
    end
    local arguments = {}
    local n = #question - 3
    for i = 1, n do
        arguments[i] = plain(question[i + 3])
    end
    return dict[method](dict, unpack(arguments, 1, n))
end


local function headers_of(answer)
    local headers = {}
    for name, value in pairs(answer.header) do
        if type(value) == "table" then
            value = table_concat(value, ", ")
        end
        headers[name:lower()] = carried(tostring(value))
    end
    return headers
end


local function subrequest(question)
    local uri, wanted = plain(question[2]), question[3]
    local options = {}
    local method = plain(wanted.method)
    if method then
        options.method = ngx["HTTP_" .. method]
        if type(options.method) ~= "number" then
            error("nginx does not know the method " .. method, 0)
        end
    end
    options.args = plain(wanted.args)
    options.body = plain(wanted.body)
    local answer = ngx.location.capture(uri, options)
    if answer.truncated then
        error("the subrequest to " .. uri .. " broke off", 0)
    end
    return answer.status, headers_of(answer), bytes(answer.body or "")
end


local KINDS = { var = variable, body = body, shared = shared, subrequest = subrequest }


-- What a pcall returned, as a reply.
local function reply_of(ok, ...)
    if not ok then
        return setmetatable({ false, carried(policy.reason((...))) }, array_mt)
    end
    local reply = { true }
    for i = 1, select("#", ...) do
        local v = select(i, ...)
        if v == nil then
            v = null
        end
        reply[i + 1] = carried(v)
    end
    return setmetatable(reply, array_mt)
end


-- Answers the questions in their order. Yields. Returns the array of replies.
function _M.answer(asked)
    local replies = {}
    for i = 1, #asked do
        local question = asked[i]
        local kind = KINDS[question[1]]
        if kind then
            replies[i] = reply_of(pcall(kind, question))
        else
            replies[i] = reply_of(false, "there is no question " .. tostring(question[1]))
        end
    end
    return setmetatable(replies, array_mt)
end


return _M
