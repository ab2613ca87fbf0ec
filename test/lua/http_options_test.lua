-- What http.chain takes and refuses, and which policy is for which failure. Needs no runtime.
local t = require "tap"

local errors = require "resty.ts.errors"
local options = require "resty.ts.http.options"
local ts = require "resty.ts"

local function check(list)
    return options.check_chain(list, 1)
end

t.test("a chain is a list of names and configurations, in its order", function()
    local members, names, policies = check {
        "first", { "second", { a = 1 } }, { name = "third", conf = { b = 2 }, priority = -1 },
    }
    t.eq(members, {
        { "first", ts.null, ts.null },
        { "second", { a = 1 }, ts.null },
        { "third", { b = 2 }, { priority = -1 } },
    })
    t.eq(names, "first, second, third")
    t.eq(policies, { on_error = 500, on_timeout = 504, on_overload = 503 })
end)

t.test("one closed plugin closes the chain; the first status counts", function()
    local function policies(...)
        local _, _, found = check { ... }
        return found
    end
    t.eq(policies({ "a", on_overload = "open" }).on_overload, 0)
    t.eq(policies({ "a", on_overload = "open" }, "b").on_overload, 503)
    t.eq(policies({ "a", on_overload = "open" }, { "b", on_overload = 429 }).on_overload, 429)
    t.eq(policies({ "a", on_overload = 429 }, { "b", on_overload = 500 }).on_overload, 429)
    t.eq(policies({ "a", on_timeout = "closed" }).on_timeout, 504)
    t.eq(policies({ "a", on_error = "open" }).on_error, 0)
end)

t.test("what is no chain is an error that says why", function()
    t.throws("a chain is a list of one plugin or more", check, {})
    t.throws("a chain is a list of one plugin or more", check, "x")
    t.throws("plugin 2 of a chain is .*, not a number", check, { "x", 2 })
    t.throws("a plugin's name is a string, not nil", check, { {} })
    t.throws("a plugin's name is a string, not nil", check, { { conf = {} } })
    t.throws("the configuration of x is a table, not a boolean", check, { { "x", true } })
    t.throws("a plugin in a chain has no option timeout", check, { { "x", timeout = 1 } })
    t.throws("a plugin in a chain has no option 3", check, { { "x", {}, {} } })
end)

t.test("options have their ranges", function()
    for _, name in ipairs { "on_error", "on_timeout", "on_overload" } do
        for _, bad in ipairs { "shut", 399, 600, 500.5, true } do
            t.throws(name .. ' of x is "closed", "open" or a status from 400 to 599', check,
                     { { "x", [name] = bad } })
        end
        for _, good in ipairs { "open", "closed", 400, 599 } do
            t.eq(check({ { "x", [name] = good } })[1][3], { [name] = good })
        end
    end
    for _, bad in ipairs { 0, 1.5, 86400001, "1" } do
        t.throws("timeout_ms of x is a whole number", check, { { "x", timeout_ms = bad } })
    end
    t.eq(check({ { "x", timeout_ms = 86400000 } })[1][3], { timeout_ms = 86400000 })
    t.throws("priority of x is a number", check, { { "x", priority = 0 / 0 } })
end)

t.test("every code has one of the three policies", function()
    local kinds = { on_error = 0, on_timeout = 0, on_overload = 0 }
    for code in pairs(errors.numbers) do
        local kind = options.kind(code)
        kinds[kind] = kinds[kind] + 1
    end
    t.eq(kinds.on_timeout, 1)
    for _, code in ipairs { "queue_full", "unavailable", "exited", "not_started", "no_libnode" } do
        t.eq(options.kind(code), "on_overload", code)
    end
    for _, code in ipairs { "handler_failed", "bad_config", "bad_argument", "protocol" } do
        t.eq(options.kind(code), "on_error", code)
    end
end)

t.test("ts.start wants a folder of modules or of plugins, as an absolute path", function()
    t.match(t.err("bad_option", ts.start {}), "modules, the folder of the TypeScript modules")
    t.match(t.err("bad_option", ts.start { plugins = "here" }), "plugins is an absolute path")
    t.match(t.err("bad_option", ts.start { plugins = 1 }), "plugins is a string")
end)

t.test("the module itself is for nginx", function()
    t.throws("resty.ts.http is for nginx", require, "resty.ts.http")
end)

t.done()
