-- A failure as all of the module returns it.

local TEXT = require("resty.ts.errors").texts


-- code: of the error table. details: what, where and what to do; or nil.
-- Returns nil, err, code.
return function(code, details)
    local text = TEXT[code]
    return nil, details and details ~= "" and text .. ": " .. details or text, code
end
