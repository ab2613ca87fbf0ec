/* What the files of this room share, and nobody else sees. */
#ifndef RTS_CHANNEL_INTERNAL_H
#define RTS_CHANNEL_INTERNAL_H

#include <pthread.h>

#include "channel/lease.h"

/* lease.h's. */
typedef struct {
    rts_atomic_u32 state;
    rts_atomic_u32 claims; /* how many there were */
    rts_atomic_u32
        sleeps; /* whether the environment's thread looks at no deadline before it is woken */
    uint32_t claims_seen; /* this and the next: the environment's thread's */
    uint32_t late_looks;
    _Atomic uint64_t deadline_us; /* of the run that is under way */
    _Atomic uint64_t asked_us; /* when it was asked for last */
    _Atomic uint64_t stall_us;
    _Atomic uint64_t slow_until_us; /* until then handlers are thought to be slow */
    const rts_tenant_t *tenant;
    rts_deliver_t deliver;
    void *deliver_data;
    uint32_t asleep; /* this and the rest: the Lua thread's, what sq_sleep was at the claim */
    uint32_t tail; /* up to where the run is to come */
    uint64_t claimed_us;
    int terminated;
} rts_lease_t;

struct rts_channel {
    rts_control_t *control;
    uint8_t *sq;
    uint8_t *cq;
    uint32_t ring_bytes;
    int host_bell; /* polled by the host: an eventfd, or its end of the pair below */
    /* Our end of a socket pair, where the host is another process: -1, and Lua rings host_bell. */
    _Atomic int host_ringer;
    /* Rung by the host: a socket, whose other end is nginx's cosocket or lua_end. -1 until there is
     * one; a ring that came before then is kept in the control page. Under bell_lock. */
    int lua_bell;
    int lua_end; /* of a doorbell for other event loops, else -1 */
    /* How often lua_bell has been replaced. In a host of another process: of the one it has. */
    uint32_t bell_epoch;
    int bells; /* in a host of another process: where doorbells come from; else -1 */
    pthread_mutex_t bell_lock; /* guards lua_bell and watch_bell */
    rts_bell_watch_t watch_bell;
    void *watch_data;
    int cores; /* that this process may use */
    rts_lease_t lease;
    int memfd;
    int listen_fd;
    char listen_path[108];
    uint8_t *base;
    size_t mapped_bytes;
};

/* Writes `what` (with errno's text for RTS_E_SYSTEM) to errbuf and returns -code. */
int rts_error_format(char *errbuf, size_t *errlen, int code, const char *what);

void rts_futex_wait(rts_atomic_u32 *word, uint32_t value, uint64_t timeout_us);
void rts_futex_wake(rts_atomic_u32 *word);

/* In a loop that spins. */
static inline void rts_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A channel without memory and descriptors; NULL when there is no memory for it. */
rts_channel_t *rts_channel_new(uint32_t ring_bytes);

/* Maps channel->memfd. 0, or -1 with errno. */
int rts_channel_map(rts_channel_t *channel);

/* In a host of another process: takes the doorbell that Lua has now. Under bell_lock. */
void rts_bell_refresh(rts_channel_t *channel);

#endif
