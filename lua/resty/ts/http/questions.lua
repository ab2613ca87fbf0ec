-- Answers what a plugin asks of nginx beyond the snapshot: docs/http-protocol.md, "A question".
--
-- Runs on the Lua side, in phases that can yield. Invariant: asks.lua's.

local asks = require "resty.ts.asks"
local phase_repair = require "resty.ts.http.phase_repair"
local request = require "resty.ts.http.request"
local values = require "resty.ts.values"

local ngx = ngx
local ngx_req = ngx.req
local type = type
local error = error
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local tostring = tostring
local lower = string.lower
local sort = table.sort

local plain = asks.plain
local carried = asks.carried
local bytes = values.bytes
local array_mt = values.array_mt

-- nginx's turn, when there are many questions.
local WAY_SECONDS = 0.001

local _M = {}


local function variable(question)
    local name = plain(question[2])
    local state = request.get()
    local var = state.gateway.var
    local value
    if name == "request_id" then
        value = request.text(state)
    elseif var then
        value = var(state, name)
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
        return nil, path
    end
    return bytes("")
end


local function by_name(a, b)
    local lower_a, lower_b = lower(a), lower(b)
    if lower_a == lower_b then
        return a < b
    end
    return lower_a < lower_b
end


-- Names and values in turn; in the order of the names, as Lua's table has none.
local function fields_of(answer)
    local names, flat = {}, setmetatable({}, array_mt)
    for name in pairs(answer.header) do
        names[#names + 1] = name
    end
    sort(names, by_name)
    for _, name in ipairs(names) do
        local value = answer.header[name]
        local all = type(value) == "table" and value or { value }
        for i = 1, #all do
            flat[#flat + 1] = carried(name)
            flat[#flat + 1] = carried(tostring(all[i]))
        end
    end
    return flat
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
    -- Without a text lua-nginx-module sends the client's body, or a length and no body.
    options.body = plain(wanted.body) or ""
    local answer = ngx.location.capture(uri, options)
    -- nginx says so, too, of an answer to HEAD, and of its own without a body: `return 404`, say.
    if answer.truncated and method ~= "HEAD"
       and (answer.status == 200 or answer.body ~= "")
    then
        error("the subrequest to " .. uri .. " broke off", 0)
    end
    return answer.status, fields_of(answer), bytes(answer.body or "")
end


-- { "consumer", field, value }
local function consumer(question)
    local state = request.get()
    local find = state.gateway.find_consumer
    if not find then
        error("consumers are Apache APISIX's", 0)
    end
    return find(state, plain(question[2]), plain(question[3]))
end


-- The changes before this question were applied.
local function applied()
end


local KINDS = {
    applied = applied,
    var = variable, body = body, shared = asks.shared, subrequest = subrequest,
    consumer = consumer,
}


-- Answers the questions in their order. Yields. Returns the array of replies.
function _M.answer(asked)
    local work = asks.begin(asked)
    while not asks.answer_some(work, KINDS) do
        local phase = phase_repair.remember()
        ngx.sleep(WAY_SECONDS)
        phase_repair.restore(phase)
    end
    return work.replies
end


return _M
