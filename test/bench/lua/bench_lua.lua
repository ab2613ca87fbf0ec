-- The pure-Lua side of the benchmark: the same work as handlers/bench.ts, with no hop.

local _M = {}

function _M.echo()
    ngx.print(ngx.var.arg_q)
end

function _M.header()
    ngx.header["X-Reply"] = ngx.var.http_x_user_id
    ngx.print("ok")
end

return _M
