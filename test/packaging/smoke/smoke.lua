-- Asks a TypeScript module, by the libraries that are found for this machine.
--   luajit smoke.lua FOLDER-OF-calc.ts [OPTION=VALUE]...
-- Prints a sum, the host's processor, what Node runs as, and where the library was. The times to
-- wait are long: this is for emulated machines, too.

local ts = require "resty.ts"

local PATIENCE_MS = 120000

local options = {
    modules = arg[1], start_timeout_ms = PATIENCE_MS, timeout_ms = PATIENCE_MS,
}
for i = 2, #arg do
    local name, value = arg[i]:match("^(%w+)=(.*)$")
    options[name] = value
end

assert(ts.start(options))
local calc = ts.import("calc.ts")
print(assert(calc.add(20, 22)), assert(calc.where()), ts.stats().runtime,
      require("resty.ts.native").path)
ts.stop()
