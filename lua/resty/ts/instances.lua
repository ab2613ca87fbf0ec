-- The environments of a worker, when it has several: which one a call goes to, and what they are
-- together.
--
-- Runs on the Lua side; nothing here yields. Invariant: what has a key goes to one environment, and
-- stays there when that one is started anew.

local bit = require "bit"

local pairs = pairs

-- Counted as of now.
local CURRENT = { pending = true, submission_bytes = true, completion_bytes = true }
local FNV_PRIME, FNV_BASIS = 16777619, 0x811c9dc5

local _M = {}

-- Where what has this key goes: for `choose`, with however many clients. FNV-1a, 32 bits.
function _M.place(key)
    local h = FNV_BASIS
    for i = 1, #key do
        h = bit.bxor(h, key:byte(i))
        -- In two parts, as a double holds 53 bits.
        local low = bit.band(h, 0xffff) * FNV_PRIME
        local high = bit.band(bit.rshift(h, 16) * FNV_PRIME, 0xffff)
        h = bit.tobit(low % 4294967296 + high * 65536)
    end
    return h % 4294967296
end


-- The client of the fewest calls in flight, of those that accept calls; or of the place.
function _M.choose(clients, place)
    if place then
        return clients[place % #clients + 1]
    end
    local best = clients[1]
    for i = 2, #clients do
        local client = clients[i]
        if best.why and not client.why
           or client.pending < best.pending and not (client.why and not best.why)
        then
            best = client
        end
    end
    return best
end


-- What ts.stats returns: counts are sums, all else is the first one's, but for a state that is not
-- ready; `instances` has each one's own.
function _M.report(clients)
    local all = {}
    for i = 1, #clients do
        all[i] = clients[i]:report()
    end
    if #all == 1 then
        return all[1]
    end
    local report = { instances = all }
    for name, value in pairs(all[1]) do
        report[name] = value
    end
    local counts = clients[1].stats
    for i = 2, #all do
        local one = all[i]
        for name, value in pairs(one) do
            if counts[name] or CURRENT[name] then
                report[name] = report[name] + value
            end
        end
        if report.state == "ready" then
            report.state, report.reason = one.state, one.reason
        end
    end
    return report
end


return _M
