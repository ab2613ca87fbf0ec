-- Replies to what the host asks of its own accord. Methods of client.lua's clients.
--
-- Runs on the Lua side, within drain and the sweep; nothing here yields. Invariant: each question
-- is answered once, in the order of asking; what there is no time or no room for waits, encoded
-- when it was answered, and goes on where it stopped.

local asks = require "resty.ts.asks"
local buffers = require "resty.ts.buffers"
local slots = require "resty.ts.slots"
local wire = require "resty.ts.wire"

local table_remove = table.remove

local ABANDONED = slots.ABANDONED
local KIND_NOTIFY = wire.KIND_NOTIFY
-- With so many waiting nothing more is read of a host that asks and does not read.
local MOST = 256
local MAX_SLOTS = 65535

local methods = {}


-- The host asks.
function methods:on_ask(id, asked, err)
    if not err and not asks.are_questions(asked) then
        err = "what are no questions"
    end
    if err or not self.reply then
        self:broken("the host asks: " .. (err or "and nobody answers"))
        return
    end
    local waiting = self.replies
    waiting[#waiting + 1] = { id = id, work = asks.begin(asked) }
    if not waiting[2] then
        self:send_replies()
    end
end


-- Encodes what was answered, and sends it where there is room. Else it keeps the bytes, and a slot,
-- whose id its parts have: an abandoned one, as no coroutine waits on it.
local function send_answered(self, entry)
    local ch, replies = self.channel, entry.work.replies
    local length, buffer, size, pieces = ch:encode(2, entry.id, replies)
    if not length then
        length, buffer, size, pieces = ch:encode(2, entry.id, asks.refusals(replies, buffer))
    end
    if not buffer then
        ch:send_encoded(KIND_NOTIFY, 0, 0, self.reply.index, 0, length)
        return true
    end
    entry.work, entry.sent = nil, 0
    entry.buffer, entry.length, entry.size, entry.pieces = buffer, length, size, pieces
    entry.slot = slots.take(self)
    self.waiters[entry.slot] = ABANDONED
    self.abandoned = self.abandoned + 1
    return false
end


-- Sends more of it. Returns whether that was the last of it.
local function send_more(self, entry)
    local ch = self.channel
    local sent
    repeat
        sent = ch:send_part(KIND_NOTIFY, self.ids[entry.slot], self.reply.index, 0, entry.buffer,
                            entry.length, entry.sent, entry.pieces)
        entry.sent = sent or entry.sent
    until entry.sent == entry.length
          or not sent and self.lib.rts_sq_want_room(ch.c, ch.sq_head) ~= 0
    if entry.sent < entry.length then
        return false
    end
    buffers.give(entry.buffer, entry.size)
    slots.free(self, entry.slot)
    self.abandoned = self.abandoned - 1
    return true
end


-- Answers what waits and sends the replies, as far as there are time and room.
function methods:send_replies()
    local waiting = self.replies
    while waiting[1] and not self.why do
        local first = waiting[1]
        if first.work then
            if not asks.answer_some(first.work, nil, self) then
                self.channel.more = true
                return
            end
            if self.pending >= MAX_SLOTS or not self:define(self.reply) then
                self.waiting:sweep_later()
                return
            end
        end
        if not (first.work and send_answered(self, first)) and not send_more(self, first) then
            self.waiting:sweep_later()
            return
        end
        self.stats.notifications = self.stats.notifications + 1
        slots.kick(self)
        table_remove(waiting, 1)
    end
end


return { methods = methods, init = asks.init, MOST = MOST }
