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
local math_floor = math.floor
local ngx = ngx
local collectgarbage = collectgarbage
local setmetatable = setmetatable
local table_remove = table.remove
local ngx_timer_at = ngx.timer.at

local BATCH_ENTRIES = 64
local BATCH_BYTES = 65536
local MOST_WAITING = 4096
-- Entries that the host has and has not answered for: what their handlers await is not ours to
-- bound, and each holds some KB there.
local MOST_UNDER_WAY = 16384
local INTERVAL_SECONDS = 0.1
local MOST_ENDED = 1024
local CLOSE_MS = 2000
-- Of the collector's work, each INTERVAL_SECONDS.
local RETIRED_STEP_KB = 512
-- An array's head of 32 bits.
local ARRAY_BYTES = 5
local ARRAY_CODE = 0xdd

local _M = {}

local u32_ptr = ffi.typeof("uint32_t *")
local dropped, dropped_why = 0, nil -- since the last line about it
local told_at = 0       -- ngx.now() of that line

-- Of versions that have newer ones: { token, client }; and those that requests still have.
local retired_tokens = {}
local retired = setmetatable({}, { __mode = "v" }) -- token -> version

local ids = ffi_new("uint32_t[?]", MOST_ENDED)
local packed = setmetatable({ ids, 0 }, values.packed_mt)
local scheduled = false
local watching = false  -- the worker's exit

local flush, schedule


local function new_list()
    return setmetatable({}, values.array_mt)
end


-- What goes to one client. batch: the one being filled, an array's head, then entries. waiting:
-- full ones that found no room, { text, entries }. ended: lists of ids. released: tokens.
local boxes = setmetatable({}, {
    __mode = "k",
    __index = function(self, client)
        local box = {
            batch = ffi_new("uint8_t[?]", BATCH_BYTES), filled = ARRAY_BYTES, entries = 0,
            waiting = {}, waiting_entries = 0, ended = {}, released = new_list(),
        }
        self[client] = box
        return box
    end,
})


-- Tells of dropped entries, once a second at most, or at last.
local function tell_dropped(last)
    local now = ngx.now()
    if dropped > 0 and (last or now - told_at >= 1) then
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


local function send_packed(client, from, bytes, entries)
    if client.unlogged + entries > MOST_UNDER_WAY then
        return false
    end
    packed[1], packed[2] = from, bytes
    return host.notify(client, host.log, entries, packed)
end


-- Sends the batches that wait. Returns whether all are sent.
local function send_waiting(client, box)
    local waiting = box.waiting
    while waiting[1] do
        if not send_packed(client, waiting[1][1], #waiting[1][1], waiting[1][2]) then
            return false
        end
        box.waiting_entries = box.waiting_entries - waiting[1][2]
        table_remove(waiting, 1)
    end
    return true
end


-- Sends the batch, or lets it wait. Returns whether it was sent.
local function send_batch(client, box)
    local entries = box.entries
    if entries == 0 then
        return true
    end
    write_array_head(box.batch, entries)
    local sent = send_waiting(client, box)
                 and send_packed(client, box.batch, box.filled, entries)
    if not sent then
        local waiting = box.waiting
        if box.waiting_entries + entries > MOST_WAITING then
            drop(client, entries, "the runtime takes no more")
        else
            waiting[#waiting + 1] = { ffi_str(box.batch, box.filled), entries }
            box.waiting_entries = box.waiting_entries + entries
        end
    end
    box.filled, box.entries = ARRAY_BYTES, 0
    return sent
end


-- An entry of more than a batch, alone.
local function send_large(client, buffer, bytes)
    local whole, size = buffers.take(bytes + ARRAY_BYTES)
    write_array_head(whole, 1)
    ffi_copy(whole + ARRAY_BYTES, buffer, bytes)
    if not send_packed(client, whole, bytes + ARRAY_BYTES, 1) then
        drop(client, 1, "the runtime takes no more")
    end
    buffers.give(whole, size)
end


-- Adds an entry for the log handlers. Returns nil, or what of it cannot be carried.
function _M.add(client, head, vars, ctx)
    local box = boxes[client]
    encode.begin(box.batch, box.filled, BATCH_BYTES)
    local what = encode.arguments(4, head, vars, ctx, math_floor(ngx.now() * 1000 + 0.5))
    if what then
        encode.drop()
        return what
    end
    local bytes, buffer, size = encode.finish()
    if buffer then
        send_batch(client, box)
        if bytes <= BATCH_BYTES - ARRAY_BYTES then
            ffi_copy(box.batch + ARRAY_BYTES, buffer, bytes)
            box.filled, box.entries = ARRAY_BYTES + bytes, 1
        else
            send_large(client, buffer, bytes)
        end
        buffers.give(buffer, size)
    else
        box.filled = box.filled + bytes
        box.entries = box.entries + 1
    end
    if box.entries >= BATCH_ENTRIES then
        send_batch(client, box)
    end
    schedule()
    return nil
end


-- Has every client told of the requests that have ended: each may have kept something of them.
local function take_ended(clients)
    repeat
        local n = clients[1].lib.rts_requests_ended(ids, MOST_ENDED)
        if n > 0 then
            local list = setmetatable({ ffi_str(ids, 4 * n), 4 * n }, values.view_mt)
            for i = 1, #clients do
                local all = boxes[clients[i]].ended
                all[#all + 1] = list
            end
            request.open = request.open - n
        end
    until n < MOST_ENDED
end


local function send_ended(client, box)
    local ended = box.ended
    while ended[1] do
        if not host.notify(client, host.ended, 0, ended[1]) then
            return false
        end
        table_remove(ended, 1)
    end
    return true
end


local function send_released(client, box)
    if #box.released > 0 and host.notify(client, host.release, 0, box.released) then
        box.released = new_list()
    end
end


local function drop_unsent(client, box, why)
    local entries = box.waiting_entries + box.entries
    if entries > 0 then
        drop(client, entries, why)
    end
    box.waiting, box.waiting_entries, box.filled, box.entries = {}, 0, ARRAY_BYTES, 0
end


local function flush_box(client, box)
    if client.why then
        -- The environment is gone, and with it all that it kept.
        drop_unsent(client, box, "the runtime is gone")
        box.ended, box.released = {}, new_list()
    elseif send_waiting(client, box) and send_batch(client, box) and send_ended(client, box) then
        send_released(client, box)
    end
end


-- Sends what is there, in order, as far as there is room.
function flush()
    local clients = host.clients()
    if clients[1] then
        take_ended(clients)
    end
    for i = 1, #clients do
        flush_box(clients[i], boxes[clients[i]])
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
        local one = retired_tokens[i]
        if retired[one.token] == nil then
            table_remove(retired_tokens, i)
            _M.release(one.client, one.token)
        end
    end
end


local function needed()
    if request.open > 0 or #retired_tokens > 0 or dropped > 0 then
        return true
    end
    local clients = host.clients()
    for i = 1, #clients do
        local box = boxes[clients[i]]
        if box.entries > 0 or box.waiting_entries > 0 or box.ended[1] or #box.released > 0 then
            return true
        end
    end
    return false
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


-- Has the hosts told of this request's end. Called before the first message of it. is_over: it is
-- in its phase log.
function _M.report_end(client, state, is_over)
    state.reported = true
    request.report_end(state, client.lib, is_over)
    schedule()
end


-- Gives a configuration back.
function _M.release(client, token)
    local released = boxes[client].released
    released[#released + 1] = token
    schedule()
end


-- Gives a configuration back once nothing refers to this version any more.
function _M.retire(version)
    retired[version.token] = version
    retired_tokens[#retired_tokens + 1] = { token = version.token, client = version.client }
    schedule()
end


-- Has the plugins of this client end what they have.
local function close(client)
    local _, err, code = host.call(client, host.close, false, CLOSE_MS, 0)
    local life = client.life
    -- In one that has not become ready no plugin was set up.
    if code and (not life or life.ready) then
        ngx.log(ngx.ERR, "resty.ts: the plugins were not ended: ", err)
    end
    client:drop_unlogged(0, "the worker exits, and their handlers have not ended")
    drop_unsent(client, boxes[client], "the worker exits, and the runtime takes no more")
    tell_dropped(true)
end


-- The worker exits: once its requests have ended, has the plugins end what they have.
local function on_worker_exit()
    local clients = host.clients()
    if not clients[1] then
        return
    end
    while true do
        flush()
        if clients[1].waiting.is_last() then
            break
        end
        ngx.sleep(0.05)
    end
    for i = 2, #clients do
        if not clients[i].why then
            ngx.thread.spawn(close, clients[i])
        end
    end
    if not clients[1].why then
        close(clients[1])
    end
    tell_dropped(true)
end


-- To be called once plugins are used in this worker.
function _M.watch_exit(client)
    if not watching then
        watching = true
        client.waiting.at_exit(on_worker_exit)
    end
end


return _M
