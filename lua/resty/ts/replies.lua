-- Replies to what the host asks of its own accord. Methods of client.lua's clients.
--
-- Runs on the Lua side, within drain and the sweep; nothing here yields. Invariant: each question
-- is answered once, in the order of asking; a reply that finds no room is sent later.

local asks = require "resty.ts.asks"

local table_remove = table.remove

-- Past this a reply that finds no room is given up: it may be larger than the ring.
local PATIENCE_MS = 10000

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
    waiting[#waiting + 1] = {
        id = id,
        replies = asks.answer_now(asked, self),
        give_up_at = self.now_ms() + PATIENCE_MS,
    }
    self:send_replies()
end


-- Sends the replies that wait, as far as there is room.
function methods:send_replies()
    local waiting = self.replies
    while waiting[1] and not self.why do
        local first = waiting[1]
        local ok, err, code = self:notify(self.reply, first.id, first.replies)
        if not ok then
            if code == "queue_full" and self.now_ms() < first.give_up_at then
                self.waiting:sweep_later()
                return
            end
            -- What cannot be sent is told of.
            self:notify(self.reply, first.id, asks.refusals(first.replies, err))
        end
        table_remove(waiting, 1)
    end
end


return { methods = methods, init = asks.init }
