/*
 * The channel from the inside: the shared mapping's layout, and what the host side may call.
 *
 * Threads: the Lua thread and the host thread, one each; see resty_ts.h for which calls what.
 * Invariant: each ring has one writer and one reader. A cursor is stored by its owner alone;
 * cursors run freely over 32 bits, so tail - head is the fill level, also across the wrap.
 *
 * How sleep and wake cannot miss each other: a side that goes to sleep sets its bit in a flag
 * and then loads the other side's cursor; the other side stores its cursor and then loads the
 * flag. All four are seq_cst, so in their one total order at least one side sees the other.
 *
 * How a record is whole when it is seen, also where memory is weakly ordered (arm64): Lua writes it
 * with plain stores of LuaJIT's FFI, and nothing of a fence is in Lua. It then stores the cursor by
 * rts_sq_publish: LuaJIT moves no store past a call of C, and the processor none past the seq_cst
 * store in it. Lua loads a cursor by a call of C likewise, with acquire, before it reads records,
 * and gives room back by rts_cq_release after. The host does the same with Atomics (seq_cst).
 */
#ifndef RTS_CHANNEL_H
#define RTS_CHANNEL_H

#include <stdalign.h>

#include "resty_ts.h"

/* C++ (the addon) only passes the channel on and asks for offsets. */
#ifdef __cplusplus
#include <atomic>
typedef std::atomic<uint32_t> rts_atomic_u32;
#else
#include <stdatomic.h>
typedef _Atomic uint32_t rts_atomic_u32;
#endif

#define RTS_MAGIC 0x31535452u /* "RTS1", little endian */
/* A multiple of each page size that Linux has: 4, 16 or 64 KiB on arm64. Only its first page is used. */
#define RTS_CONTROL_BYTES 65536u
#define RTS_CACHE_LINE \
    128 /* x86's prefetcher takes two lines of 64; some arm64 have lines of 128 */

/* How a flag's owner wants to be woken. */
enum { RTS_WAKE_BELL = 1, RTS_WAKE_FUTEX = 2 };

/* The beginning of the mapping. */
typedef struct {
    uint32_t magic;
    uint32_t protocol;
    uint32_t ring_bytes;
    uint32_t first_cursor;
    /* submissions: written by Lua, read by the host */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 sq_tail; /* stored by Lua */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 sq_head; /* stored by the host */
    rts_atomic_u32 sq_begun; /* by the host: past the last record that it has begun to handle */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 sq_sleep; /* set by the host: wake me on submissions */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 sq_room; /* set by Lua: wake me when sq_head moves */
    /* completions: written by the host, read by Lua */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 cq_tail; /* stored by the host */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 cq_head; /* stored by Lua */
    alignas(RTS_CACHE_LINE) rts_atomic_u32 cq_sleep; /* set by Lua: wake me on completions */
    alignas(RTS_CACHE_LINE)
        rts_atomic_u32 cq_room; /* set by the host: wake me when cq_head moves */
    /* Lua's doorbell, of which a host in another process has a descriptor of its own. */
    alignas(RTS_CACHE_LINE)
        rts_atomic_u32 bell_epoch; /* stored by Lua: how often it was replaced */
    rts_atomic_u32 bell_missed; /* set by whoever rang when there was none */
} rts_control_t;

#ifdef __cplusplus
extern "C" {
#endif

/* The host side of a channel that another process has made, of descriptors that came with a HELLO.
 * Threads: the host's.
 * Owns: on success the channel, the descriptors; it is the caller's until rts_channel_destroy.
 * Returns: 0, RTS_E_PROTOCOL, RTS_E_SYSTEM. */
int rts_channel_attach(int memfd, int host_bell, int bells, rts_channel_t **out, char *errbuf,
                       size_t *errlen);

/* What a host in another process needs of it. Threads: any. */
int rts_channel_memory_fd(const rts_channel_t *channel);

/* Told of each new doorbell, before Lua arms it; fd stays the channel's. */
typedef void (*rts_bell_watch_t)(void *data, int fd, uint32_t epoch);

/* Has `watch` told of the doorbell, if there is one, and of all that replace it; NULL ends that: once
 * it returns, the one before is not called any more. Threads: any. */
void rts_bell_watch(rts_channel_t *channel, rts_bell_watch_t watch, void *data);

/* The whole mapping: control page, submissions twice, completions twice. */
uint8_t *rts_host_memory(const rts_channel_t *channel, size_t *bytes);
rts_control_t *rts_host_control(const rts_channel_t *channel);

/* Byte offsets of the rings in that mapping, and the size of each. */
void rts_host_layout(const rts_channel_t *channel, uint32_t *sq_offset, uint32_t *cq_offset,
                     uint32_t *ring_bytes);

/* The descriptor that becomes readable when Lua rings. Owned by the channel. */
int rts_host_bell(const rts_channel_t *channel);

/* Makes the host's doorbell a socket pair, for a host in another process: it shares no open file
 * with us, whose flags it could change so that ringing blocks.
 * Threads: any, before that host knows the channel.
 * Owns: the caller, the host's end.
 * Returns: it, or -1 with errno. */
int rts_host_bell_pair(rts_channel_t *channel);

/* Rings the host's doorbell. RTS_OK or -RTS_E_SYSTEM. Threads: any. */
int rts_host_ring(rts_channel_t *channel);

/* Empties the host's doorbell, of what one look finds there. */
void rts_host_bell_drain(rts_channel_t *channel);

/* How many cores the host may run on. */
int rts_host_cores(const rts_channel_t *channel);

/* 1 when there are submissions that the host has not read yet. Wait-free. */
int rts_host_pending(const rts_channel_t *channel);

/* Asks for the host's doorbell at the next kick after a submission. 1 armed, 0 there is a submission
 * already. */
int rts_host_arm(rts_channel_t *channel);

/* Wakes Lua as the bits taken from one of its flags say; `flag` is the word they came from. */
void rts_host_wake(rts_channel_t *channel, rts_atomic_u32 *flag, uint32_t bits);

#ifdef __cplusplus
}
#endif

#endif
