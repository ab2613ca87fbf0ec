-- The pure-Lua side of the benchmark: the same work as handlers/bench.ts and plugins/, with no hop.

local jwt = require "bench_jwt"
local add_header = require("ngx.resp").add_header

local _M = {}

function _M.echo()
    ngx.print(ngx.var.arg_q)
end

function _M.header()
    ngx.header["X-Reply"] = ngx.var.http_x_user_id
    ngx.print("ok")
end

local key

function _M.jwt(secret)
    key = key or jwt.key(secret)
    local user = jwt.subject(key, ngx.var.http_authorization, ngx.time())
    if not user then
        return ngx.exit(401)
    end
    ngx.req.set_header("x-user", user)
end

function _M.fields()
    local var, header = ngx.var, ngx.header
    header["X-Client"] = var.http_x_forwarded_for .. " " .. var.http_accept_language
    header["X-Trace"] = var.http_x_request_id .. "/" .. var.http_x_user_id .. "/"
        .. var.http_user_agent
end

function _M.set_field()
    ngx.req.set_header("x-req", "1")
end

function _M.set_response_field()
    ngx.header["X-Resp"] = "1"
end

function _M.set_both()
    ngx.req.set_header("x-req", "1")
    ngx.ctx.x_resp = "1"
end

function _M.set_kept()
    ngx.header["X-Resp"] = ngx.ctx.x_resp
end

local SECRET = "hunter2"
local MASK = ("*"):rep(#SECRET)

-- A body filter that reads each piece, and changes those that have the secret.
function _M.mask()
    local piece = ngx.arg[1]
    if string.find(piece, SECRET, 1, true) then
        ngx.arg[1] = string.gsub(piece, SECRET, MASK)
    end
end

-- What a location answers after its access phase.
function _M.user()
    ngx.print(ngx.var.http_x_user)
end

function _M.field()
    ngx.print(ngx.var.http_x_req)
end

-- As an upstream adds its fields, one of which may be a plugin's, too, if the request asks for it.
function _M.upstream()
    if ngx.var.http_x_conflict then
        add_header("X-Resp", "0")
    end
    ngx.print(ngx.var.http_x_req)
end

function _M.ok()
    ngx.print("ok")
end

-- cases.ts has both lines, too.
local LINE = '{"id": 4711, "name": "An article", "price": 12.50, "stock": 30}\n'
local SECRET_LINE = "password=" .. SECRET .. "\n"
local PIECE = LINE:rep(16 * 1024 / #LINE)
local PART = {}

-- A body of so many bytes, in pieces of 16 KiB as an upstream's comes; one line more, with a
-- secret, if the request asks for it.
function _M.answer(bytes)
    local rest = bytes % #PIECE
    PART[rest] = PART[rest] or LINE:rep(rest / #LINE)
    for _ = 1, bytes / #PIECE do
        ngx.print(PIECE)
    end
    ngx.print(PART[rest], ngx.var.http_x_secret and SECRET_LINE or "")
end

return _M
