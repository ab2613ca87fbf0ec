-- The bridge's side of the benchmark: Lua only carries values to TypeScript and back.

local cjson = require "cjson"
local ts = require "resty.ts"

local bench = ts.import("bench.ts")
local _M = {}

local function fail(err, code)
    ngx.log(ngx.ERR, "bench handler failed: ", err, " (", code, ")")
    return ngx.exit(500)
end

function _M.echo()
    local text, err, code = bench.echo(ngx.var.arg_q)
    if text == nil then
        return fail(err, code)
    end
    ngx.print(text)
end

-- The handler sees all headers and decides: that is what a plugin needs, and what is measured.
function _M.header()
    local set, err, code = bench.header(ngx.req.get_headers(0, true))
    if set == nil then
        return fail(err, code)
    end
    for name, value in pairs(set) do
        ngx.header[name] = value
    end
    ngx.print("ok")
end

function _M.burn()
    local turns, err, code = bench.burn(tonumber(ngx.var.arg_ms))
    if turns == nil then
        return fail(err, code)
    end
    ngx.print(turns)
end

function _M.stats()
    ngx.print(cjson.encode(ts.stats()))
end

return _M
