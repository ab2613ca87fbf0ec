-- What the slots tell a host that sleeps. Needs no runtime.
local t = require "tap"

local slots = require "resty.ts.slots"
local wire = require "resty.ts.wire"

-- As much of a client as slots use. host: whether it sleeps, as channel.lua's publish leaves it.
local function client_of(host)
    local client = { pending = 0, abandoned = 0, slots = 0, free = {}, nfree = 0, waiters = {},
                     ids = {}, cancels = {}, sent = {}, kicks = 0, is_full = false }
    client.channel = { host = host, send_text = function(_, kind, id)
        if client.is_full then
            return false
        end
        client.sent[#client.sent + 1] = { kind, id }
        return true
    end }
    client.waiting = {
        sweep_later = function() end,
        kick_later = function() client.kicks = client.kicks + 1 end,
    }
    return setmetatable(client, { __index = slots.methods })
end

t.test("a host that sleeps is kicked for a cancel", function()
    local client = client_of(1)
    local slot = slots.take(client)
    slots.abandon(client, slot, "timeout")
    t.eq(client.sent, { { wire.KIND_CANCEL, client.ids[slot] } })
    t.eq(client.kicks, 1)
end)

t.test("and for one that had found no room, when it has", function()
    local client = client_of(1)
    client.is_full = true
    slots.abandon(client, slots.take(client), "timeout")
    t.eq(client.kicks, 0)
    client.is_full = false
    client:flush_cancels()
    t.eq(#client.sent, 1)
    t.eq(client.kicks, 1)
end)

t.test("one that is awake is not", function()
    local client = client_of(0)
    slots.abandon(client, slots.take(client), "aborted")
    t.eq(#client.sent, 1)
    t.eq(client.kicks, 0)
end)

t.done()
