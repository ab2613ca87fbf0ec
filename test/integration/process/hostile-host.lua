#!/usr/bin/env luajit
-- A program that takes the place of node in the process runtime and means harm: it greets the
-- worker as a host does, then fills both doorbells, makes its ends of them block, and has the
-- worker ring all the time.

local ffi = require "ffi"
local bit = require "bit"

ffi.cdef [[
typedef struct { void *base; size_t length; } rts_iovec;
typedef struct { void *name; uint32_t name_length; rts_iovec *parts; size_t part_count;
                 void *control; size_t control_length; int flags; } rts_msghdr;
ssize_t recvmsg(int fd, rts_msghdr *message, int flags);
ssize_t send(int fd, const void *data, size_t length, int flags);
ssize_t write(int fd, const void *data, size_t length);
int fcntl(int fd, int command, ...);
void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
int usleep(unsigned microseconds);
]]

local LINK = 3
local BELL, NODE, READY = 2, 4, 5 -- native/channel/link.h
local MEMORY, HOST_BELL, BELLS = 0, 1, 2
local SQ_SLEEP = 384 / 4 -- in rts_control_t
local F_GETFL, F_SETFL, O_NONBLOCK = 3, 4, 0x800

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

local function fill_and_block(fd)
    local most = ffi.new("uint64_t[1]", 0xfffffffffffffffeULL) -- what an eventfd holds
    while ffi.C.write(fd, most, 8) > 0 do end
    local flags = ffi.C.fcntl(fd, F_GETFL)
    ffi.C.fcntl(fd, F_SETFL, ffi.cast("int", bit.band(flags, bit.bnot(O_NONBLOCK))))
end

local _, fds = receive(LINK)
tell(NODE)
tell(READY)

local control = ffi.cast("volatile uint32_t *", ffi.C.mmap(nil, 4096, 3, 1, fds[MEMORY], 0))
fill_and_block(fds[HOST_BELL])
local kind, with = receive(fds[BELLS])
assert(kind == BELL)
fill_and_block(with[0])
io.stderr:write("harm is done\n")
while true do
    control[SQ_SLEEP] = 1
    ffi.C.usleep(20)
end
