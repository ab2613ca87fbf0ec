-- What TypeScript asks of this process at any time: nginx's shared dictionaries, a reload, to keep
-- something for the next environment.
--
-- Runs on the Lua side, wherever completions are read; nothing here yields. Invariant: each
-- question has a reply, an array: true and values, or false and a text that says why.

local reload = require "resty.ts.reload"
local values = require "resty.ts.values"

local pcall = pcall
local type = type
local error = error
local select = select
local tonumber = tonumber
local tostring = tostring
local getmetatable = getmetatable
local setmetatable = setmetatable
local unpack = unpack

local array_mt = values.array_mt
local bytes_mt = values.bytes_mt
local null = values.null
local ngx = ngx

local MOST_KEPT_BYTES = 16777216
-- For how long questions are answered in one turn; the clock is read once in so many.
local MOST_US = 2000
local CLOCK_QUESTIONS = 16

local METHODS = {}
for _, name in ipairs { "get", "set", "add", "replace", "incr", "delete", "ttl", "expire", "lpush",
                        "rpush", "lpop", "rpop", "llen", "safe_set" } do
    METHODS[name] = true
end

local _M = {}

local utf8_valid, now_us -- libresty_ts.so's


function _M.init(lib)
    utf8_valid, now_us = lib.rts_utf8_valid, lib.rts_now_us
end


-- A string of the host's, which may have come as bytes; or what it is beside that. null is nil.
local function plain(v)
    if type(v) == "table" and getmetatable(v) == bytes_mt then
        return v[1]
    end
    if v == null then
        return nil
    end
    return v
end

_M.plain = plain


-- A string as such when it is UTF-8, else as bytes.
local function carried(v)
    if type(v) == "string" and utf8_valid(v, #v) == 0 then
        return values.bytes(v)
    end
    return v
end

_M.carried = carried


-- What error() was called with, without the place in our code that nginx's functions put before it.
function _M.reason(err)
    return (tostring(err):gsub("^[^%s:]+%.lua:%d+: ", ""))
end


-- What pcall(f, ...) returned, as a reply.
function _M.reply_of(ok, ...)
    if not ok then
        return setmetatable({ false, carried(_M.reason((...))) }, array_mt)
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


-- { "shared", dictionary, method, arguments … }: what the method returns, or error().
function _M.shared(question)
    local name, method = plain(question[2]), plain(question[3])
    if not ngx or not ngx.shared then
        error("shared dictionaries are nginx's", 0)
    end
    local dict = ngx.shared[name]
    if not dict then
        error("there is no shared dictionary " .. name .. ": declare it with lua_shared_dict "
              .. name .. " in nginx's http block", 0)
    end
    if not METHODS[method] then
        error("shared dictionaries have no method " .. tostring(method), 0)
    end
    local arguments = {}
    local n = #question - 3
    for i = 1, n do
        arguments[i] = plain(question[i + 3])
    end
    return dict[method](dict, unpack(arguments, 1, n))
end


-- { "keep", name, text }: the next environment gets the text, in its settings. What is over the
-- limit is not kept.
local function keep(question, client)
    local name, text = plain(question[2]), plain(question[3])
    if type(name) ~= "string" or type(text) ~= "string" then
        error("what is kept is a text with a name", 0)
    end
    local kept = client.kept
    local bytes = client.kept_bytes + #text - #(kept[name] or "")
    if bytes <= MOST_KEPT_BYTES and bytes <= client.options.max_message_bytes / 4 then
        kept[name], client.kept_bytes = text, bytes
    end
end


-- Whether these are questions: an array of arrays.
function _M.are_questions(asked)
    if type(asked) ~= "table" then
        return false
    end
    for i = 1, #asked do
        if type(asked[i]) ~= "table" then
            return false
        end
    end
    return true
end


-- The reply to one question, by these functions by kind, which get the question and the client.
local function answer_one(question, kinds, client)
    local kind = kinds[question[1]]
    if kind then
        return _M.reply_of(pcall(kind, question, client))
    end
    return _M.reply_of(false, "there is no question " .. tostring(question[1]))
end


local ANY_TIME = {
    shared = _M.shared,
    keep = keep,
    reload = function(_, client)
        reload.soon(client)
    end,
}

-- Begins to answer questions.
function _M.begin(asked)
    return { asked = asked, replies = setmetatable({}, array_mt) }
end


-- Answers of `work` what there is time for in one turn, as answer_one does, into work.replies.
-- kinds: nil for questions that came without a call.
-- Returns whether that was all; else it goes on when called again.
function _M.answer_some(work, kinds, client)
    local asked, replies = work.asked, work.replies
    local first = #replies + 1
    local stop_at = tonumber(now_us()) + MOST_US
    for i = first, #asked do
        if (i - first) % CLOCK_QUESTIONS == CLOCK_QUESTIONS - 1 and tonumber(now_us()) >= stop_at
        then
            return false
        end
        replies[i] = answer_one(asked[i], kinds or ANY_TIME, client)
    end
    return true
end


-- In place of replies that cannot be sent: the reason, once for each.
function _M.refusals(replies, err)
    local refused = {}
    for i = 1, #replies do
        refused[i] = _M.reply_of(false, err)
    end
    return setmetatable(refused, array_mt)
end


return _M
