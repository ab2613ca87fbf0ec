-- The limit of any design that yields: a request waits once on a semaphore, which a light thread
-- posts in the same turn of nginx's loop. What the bridge does, without rings and without Node.
-- Runs in the worker's thread; `wake` is posted for the first of those who wait.

local semaphore = require "ngx.semaphore"

local TIMEOUT_S = 10

local _M = {}

local wake
local free, waiting, count = {}, {}, 0

local function serve()
    while not ngx.worker.exiting() do
        wake:wait(TIMEOUT_S)
        for i = 1, count do
            waiting[i]:post(1)
        end
        count = 0
    end
end

function _M.start()
    wake = assert(semaphore.new())
    assert(ngx.timer.at(0, serve))
end

function _M.echo()
    local own = table.remove(free) or semaphore.new()
    count = count + 1
    waiting[count] = own
    if count == 1 then
        wake:post(1)
    end
    assert(own:wait(TIMEOUT_S))
    free[#free + 1] = own
    ngx.print(ngx.var.arg_q)
end

return _M
