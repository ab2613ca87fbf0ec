/* See lease.h. */
#define _GNU_SOURCE
#include "channel/lease.h"

#include <poll.h>
#include <sched.h>

#include "channel/channel_internal.h"

/* HELD: by the environment's thread; OFFERED: it waits, and may be kept waiting; CLAIMED: by the Lua
 * thread; AWAITED: by the Lua thread, and the other one sleeps until it is given back. */
enum { HELD = 0, OFFERED = 1, CLAIMED = 2, AWAITED = 3 };

/* A run takes some microseconds: for so long its end is waited for awake. */
enum { SPIN_US = 20 };
/* How often the environment's thread looks, while it polls, whether a run is past its deadline. */
enum { LOOK_MS = 50, LATE_MS = 1 };
/* One look has seen no more than this pass: a process that was paused has seen little. */
enum { LATE_LOOKS = 3 };
/* How long the lease is offered in the shortest waits, too, after somebody has asked for it. */
enum { WANTED_US = 1000000 };
/* What takes longer than the first of these is thought to come again for as long as the second. */
enum { SLOW_US = 2000, SLOW_AGAIN_US = 1000000 };

static uint32_t state_of(const rts_channel_t *channel)
{
    return atomic_load_explicit(&channel->lease.state, memory_order_acquire);
}

void rts_lease_share(rts_channel_t *channel, const rts_tenant_t *tenant)
{
    channel->lease.tenant = tenant;
}

/* The environment's thread looks now: tells the tenant of a run that is late. Returns in how many ms to
 * look again. */
static int look(rts_channel_t *channel)
{
    rts_lease_t *lease = &channel->lease;
    const int claimed = state_of(channel) >= CLAIMED;
    const uint64_t deadline = atomic_load_explicit(&lease->deadline_us, memory_order_relaxed);
    const uint64_t stall = atomic_load_explicit(&lease->stall_us, memory_order_relaxed);
    const uint64_t first = deadline < stall ? deadline : stall;
    const uint64_t now = rts_now_us();
    if (!claimed || now < first) {
        lease->late_looks = 0;
        const uint64_t left_ms = claimed ? (first - now) / 1000 + 1 : LOOK_MS;
        return left_ms < LOOK_MS ? (int) left_ms : LOOK_MS;
    }
    if (++lease->late_looks >= LATE_LOOKS) {
        lease->tenant->late(lease->tenant->data, now > stall);
    }
    return LATE_MS;
}

void rts_lease_wait(rts_channel_t *channel, int due_ms)
{
    rts_lease_t *lease = &channel->lease;
    if (lease->tenant == NULL) {
        return;
    }
    lease->tenant->unlock(lease->tenant->data, due_ms);
    atomic_store_explicit(&lease->sleeps, 0, memory_order_relaxed);
    atomic_store_explicit(&lease->state, OFFERED, memory_order_release);
}

int rts_lease_is_wanted(const rts_channel_t *channel)
{
    const uint64_t asked = atomic_load_explicit(&channel->lease.asked_us, memory_order_relaxed);
    return asked != 0 && rts_now_us() - asked < WANTED_US;
}

static int take_back(rts_channel_t *channel)
{
    uint32_t seen = OFFERED;
    return atomic_compare_exchange_strong_explicit(&channel->lease.state, &seen, HELD,
                                                   memory_order_acq_rel, memory_order_acquire);
}

void rts_lease_resume(rts_channel_t *channel)
{
    rts_lease_t *lease = &channel->lease;
    if (lease->tenant == NULL) {
        return;
    }
    const uint64_t spin_until = channel->cores > 1 ? rts_now_us() + SPIN_US : 0;
    while (!take_back(channel)) {
        if (rts_now_us() < spin_until) {
            rts_relax();
            continue;
        }
        uint32_t seen = CLAIMED;
        if (atomic_compare_exchange_strong_explicit(&lease->state, &seen, AWAITED,
                                                    memory_order_acq_rel, memory_order_acquire) ||
            seen == AWAITED) {
            rts_futex_wait(&lease->state, AWAITED, (uint64_t) look(channel) * 1000u);
        }
    }
    lease->late_looks = 0;
    lease->tenant->lock(lease->tenant->data);
}

void rts_lease_poll(rts_channel_t *channel, int fd, int timeout_ms)
{
    rts_lease_t *lease = &channel->lease;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    const uint64_t end_us = rts_now_us() + (timeout_ms > 0 ? (uint64_t) timeout_ms * 1000u : 0);
    int left_ms = timeout_ms;
    for (;;) {
        int look_ms = -1;
        if (lease->tenant != NULL) {
            /* Who claims next finds that nobody would look, unless somebody has claimed of late. */
            const uint32_t claims = atomic_load_explicit(&lease->claims, memory_order_relaxed);
            const uint32_t is_idle = claims == lease->claims_seen && state_of(channel) < CLAIMED;
            lease->claims_seen = claims;
            atomic_store_explicit(&lease->sleeps, is_idle, memory_order_seq_cst);
            if (!is_idle || atomic_load_explicit(&lease->claims, memory_order_seq_cst) != claims) {
                look_ms = look(channel);
            }
        }
        const int slice_ms = look_ms >= 0 && (left_ms < 0 || look_ms < left_ms) ? look_ms : left_ms;
        if (poll(&ready, 1, slice_ms) != 0) {
            return;
        }
        if (timeout_ms >= 0) {
            const uint64_t now = rts_now_us();
            if (now >= end_us) {
                return;
            }
            left_ms = (int) ((end_us - now) / 1000u) + 1;
        }
    }
}

int rts_lease_pending(const rts_channel_t *channel)
{
    return rts_host_pending(channel) && state_of(channel) < CLAIMED;
}

void rts_lease_set_deliver(rts_channel_t *channel, rts_deliver_t deliver, void *data)
{
    channel->lease.deliver = deliver;
    channel->lease.deliver_data = data;
}

void rts_lease_deliver(rts_channel_t *channel)
{
    enum { MOST = 1024 };
    rts_lease_t *lease = &channel->lease;
    if (lease->deliver != NULL) {
        lease->deliver(lease->deliver_data, MOST);
    }
}

int rts_lease_is_callers(const rts_channel_t *channel)
{
    return rts_sq_begun(channel) == channel->lease.tail;
}

void rts_lease_terminate(rts_channel_t *channel)
{
    channel->lease.terminated = 1;
}

int rts_lease_terminated(const rts_channel_t *channel)
{
    return channel->lease.terminated;
}

void rts_lease_note(rts_channel_t *channel, uint64_t start_us)
{
    const uint64_t now = rts_now_us();
    if (now - start_us > SLOW_US) {
        atomic_store_explicit(&channel->lease.slow_until_us, now + SLOW_AGAIN_US,
                              memory_order_relaxed);
    }
}

/* The Lua thread's part ------------------------------------------------------------------------ */

int rts_lease_claim(rts_channel_t *channel, uint32_t timeout_us, uint32_t stall_us)
{
    rts_lease_t *lease = &channel->lease;
    uint32_t seen = OFFERED;
    const uint64_t now = rts_now_us();
    atomic_store_explicit(&lease->asked_us, now, memory_order_relaxed);
    if (atomic_load_explicit(&lease->state, memory_order_relaxed) != OFFERED) {
        return 0;
    }
    /* What is there already comes before our call. */
    if (rts_host_pending(channel) &&
        now < atomic_load_explicit(&lease->slow_until_us, memory_order_relaxed)) {
        return 0;
    }
    /* No other thread claims, and who looks does so for a state that comes after this. */
    atomic_store_explicit(&lease->deadline_us, now + timeout_us, memory_order_relaxed);
    atomic_store_explicit(&lease->stall_us, now + stall_us, memory_order_relaxed);
    if (!atomic_compare_exchange_strong_explicit(&lease->state, &seen, CLAIMED,
                                                 memory_order_seq_cst, memory_order_relaxed)) {
        return 0;
    }
    atomic_fetch_add_explicit(&lease->claims, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&lease->sleeps, memory_order_seq_cst)) {
        rts_host_ring(channel);
    }
    /* What is published now rings no doorbell. */
    lease->asleep = atomic_exchange_explicit(&channel->control->sq_sleep, 0, memory_order_seq_cst);
    lease->claimed_us = now;
    lease->terminated = 0;
    return 1;
}

void rts_lease_release(rts_channel_t *channel)
{
    rts_lease_t *lease = &channel->lease;
    if (rts_host_pending(channel)) {
        rts_host_ring(channel);
    } else {
        atomic_fetch_or_explicit(&channel->control->sq_sleep, lease->asleep, memory_order_seq_cst);
    }
    if (atomic_exchange_explicit(&lease->state, OFFERED, memory_order_acq_rel) == AWAITED) {
        rts_futex_wake(&lease->state);
    }
}

int rts_lease_run(rts_channel_t *channel)
{
    rts_lease_t *lease = &channel->lease;
    rts_atomic_u32 *flag = &channel->control->cq_sleep;
    /* Lua reads what is answered as soon as this returns. */
    const uint32_t armed =
        atomic_fetch_and_explicit(flag, ~(uint32_t) RTS_WAKE_BELL, memory_order_seq_cst) &
        RTS_WAKE_BELL;
    lease->tail = atomic_load_explicit(&channel->control->sq_tail, memory_order_relaxed);
    lease->tenant->run(lease->tenant->data);
    if (armed) {
        atomic_fetch_or_explicit(flag, RTS_WAKE_BELL, memory_order_seq_cst);
    }
    rts_lease_note(channel, lease->claimed_us);
    const int terminated = lease->terminated;
    rts_lease_release(channel);
    return terminated;
}
