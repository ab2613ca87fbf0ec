-- Runs drain.lua on the inputs that come in on stdin, each after its length (u32, little endian),
-- and answers each by a line at once: the one that is not answered has ended this process.

local ffi = require "ffi"
local root = debug.getinfo(1, "S").source:match("^@(.*)test/fuzz/child%.lua$")
package.path = root .. "lua/?.lua;" .. root .. "test/fuzz/?.lua;" .. package.path

local drain = require "drain"
local length = ffi.new("uint32_t[1]")
io.stdout:setvbuf("line")

while true do
    local head = io.read(4)
    if not head then
        break
    end
    ffi.copy(length, head, 4)
    local n = tonumber(length[0])
    local input = n > 0 and io.read(n) or ""
    local ok, outcome = xpcall(drain.run, debug.traceback, input)
    io.write(ok and outcome or "raised " .. outcome:gsub("%s+", " "), "\n")
end
