-- In place of node in the process runtime: a host that greets the worker, says that it is ready and
-- then floods it. RTS_FLOOD, set by who loads this file, says with what.

local ffi = require "ffi"
local bit = require "bit"

ffi.cdef [[
typedef struct { void *base; size_t length; } rts_iovec;
typedef struct { void *name; uint32_t name_length; rts_iovec *parts; size_t part_count;
                 void *control; size_t control_length; int flags; } rts_msghdr;
ssize_t recvmsg(int fd, rts_msghdr *message, int flags);
ssize_t send(int fd, const void *data, size_t length, int flags);
void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
int usleep(unsigned microseconds);
]]

local LINK, DONTWAIT = 3, 0x40
local NODE, READY = 4, 5 -- native/channel/link.h
local MEMORY, BELLS = 0, 2
-- In rts_control_t, words.
local RING_BYTES, SQ_TAIL, SQ_HEAD, CQ_TAIL, CQ_HEAD = 2, 128 / 4, 256 / 4, 640 / 4, 768 / 4
local CQ_SLEEP = 896 / 4
local CONTROL_BYTES = 65536
local KIND_READY, KIND_LOG, KIND_ASK, KIND_WAIT, KIND_LOGGED = 18, 19, 20, 21, 22

-- Kind and descriptors of the next message; waits for it.
local function receive(fd)
    local head = ffi.new("uint32_t[600]")
    local control = ffi.new("int32_t[32]")
    local part = ffi.new("rts_iovec", head, ffi.sizeof(head))
    local message = ffi.new("rts_msghdr", nil, 0, part, 1, control, ffi.sizeof(control), 0)
    while ffi.C.recvmsg(fd, message, 0) <= 0 do
        ffi.C.usleep(1000)
    end
    return head[0], control + 4 -- past a cmsghdr
end

local function tell(kind)
    ffi.C.send(LINK, ffi.new("uint32_t[2]", kind, 0), 8, 0)
end

local _, fds = receive(LINK)
tell(NODE)
local page = ffi.cast("volatile uint32_t *", ffi.C.mmap(nil, 4096, 3, 1, fds[MEMORY], 0))
local ring_bytes = page[RING_BYTES]
local memory = ffi.cast("uint8_t *", ffi.C.mmap(nil, CONTROL_BYTES + 2 * ring_bytes, 3, 1,
                                                 fds[MEMORY], 0))
local cq = ffi.cast("uint32_t *", memory + CONTROL_BYTES + ring_bytes)
local tail = page[CQ_TAIL]
local bell_kind, bells = receive(fds[BELLS])
assert(bell_kind == 2)
local bell = bells[0]
local one = ffi.new("uint64_t[1]", 1)

local function ring()
    ffi.C.send(bell, one, 8, DONTWAIT)
end

local function publish()
    page[CQ_TAIL] = tail
    if page[CQ_SLEEP] ~= 0 then
        page[CQ_SLEEP] = 0
        ring()
    end
    -- What Lua sends is read, so that it has room.
    page[SQ_HEAD] = page[SQ_TAIL]
end

-- Writes a record where it does not wrap; waits for room.
local function write(kind, id, a, payload)
    local length = #payload
    local size = 24 + bit.band(length + 7, -8)
    while ring_bytes - bit.tobit(tail - page[CQ_HEAD]) < size do
        publish()
    end
    local at = bit.band(tail, ring_bytes - 1)
    local words = ffi.new("uint32_t[?]", size / 4)
    words[0], words[1], words[2], words[3], words[5] = length, kind, id, a, length
    ffi.copy(words + 6, payload, length)
    for i = 0, size / 4 - 1 do
        cq[bit.band(at / 4 + i, ring_bytes / 4 - 1)] = words[i]
    end
    tail = bit.tobit(tail + size) % 4294967296
end

local FLOODS = {
    logs = function(n)
        write(KIND_LOG, 0, 3, "line " .. n)
    end,
    asks = function()
        write(KIND_ASK, 0, 1, "\145\147\166shared\164kept\163get") -- [["shared", "kept", "get"]]
    end,
    -- 60,000 questions at once.
    large_asks = function()
        write(KIND_ASK, 0, 1, "\220\234\96" .. ("\146\161x\161y"):rep(30000) .. ("\144"):rep(30000))
    end,
    reloads = function()
        write(KIND_ASK, 0, 1, "\145\145\166reload") -- [["reload"]]
    end,
    logged = function()
        write(KIND_LOGGED, 0, 0, "")
    end,
    bells = function()
        ring()
    end,
    trickle = function()
        write(KIND_READY, 0, 1, "")
        publish()
    end,
    malformed = function(n)
        write(KIND_WAIT, n, 1, "")
        write(200, 7, 7, "what is this")
        publish()
    end,
    cursor = function()
        tail = (tail + 8) % 4294967296
        publish()
    end,
}

write(KIND_READY, 0, 1, "")
publish()
tell(READY)
local flood = FLOODS[RTS_FLOOD] -- luacheck: ignore 113
if flood == FLOODS.cursor then
    ffi.C.usleep(1100000) -- a life of a second is no crash loop: each one is followed by the next
end
local n = 0
while true do
    n = n + 1
    flood(n)
    if n % 64 == 0 then
        publish()
    end
end
