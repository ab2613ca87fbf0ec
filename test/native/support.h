/* Channels for tests: one of a given ring and first cursor, and the host's side as C may play it. */
#ifndef RTS_TEST_SUPPORT_H
#define RTS_TEST_SUPPORT_H

#include <stdatomic.h>

#include "channel/channel.h"
#include "channel/record.h"
#include "tap.h"

/* Cursors that wrap soon, at once, and not. */
static const uint32_t first_cursors[] = {0, 0u - 4096u, 0u - 8u, 0u - 65536u, 0x7ffff000u};
enum { FIRST_CURSORS = sizeof(first_cursors) / sizeof(first_cursors[0]) };

static inline rts_channel_t *new_channel(uint32_t ring_bytes, uint32_t first_cursor)
{
    rts_channel_t *channel = NULL;
    char text[256];
    size_t length = sizeof(text);
    const int code = rts_channel_create(ring_bytes, first_cursor, &channel, text, &length);
    if (code != RTS_OK) {
        tap_fail(__FILE__, __LINE__, "rts_channel_create: %d, %.*s", code, (int) length, text);
    }
    return channel;
}

/* What src/host/channel.ts does after it stored sqHead or cqTail. */
static inline void host_wake(rts_channel_t *channel, rts_atomic_u32 *flag)
{
    if (atomic_load_explicit(flag, memory_order_seq_cst) != 0) {
        const uint32_t bits = atomic_exchange_explicit(flag, 0, memory_order_seq_cst);
        if (bits != 0) {
            rts_host_wake(channel, flag, bits);
        }
    }
}

static inline void host_read_to(rts_channel_t *channel, uint32_t head)
{
    rts_control_t *control = rts_host_control(channel);
    atomic_store_explicit(&control->sq_head, head, memory_order_seq_cst);
    host_wake(channel, &control->sq_room);
}

static inline void host_publish(rts_channel_t *channel, uint32_t tail)
{
    rts_control_t *control = rts_host_control(channel);
    atomic_store_explicit(&control->cq_tail, tail, memory_order_seq_cst);
    host_wake(channel, &control->cq_sleep);
}

#endif
