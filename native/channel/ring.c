/*
 * Cursors, and waiting for the other side's: the whole protocol between the two threads.
 *
 * Threads: rts_sq_* and rts_cq_* on the Lua side, rts_host_* on the host side.
 * Invariant: see channel.h: a cursor is stored before the flag is loaded, a flag is set before
 * the cursor is loaded, all seq_cst. The flags' bits are taken with one exchange, so each set
 * bit leads to one wake-up at most.
 */
#define _GNU_SOURCE
#include "channel/channel_internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

uint64_t rts_now_us(void)
{
    return now_ns() / 1000u;
}

void rts_futex_wake(rts_atomic_u32 *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void rts_futex_wait(rts_atomic_u32 *word, uint32_t value, uint64_t timeout_us)
{
    struct timespec timeout = {.tv_sec = (time_t) (timeout_us / 1000000u),
                               .tv_nsec = (long) (timeout_us % 1000000u) * 1000};
    syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

/* Sets `bit` in the flag unless the cursor has moved on from `seen`.
 * 1 set; 0 moved, and no wake-up is under way; 2 moved, and the other side took the bit. */
static int flag_arm(rts_atomic_u32 *flag, const rts_atomic_u32 *cursor, uint32_t seen, uint32_t bit)
{
    atomic_fetch_or_explicit(flag, bit, memory_order_seq_cst); /* pairs: flag_take's load */
    if (atomic_load_explicit(cursor, memory_order_seq_cst) == seen) { /* pairs: the store */
        return 1;
    }
    return (atomic_fetch_and_explicit(flag, ~bit, memory_order_seq_cst) & bit) ? 0 : 2;
}

/* Called after a cursor's seq_cst store. The bits of a side that sleeps, each given out once. */
static uint32_t flag_take(rts_atomic_u32 *flag)
{
    if (atomic_load_explicit(flag, memory_order_seq_cst) == 0) { /* pairs: flag_arm's fetch_or */
        return 0;
    }
    return atomic_exchange_explicit(flag, 0, memory_order_seq_cst);
}

static int spin(const rts_atomic_u32 *cursor, uint32_t seen, uint32_t spin_us, uint64_t start)
{
    do {
        for (int i = 0; i < 16; i++) {
            if (atomic_load_explicit(cursor, memory_order_acquire) != seen) {
                return 1;
            }
            rts_relax();
        }
    } while (rts_now_us() - start < spin_us);
    return 0;
}

/* Blocks until the cursor has moved on from `seen`; futex on the flag's word. */
static int flag_wait(rts_atomic_u32 *flag, const rts_atomic_u32 *cursor, uint32_t seen,
                     uint32_t spin_us, uint32_t timeout_us)
{
    const uint64_t start = rts_now_us();
    if (spin(cursor, seen, spin_us < timeout_us ? spin_us : timeout_us, start)) {
        return 1;
    }
    uint64_t elapsed = rts_now_us() - start;
    while (elapsed < timeout_us) {
        if (flag_arm(flag, cursor, seen, RTS_WAKE_FUTEX) != 1) {
            return 1;
        }
        /* The word may hold the bell's bit beside ours. When it changed in between, the futex
         * returns at once and we look again. */
        const uint32_t word = atomic_load_explicit(flag, memory_order_seq_cst);
        if (word & RTS_WAKE_FUTEX) {
            rts_futex_wait(flag, word, timeout_us - elapsed);
        }
        if (atomic_load_explicit(cursor, memory_order_acquire) != seen) {
            atomic_fetch_and_explicit(flag, ~(uint32_t) RTS_WAKE_FUTEX, memory_order_seq_cst);
            return 1;
        }
        elapsed = rts_now_us() - start;
    }
    atomic_fetch_and_explicit(flag, ~(uint32_t) RTS_WAKE_FUTEX, memory_order_seq_cst);
    return atomic_load_explicit(cursor, memory_order_acquire) != seen;
}

int rts_host_ring(rts_channel_t *channel)
{
    const uint64_t one = 1;
    ssize_t n;
    const int ringer = atomic_load_explicit(&channel->host_ringer, memory_order_acquire);
    if (ringer >= 0) {
        do {
            n = send(ringer, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        return RTS_OK; /* full: it is ringing already; closed: whoever watches the host sees it end */
    }
    do {
        n = write(channel->host_bell, &one, sizeof(one));
    } while (n < 0 && errno == EINTR);
    /* EAGAIN: the counter is full, so the bell is ringing already. */
    return n < 0 && errno != EAGAIN ? -RTS_E_SYSTEM : RTS_OK;
}

uint32_t rts_sq_head(const rts_channel_t *channel)
{
    return atomic_load_explicit(&channel->control->sq_head,
                                memory_order_acquire); /* pairs: the host's store of sq_head */
}

uint32_t rts_sq_begun(const rts_channel_t *channel)
{
    return atomic_load_explicit(&channel->control->sq_begun,
                                memory_order_acquire); /* pairs: the host's store, before it acts */
}

int rts_sq_publish(rts_channel_t *channel, uint32_t tail)
{
    rts_control_t *control = channel->control;
    atomic_store_explicit(&control->sq_tail, tail, memory_order_seq_cst);
    /* pairs: flag_arm's fetch_or */
    return atomic_load_explicit(&control->sq_sleep, memory_order_seq_cst) != 0;
}

int rts_sq_kick(rts_channel_t *channel)
{
    /* The Lua thread itself may have had all of it handled (lease.h). */
    const int wakes = rts_host_pending(channel) && flag_take(&channel->control->sq_sleep);
    return wakes ? rts_host_ring(channel) : RTS_OK;
}

int rts_sq_want_room(rts_channel_t *channel, uint32_t head)
{
    rts_control_t *control = channel->control;
    return flag_arm(&control->sq_room, &control->sq_head, head, RTS_WAKE_BELL) == 1;
}

int rts_sq_wait_room(rts_channel_t *channel, uint32_t head, uint32_t timeout_us)
{
    rts_control_t *control = channel->control;
    return flag_wait(&control->sq_room, &control->sq_head, head, 20, timeout_us);
}

uint32_t rts_cq_tail(const rts_channel_t *channel)
{
    return atomic_load_explicit(&channel->control->cq_tail,
                                memory_order_acquire); /* pairs: the host's store of cq_tail */
}

int rts_cq_release(rts_channel_t *channel, uint32_t head)
{
    rts_control_t *control = channel->control;
    atomic_store_explicit(&control->cq_head, head, memory_order_seq_cst);
    return flag_take(&control->cq_room) ? rts_host_ring(channel) : RTS_OK;
}

int rts_cq_arm(rts_channel_t *channel, uint32_t head)
{
    rts_control_t *control = channel->control;
    /* 2 (rung already) counts as armed: the caller goes to its doorbell and finds it ringing. */
    return flag_arm(&control->cq_sleep, &control->cq_tail, head, RTS_WAKE_BELL) != 0;
}

int rts_cq_disarm(rts_channel_t *channel)
{
    return (atomic_fetch_and_explicit(&channel->control->cq_sleep, ~(uint32_t) RTS_WAKE_BELL,
                                      memory_order_seq_cst) &
            RTS_WAKE_BELL) != 0;
}

/* On one core the host cannot move on while we spin. */
static int can_spin(const rts_channel_t *channel)
{
    return channel->cores > 1;
}

int rts_cq_wait(rts_channel_t *channel, uint32_t head, uint32_t spin_us, uint32_t timeout_us)
{
    rts_control_t *control = channel->control;
    return flag_wait(&control->cq_sleep, &control->cq_tail, head, can_spin(channel) ? spin_us : 0,
                     timeout_us);
}

int rts_cq_spin(const rts_channel_t *channel, uint32_t head, uint32_t spin_us)
{
    return can_spin(channel) && spin(&channel->control->cq_tail, head, spin_us, rts_now_us());
}

int rts_host_bell(const rts_channel_t *channel)
{
    return channel->host_bell;
}

int rts_host_cores(const rts_channel_t *channel)
{
    return channel->cores;
}

void rts_host_bell_drain(rts_channel_t *channel)
{
    uint64_t rings[8];
    while (read(channel->host_bell, rings, sizeof(rings)) < 0 && errno == EINTR) {
    }
}

int rts_host_pending(const rts_channel_t *channel)
{
    const rts_control_t *control = channel->control;
    return atomic_load_explicit(&control->sq_tail, memory_order_acquire) !=
           atomic_load_explicit(&control->sq_head, memory_order_relaxed); /* our own cursor */
}

int rts_host_arm(rts_channel_t *channel)
{
    rts_control_t *control = channel->control;
    const uint32_t head = atomic_load_explicit(&control->sq_head, memory_order_relaxed);
    return flag_arm(&control->sq_sleep, &control->sq_tail, head, RTS_WAKE_BELL) == 1;
}

void rts_host_wake(rts_channel_t *channel, rts_atomic_u32 *flag, uint32_t bits)
{
    if (bits & RTS_WAKE_FUTEX) {
        rts_futex_wake(flag);
    }
    if (bits & RTS_WAKE_BELL) {
        rts_bell_ring(channel);
    }
}
