-- Sends an answer that the host gives piece by piece.
--
-- Runs on the Lua side, in phases that can yield. Invariant: a piece is asked for only when the one
-- before it is on its way, so a slow client holds back the handler, and no more than one piece is
-- in memory here.

local has_body = require("resty.ts.http.gateway").has_body
local host = require "resty.ts.http.host"
local phase_repair = require "resty.ts.http.phase_repair"
local plain = require("resty.ts.asks").plain

local ngx = ngx
local restore = phase_repair.restore

-- A stream may be silent for long; a call has no deadline longer than this.
local PULL_MS = 86400000
-- Of ngx.flush: not that the client is gone.
local HARMLESS = { ["nothing to flush"] = true, buffering = true }

local _M = {}


-- Whether the client is still there, as far as nginx knows.
local function send(piece, phase)
    if piece ~= "" then
        local ok = ngx.print(piece)
        if not ok then
            return false
        end
    end
    local ok, err = ngx.flush(true)
    restore(phase)
    return ok or HARMLESS[err] or false
end


-- Answers with status, chunk and the rest of the stream, and ends the request.
-- on_failure(text, code) is called when the stream breaks off: the client sees that by a
-- connection that closes early.
function _M.send(client, id, status, chunk, on_failure)
    local phase = phase_repair.remember()
    ngx.status = status
    -- nginx itself makes it 304 where the client has what the fields say it is.
    if not ngx.send_headers() or not has_body(ngx.status) or ngx.req.get_method() == "HEAD" then
        return ngx.exit(ngx.HTTP_OK)
    end
    local there = send(chunk or "", phase)
    while there do
        local piece
        local _, err, code = host.still_has(client, id)
        if not code then
            piece, err, code = host.call(client, host.pull, false, PULL_MS, 1, id)
        end
        restore(phase)
        if piece == nil then
            if not code then
                return ngx.exit(ngx.HTTP_OK)
            end
            on_failure(err, code)
            there = false
        else
            there = send(plain(piece), phase)
        end
    end
    return ngx.exit(ngx.HTTP_CLOSE)
end


return _M
