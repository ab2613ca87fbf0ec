-- core.log: one function a level of nginx's error log, and `new` for a prefix.
local LEVELS = {
    stderr = ngx.STDERR, emerg = ngx.EMERG, alert = ngx.ALERT, crit = ngx.CRIT, error = ngx.ERR,
    warn = ngx.WARN, notice = ngx.NOTICE, info = ngx.INFO, debug = ngx.DEBUG,
}

local _M = { version = 0.4 }

for name, level in pairs(LEVELS) do
    _M[name] = function(...)
        return ngx.log(level, ...)
    end
end

function _M.new(prefix)
    local log = { version = _M.version }
    for name, level in pairs(LEVELS) do
        log[name] = function(...)
            return ngx.log(level, prefix, ...)
        end
    end
    return log
end

-- The function runs only when the line is written.
function _M.delay_exec(func, ...)
    local args, count = { ... }, select("#", ...)
    return setmetatable({}, {
        __tostring = function()
            return tostring((func(unpack(args, 1, count))))
        end,
    })
end

return _M
