-- core.timer: a callback again and again, in one timer that is renewed.
local _M = { version = 0.1 }

local function run(premature, timer)
    if premature or timer.running then
        return
    end
    timer.running = true
    local ok, err = pcall(timer.callback_fun)
    if not ok then
        ngx.log(ngx.ERR, "failed to run the timer: ", timer.name, " err: ", err)
    end
    timer.running = false
end

function _M.new(name, callback_fun, opts)
    if not name or not callback_fun then
        return nil, "missing argument: " .. (name and "callback_fun" or "name")
    end
    local timer = { name = name, callback_fun = callback_fun, running = false }
    local ok, err = ngx.timer.every(opts and opts.check_interval or 1, run, timer)
    if not ok then
        return nil, err
    end
    ok, err = ngx.timer.at(0, run, timer)
    if not ok then
        return nil, err
    end
    return timer
end

return _M
