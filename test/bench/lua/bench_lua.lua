-- The pure-Lua side of the benchmark: the same work as handlers/bench.ts and plugins/, with no hop.

local jwt = require "bench_jwt"

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

-- What a location answers after its access phase.
function _M.user()
    ngx.print(ngx.var.http_x_user)
end

function _M.ok()
    ngx.print("ok")
end

return _M
