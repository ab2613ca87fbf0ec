-- What a module may be, and what is said when it is not one.
local t = require "tap"
local support = require "support"

local folder = support.fixtures .. "/modules"
local ts = support.start { modules = folder }

local function fails(module, name, code, ...)
    local err = t.err(code, ts.import(module)[name]())
    for _, pattern in ipairs { ... } do
        t.match(err, pattern, module)
    end
    -- And again, out of what is remembered.
    t.eq(select(2, ts.import(module)[name]()), err, module)
    return err
end

t.test("TypeScript and JavaScript of every ending load", function()
    t.eq(ts.import("calls.ts").add(1, 2), 3)
    t.eq(ts.import("esm.mts").hello(), "mts")
    t.eq(ts.import("plain.mjs").hello(), "mjs")
    t.eq(ts.import("plain.cjs").hello(), "cjs")
    t.eq(ts.import("plain.js").hello(), "js as ESM")
    t.eq(ts.import("common/plain.js").hello(), "js as CommonJS")
    t.eq(ts.import("plain.cjs")["not-a-name"](), 1)
    t.eq(ts.import("calls.ts").onDefault(), "default")
end)

t.test("a module knows its own place", function()
    t.eq(ts.import("esm.mts").url(), "file://" .. folder .. "/esm.mts")
    t.eq(ts.import("esm.mts").folder(), folder)
    t.eq(ts.import("plain.mjs").url(), "file://" .. folder .. "/plain.mjs")
    t.eq(ts.import("plain.cjs").file(), folder .. "/plain.cjs")
    t.eq(ts.import("common/required.ts").file(), folder .. "/common/required.ts")
    t.eq(ts.import("common/required.ts").folder(), folder .. "/common")
    t.eq(ts.import("lib/in-folder.ts").here(), "file://" .. folder .. "/lib/in-folder.ts")
end)

t.test("top-level await is waited for", function()
    t.eq(ts.import("esm.mts").topLevelAwait(), 42)
end)

t.test("npm packages beside it load, ESM-only and CommonJS, and its own files", function()
    local packages = ts.import("packages.ts")
    t.eq(packages.names(), ts.array { "esm-only", "old-style", "helper", "json" })
    t.eq(packages.lazily(), "esm-only")
    t.eq(ts.import("lib/in-folder.ts").helper(), "helper")
end)

t.test("the default of CommonJS is what it exports, also of a compiled one", function()
    t.eq(ts.import("packages.ts").compiled(), ts.array { "object", "inner", "named" })
    t.eq(ts.import("packages.mts").compiled(), ts.array { "object", "inner", "named" })
end)

t.test("TypeScript that uses require runs", function()
    t.eq(ts.import("common/required.ts").hello(), "required / old-style")
end)

t.test("one file is one module, however it is named", function()
    t.eq(ts.import("calls.ts").note("a"), nil)
    t.eq(ts.import("./calls.ts").notesTaken(), ts.array { "a" })
    t.eq(ts.import("calls.ts"), ts.import("calls.ts"))
end)

t.test("a module that is not there is named, with the folder", function()
    fails("nowhere.ts", "f", "module_not_found", "nowhere%.ts", "test/lua/fixtures/modules")
    fails("lib/nowhere.mjs", "f", "module_not_found", "lib/nowhere%.mjs")
    fails("lib", "f", "module_not_found", "lib", "%.ts")
    fails("broken/text.txt", "f", "module_not_found", "%.mjs")
end)

t.test("a name that leads out of the folder is refused", function()
    local outside = support.temporary_folder()
    support.write(outside .. "/secret.mjs", "export const f = () => 'secret';")
    os.execute(("ln -s %s/secret.mjs %s/inside.mjs"):format(outside, outside))
    local root = support.temporary_folder()
    os.execute(("ln -s %s/secret.mjs %s/link.mjs; ln -s %s %s/folder; mkdir %s/in; "
                .. "echo 'export const f = () => 1' > %s/in/fine.mjs; "
                .. "ln -s in/fine.mjs %s/alias.mjs")
               :format(outside, root, outside, root, root, root, root))
    t.ok(ts.stop())
    support.start { modules = root }
    for _, name in ipairs { "link.mjs", "folder/secret.mjs", outside .. "/secret.mjs",
                            "../" .. outside:match("[^/]+$") .. "/secret.mjs",
                            "in/../../" .. outside:match("[^/]+$") .. "/secret.mjs" } do
        local value, err, code = ts.import(name).f()
        t.eq(value, nil, name)
        t.eq(code, "module_not_found", name)
        t.match(err, "out of", name)
    end
    t.eq(ts.import("alias.mjs").f(), 1, "a link that stays inside")
    t.eq(ts.import("in/../in/fine.mjs").f(), 1)
    t.ok(ts.stop())
    support.start { modules = folder }
    support.remove_folder(outside)
    support.remove_folder(root)
end)

t.test("a syntax error has file and line", function()
    fails("broken/syntax.ts", "broken", "module_failed", "broken/syntax%.ts:4:%d+: ")
    fails("broken/syntax.mjs", "broken", "module_failed", "broken/syntax%.mjs:%d", "SyntaxError")
end)

t.test("an error while loading is told", function()
    fails("broken/throws.ts", "f", "module_failed", "RangeError: thrown while loading 1")
    fails("broken/rejects.mts", "f", "module_failed", "rejected while loading")
    fails("broken/throws.cjs", "f", "module_failed", "TypeError", "boom")
    fails("broken/throws-text.mjs", "f", "module_failed", "not an error")
end)

t.test("an import that finds nothing is told", function()
    fails("broken/no-package.ts", "f", "module_failed", "no%-such%-package")
    fails("broken/no-file.ts", "f", "module_failed", "no%-such%-file", "no%-file%.ts:1:")
end)

t.test("a function that is not exported is told, with those that are", function()
    local err = fails("plain.mjs", "goodbye", "function_not_found", "goodbye", "hello", "url")
    t.match(err, "plain%.mjs")
    fails("broken/no-functions.ts", "value", "function_not_found", "value", "there are none")
    fails("calls.ts", "toString", "function_not_found", "toString")
    fails("calls.ts", "__proto__", "function_not_found", "__proto__")
    fails("calls.ts", "constructor", "function_not_found", "constructor")
    fails("calls.ts", "default", "function_not_found", "default")
end)

t.test("names that no file can have are errors, and end nothing", function()
    for _, name in ipairs { "\255.ts", ("x"):rep(5000) .. ".ts", "a\0b.ts", " .ts" } do
        local value, _, code = ts.import(name).f()
        t.eq(value, nil, name)
        t.ok(code == "module_not_found" or code == "bad_argument", name .. ": " .. tostring(code))
    end
    for _, name in ipairs { "\255", ("x"):rep(5000), "", "a\0b" } do
        local value, _, code = ts.import("calls.ts")[name]()
        t.eq(value, nil, name)
        t.ok(code == "function_not_found" or code == "bad_argument", name .. ": " .. tostring(code))
    end
    t.eq(ts.import("calls.ts").add(1, 2), 3)
end)

t.test("a module that failed does not hurt the others", function()
    t.eq(ts.import("calls.ts").add(1, 2), 3)
    t.eq(ts.stats().state, "ready")
    t.eq(ts.stats().pending, 0)
end)

ts.stop()
t.done()
