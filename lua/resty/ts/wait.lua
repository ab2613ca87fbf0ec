-- Which way of waiting fits here: wait_nginx.lua or wait_plain.lua. Nothing else in this project
-- knows how a coroutine waits. Both have new(client), and objects with start, blocked_phase,
-- new_waiter, wait, wake, wait_room, kick_later, sweep_later, abandoned and
-- recycle.

local in_nginx = ngx ~= nil and ngx.timer ~= nil

return {
    in_nginx = in_nginx,
    new = require(in_nginx and "resty.ts.wait_nginx" or "resty.ts.wait_plain").new,
}
