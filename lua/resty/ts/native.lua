-- libresty_ts.so: the one file with ffi.cdef and ffi.load.
--
-- Runs on the Lua side, once a process. Invariant: library, cdef and Lua files are of one version,
-- or nothing is loaded.

local ffi = require "ffi"
local cdef = require "resty.ts.cdef"

local ffi_new = ffi.new
local ffi_str = ffi.string
local io_open = io.open
local ipairs = ipairs
local error = error
local pcall = pcall
local tonumber = tonumber
local str_byte = string.byte
local str_find = string.find
local str_lower = string.lower
local str_match = string.match
local str_gmatch = string.gmatch
local str_sub = string.sub

ffi.cdef(cdef)

local _M = { VERSION = "0.1.0" }

local ERRBUF_SIZE = 1024
local errbuf = ffi_new("char[?]", ERRBUF_SIZE)
local errlen = ffi_new("size_t[1]")

-- Of nginx, beside what lua-resty-core declares. Our own name, as another Lua library may have
-- declared nginx's in its own way.
local NGINX_CDEF = [[
typedef struct {
    void (*handler)(void *);
    void *data;
    void *next;
} rts_ngx_cleanup_t;
rts_ngx_cleanup_t *rts_ngx_cleanup_add(ngx_http_request_t *r, size_t size)
    __asm__("ngx_http_cleanup_add");
intptr_t ngx_event_no_timers_left(void);
extern struct { uintptr_t ctx_index; } rts_ngx_lua_module __asm__("ngx_http_lua_module");
]]

-- libc's. Our own names, as above.
ffi.cdef [[
void *rts_malloc(size_t bytes) __asm__("malloc");
void rts_free(void *memory) __asm__("free");
]]

-- glibc's alone.
ffi.cdef [[
const char *rts_glibc_version(void) __asm__("gnu_get_libc_version");
]]

local lib
local nginx


-- This file's path without "lua/resty/ts/native.lua": the project's root, or nil.
local function project_root()
    local source = debug.getinfo(1, "S").source
    return str_match(source, "^@(.*)lua/resty/ts/native%.lua$")
end


-- errno.h's for a path that leads nowhere.
local NOT_THERE = { [2] = true, [20] = true }

-- One that is there but cannot be opened is: who loads it is told why.
local function exists(path)
    local file, _, errno = io_open(path, "rb")
    if file then
        file:close()
        return true
    end
    return not NOT_THERE[errno]
end


local function has_glibc()
    return ffi.C.rts_glibc_version
end


-- The machine's kind, as folders of prebuilds/ are named (scripts/lib/platform.mjs).
local function platform()
    local name = str_lower(ffi.os) .. "-" .. ffi.arch
    -- A machine may have both libcs; what counts is what this process runs on.
    return pcall(has_glibc) and name or name .. "-musl"
end


-- Where a library is looked for, in this order.
local function folders()
    local list = {}
    for pattern in str_gmatch(package.cpath, "[^;]+") do
        list[#list + 1] = str_match(pattern, "^(.*/)[^/]*%?[^/]*$")
    end
    local root = project_root()
    if root then
        list[#list + 1] = root .. "prebuilds/" .. platform() .. "/"
        list[#list + 1] = root .. "build/Release/"
    end
    return list, root
end


local function find_library()
    local list, root = folders()
    for _, folder in ipairs(list) do
        if exists(folder .. "libresty_ts.so") then
            return folder .. "libresty_ts.so"
        end
    end
    return nil, "libresty_ts.so is neither on package.cpath nor in "
                .. (root or "./") .. "prebuilds/" .. platform() .. " nor in build/Release there: "
                .. "deploy a bundle, run `npm run build`, or name it with ts.start{ library = ... }"
end


-- e_machine of elf.h, as ffi.arch has it.
local MACHINES = { [3] = "x86", [40] = "arm", [62] = "x64", [183] = "arm64" }

-- What a library is made for when that is not this machine: the loader says that there is no such
-- file. nil: it is for this machine, or no library.
local function foreign_machine(path)
    local file = io_open(path, "rb")
    local head = file and file:read(20)
    if file then
        file:close()
    end
    if not head or #head < 20 or str_sub(head, 1, 4) ~= "\127ELF" then
        return nil
    end
    local low, high = str_byte(head, 19, 20)
    local number = low + 256 * high
    local name = MACHINES[number] or "machine " .. number
    return name ~= ffi.arch and name or nil
end


-- Loads the library, once.
-- path: its absolute path, or nil to look for it.
-- Returns the ffi namespace and the path it was loaded from; or nil, err.
function _M.load(path)
    if lib then
        return lib, _M.path
    end
    local err
    if not path then
        path, err = find_library()
        if not path then
            return nil, err
        end
    end
    local ok, loaded = pcall(ffi.load, path)
    if not ok then
        local other = foreign_machine(path)
        if other then
            return nil, path .. " is for " .. other .. ", and this process is " .. ffi.arch
                        .. ": deploy what is made for linux-" .. ffi.arch
        end
        -- Of a file that is broken the loader may tell without saying which.
        return nil, str_find(loaded, path, 1, true) and loaded or path .. ": " .. loaded
    end
    local is_ours, version = pcall(function()
        return ffi_str(loaded.rts_version())
    end)
    if not is_ours then
        return nil, path .. " is not libresty_ts.so: " .. version
    end
    if version ~= _M.VERSION then
        return nil, path .. " is version " .. version .. ", the Lua files are " .. _M.VERSION
                    .. ": deploy them together"
    end
    lib = loaded
    _M.path = path
    _M.dir = str_match(path, "^(.*)/[^/]*$") or "."
    return lib, path
end


-- Functions that nginx exports. Returns the ffi namespace.
function _M.nginx()
    if not nginx then
        ffi.cdef(NGINX_CDEF)
        nginx = ffi.C
    end
    return nginx
end


-- The host file when ts.start is not told: beside the library, or in the project's dist.
function _M.find_host()
    local root = project_root() or ""
    local beside = _M.dir .. "/host.cjs"
    if exists(beside) then
        return beside
    end
    return root .. "dist/host.cjs"
end


-- Memory that is as it is: LuaJIT would write zeros into all of it. It throws when there is none.
function _M.allocate(bytes)
    local memory = ffi.C.rts_malloc(bytes)
    if memory == nil then
        error("not enough memory for " .. bytes .. " bytes", 0)
    end
    return ffi.gc(ffi.cast("uint8_t *", memory), ffi.C.rts_free)
end


function _M.free(memory)
    ffi.C.rts_free(ffi.gc(memory, nil))
end


-- errbuf and errlen for a C function that ends in them; _M.error_text() reads what it wrote.
function _M.error_args()
    errlen[0] = ERRBUF_SIZE
    return errbuf, errlen
end


function _M.error_text()
    return ffi_str(errbuf, tonumber(errlen[0]))
end


return _M
