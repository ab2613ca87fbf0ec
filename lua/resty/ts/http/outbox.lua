-- What goes to the host without a request waiting for it: log entries, ended requests, released
-- configurations.
--
-- Runs on the Lua side: in log_by_lua*, which only adds to it, and in timers. Never waits for room
-- in the ring: what finds none stays for the next time. Invariant: the log entries of a request go
-- before the word that it has ended, and before that its configuration is released.

local buffers = require "resty.ts.buffers"
local encode = require "resty.ts.encode"
local ffi = require "ffi"
local host = require "resty.ts.http.host"
local request = require "resty.ts.http.request"
local values = require "resty.ts.values"

local ffi_new = ffi.new
local ffi_copy = ffi.copy
local ffi_str = ffi.string
local bswap = require("bit").bswap
local ngx = ngx
local collectgarbage = collectgarbage
local setmetatable = setmetatable
local table_remove = table.remove
local ngx_timer_at = ngx.timer.at

local BATCH_ENTRIES = 64
local BATCH_BYTES = 65536
local MOST_WAITING = 4096
local INTERVAL_SECONDS = 0.1
local MOST_ENDED = 1024
local CLOSE_MS = 2000
-- Of the collector's work, each INTERVAL_SECONDS.
local RETIRED_STEP_KB = 512
-- An array's head of 32 bits.
local ARRAY_BYTES = 5
local ARRAY_CODE = 0xdd

local _M = {}

-- The batch being filled: an array's head, then entries.
local batch = ffi_new("uint8_t[?]", BATCH_BYTES)
local u32_ptr = ffi.typeof("uint32_t *")
local filled, entries = ARRAY_BYTES, 0
-- Full ones that found no room: { text, entries }.
local waiting = {}
local waiting_entries = 0
local dropped, dropped_why = 0, nil -- since the last line about it
local told_at = 0       -- ngx.now() of that line
local ended = nil       -- ids that found no room
local released = setmetatable({}, values.array_mt)

-- Tokens whose chains have newer versions, and the versions that requests still have.
local retired_tokens = {}
local retired = setmetatable({}, { __mode = "v" })

local ids = ffi_new("uint32_t[?]", MOST_ENDED)
local packed = setmetatable({ batch, 0 }, values.packed_mt)
local scheduled = false
local watching = false  -- the worker's exit

local flush, schedule


-- Tells of dropped entries, once a second at most.
local function tell_dropped()
    local now = ngx.now()
    if dropped > 0 and now - told_at >= 1 then
        ngx.log(ngx.ERR, "resty.ts: ", dropped, " entries for the plugins' log handlers were ",
                "dropped: ", dropped_why)
        dropped, told_at = 0, now
    end
end


local function drop(client, count, why)
    client.stats.dropped_log_entries = client.stats.dropped_log_entries + count
    dropped, dropped_why = dropped + count, why
    tell_dropped()
    schedule()
end

_M.drop = drop


local function write_array_head(target, count)
    target[0] = ARRAY_CODE
    ffi.cast(u32_ptr, target + 1)[0] = bswap(count)
end


local function send_packed(client, from, bytes)
    packed[1], packed[2] = from, bytes
    return host.notify(client, host.log, packed)
end


-- Sends the batches that wait. Returns whether all are sent.
local function send_waiting(client)
    while waiting[1] do
        if not send_packed(client, waiting[1][1], #waiting[1][1]) then
            return false
        end
        waiting_entries = waiting_entries - waiting[1][2]
        table_remove(waiting, 1)
    end
    return true
end


-- Sends the batch, or lets it wait. Returns whether it was sent.
local function send_batch(client)
    if entries == 0 then
        return true
    end
    write_array_head(batch, entries)
    local sent = #waiting == 0 and send_packed(client, batch, filled)
    if not sent then
        if waiting_entries + entries > MOST_WAITING then
            drop(client, entries, "the runtime takes no more")
        else
            waiting[#waiting + 1] = { ffi_str(batch, filled), entries }
            waiting_entries = waiting_entries + entries
        end
    end
    filled, entries = ARRAY_BYTES, 0
    return sent
end


-- An entry of more than a batch, alone.
local function send_large(client, buffer, bytes)
    local whole, size = buffers.take(bytes + ARRAY_BYTES)
    write_array_head(whole, 1)
    ffi_copy(whole + ARRAY_BYTES, buffer, bytes)
    if not send_packed(client, whole, bytes + ARRAY_BYTES) then
        drop(client, 1, "the runtime takes no more")
    end
    buffers.give(whole, size)
end


-- Adds an entry for the log handlers. Returns nil, or what of it cannot be carried.
function _M.add(client, head, vars, ctx)
    encode.begin(batch, filled, BATCH_BYTES)
    local what = encode.arguments(3, head, vars, ctx)
    if what then
        encode.drop()
        return what
    end
    local bytes, buffer, size = encode.finish()
    if buffer then
        send_batch(client)
        if bytes <= BATCH_BYTES - ARRAY_BYTES then
            ffi_copy(batch + ARRAY_BYTES, buffer, bytes)
            filled, entries = ARRAY_BYTES + bytes, 1
        else
            send_large(client, buffer, bytes)
        end
        buffers.give(buffer, size)
    else
        filled = filled + bytes
        entries = entries + 1
    end
    if entries >= BATCH_ENTRIES then
        send_batch(client)
    end
    schedule()
    return nil
end


local function take_ended(client)
    local list = setmetatable({}, values.array_mt)
    local n = client.lib.rts_requests_ended(ids, MOST_ENDED)
    for i = 1, n do
        list[i] = ids[i - 1]
    end
    request.open = request.open - n
    return list
end


local function send_ended(client)
    repeat
        local list = ended or take_ended(client)
        if #list > 0 and not host.notify(client, host.ended, list) then
            ended = list
            return false
        end
        ended = nil
    until #list == 0
    return true
end


local function send_released(client)
    if #released > 0 and host.notify(client, host.release, released) then
        released = setmetatable({}, values.array_mt)
    end
end


-- Sends what is there, in order, as far as there is room.
function flush()
    local client = host.client()
    if not client then
        return
    end
    if client.why then
        -- The environment is gone, and with it all that it kept.
        if waiting_entries + entries > 0 then
            drop(client, waiting_entries + entries, "the runtime is gone")
        end
        waiting, waiting_entries, filled, entries = {}, 0, ARRAY_BYTES, 0
        released = setmetatable({}, values.array_mt)
        send_ended(client)
        ended = nil
        return
    end
    if send_waiting(client) and send_batch(client) and send_ended(client) then
        send_released(client)
    end
end


-- Releases the tokens of versions that no request has any more. The collector knows which these
-- are; it is pushed on a little, as a worker that is idle would not see them go.
local function release_retired()
    if #retired_tokens == 0 then
        return
    end
    collectgarbage("step", RETIRED_STEP_KB)
    for i = #retired_tokens, 1, -1 do
        local token = retired_tokens[i]
        if retired[token] == nil then
            table_remove(retired_tokens, i)
            released[#released + 1] = token
        end
    end
end


local function needed()
    return entries > 0 or waiting_entries > 0 or request.open > 0 or ended or #released > 0
           or #retired_tokens > 0 or dropped > 0
end


local function on_timer(premature)
    scheduled = false
    tell_dropped()
    release_retired()
    flush()
    if not premature and needed() then
        schedule()
    end
end


function schedule()
    if not scheduled then
        -- Refused while the worker exits: on_worker_exit flushes then.
        scheduled = ngx_timer_at(INTERVAL_SECONDS, on_timer) and true or false
    end
end


-- Notes that the host keeps something for this request, until it has ended.
function _M.keep(state)
    local client = host.client()
    if client and request.keep(state, client.lib) then
        schedule()
    end
end


-- Gives a configuration back.
function _M.release(token)
    released[#released + 1] = token
    schedule()
end


-- Gives a configuration back once nothing refers to `version` any more, which has this token.
function _M.retire(token, version)
    retired[token] = version
    retired_tokens[#retired_tokens + 1] = token
    schedule()
end


-- The worker exits: once its requests have ended, has the plugins end what they have.
local function on_worker_exit()
    local client = host.client()
    if not client then
        return
    end
    while true do
        flush()
        if client.why then
            return
        end
        if client.waiting.is_last() then
            break
        end
        ngx.sleep(0.05)
    end
    local _, err, code = host.call(client, host.close, false, CLOSE_MS, nil)
    if code then
        ngx.log(ngx.ERR, "resty.ts: the plugins were not ended: ", err)
    end
end


-- To be called once plugins are used in this worker.
function _M.watch_exit(client)
    if not watching then
        watching = true
        client.waiting.at_exit(on_worker_exit)
    end
end


return _M
