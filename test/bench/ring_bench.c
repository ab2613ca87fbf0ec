/*
 * The channel alone: two threads that do what Lua and the host do with it, with no Node and no
 * Lua. Prints JSON lines {"name": …, "us": …}: microseconds a call by depth, and a round trip with
 * both sides awake and with both asleep.
 *
 * Threads: main is the Lua side, `echo` the host. Invariant: as in channel.h.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "channel/channel.h"
#include "channel/record.h"

enum { RING_BYTES = 1 << 20, PAYLOAD = 16, CALLS = 2000000, ROUNDS = 7, SLEEPS = 200 };

typedef struct {
    rts_channel_t *channel;
    atomic_int stop;
    int spins; /* turns of the loop before the host sleeps */
} echo_t;

/* Answers each CALL with a RESULT of the same payload; sleeps on the doorbell when idle. */
static void *echo(void *argument)
{
    echo_t *self = argument;
    rts_control_t *control = rts_host_control(self->channel);
    uint32_t sq_offset, cq_offset, bytes;
    size_t mapped;
    rts_host_layout(self->channel, &sq_offset, &cq_offset, &bytes);
    uint8_t *memory = rts_host_memory(self->channel, &mapped);
    uint32_t head = atomic_load(&control->sq_head);
    uint32_t cq_tail = atomic_load(&control->cq_tail);
    int idle = 0;
    while (!atomic_load_explicit(&self->stop, memory_order_relaxed)) {
        uint32_t tail = atomic_load_explicit(&control->sq_tail, memory_order_acquire);
        if (tail == head) {
            if (++idle > self->spins && rts_host_arm(self->channel)) {
                struct pollfd bell = {.fd = rts_host_bell(self->channel), .events = POLLIN};
                poll(&bell, 1, 100);
                rts_host_bell_drain(self->channel);
                idle = 0;
            }
            continue;
        }
        idle = 0;
        while (head != tail) {
            rts_record_t record;
            const uint8_t *payload;
            const int32_t size = rts_record_read(memory + sq_offset + (head & (bytes - 1)),
                                                 tail - head, bytes, &record, &payload);
            if (size < 0) {
                abort();
            }
            record.kind = RTS_KIND_RESULT;
            cq_tail += (uint32_t) rts_record_write(memory + cq_offset + (cq_tail & (bytes - 1)),
                                                   bytes, bytes, &record, payload);
            head += (uint32_t) size;
        }
        atomic_store_explicit(&control->sq_head, head, memory_order_seq_cst);
        atomic_store_explicit(&control->cq_tail, cq_tail, memory_order_seq_cst);
        if (atomic_load(&control->cq_sleep) != 0) {
            rts_host_wake(self->channel, &control->cq_sleep,
                          atomic_exchange(&control->cq_sleep, 0));
        }
    }
    return NULL;
}

typedef struct {
    rts_channel_t *channel;
    rts_view_t view;
    uint32_t tail, head;
} caller_t;

static void call(caller_t *self, uint32_t id)
{
    static const uint8_t payload[PAYLOAD] = "0123456789abcdef";
    const rts_record_t record = {
        .length = PAYLOAD, .kind = RTS_KIND_CALL, .id = id, .total = PAYLOAD};
    self->tail += (uint32_t) rts_record_write(self->view.sq + (self->tail & (RING_BYTES - 1)),
                                              RING_BYTES, RING_BYTES, &record, payload);
    rts_sq_publish(self->channel, self->tail);
    rts_sq_kick(self->channel);
}

/* Waits for answers and reads all that are there. Returns how many. */
static uint32_t collect(caller_t *self, uint32_t spin_us)
{
    uint32_t tail = rts_cq_tail(self->channel);
    while (tail == self->head) {
        rts_cq_wait(self->channel, self->head, spin_us, 1000000);
        tail = rts_cq_tail(self->channel);
    }
    uint32_t count = 0;
    while (self->head != tail) {
        rts_record_t record;
        const uint8_t *payload;
        const int32_t size = rts_record_read(self->view.cq + (self->head & (RING_BYTES - 1)),
                                             tail - self->head, RING_BYTES, &record, &payload);
        if (size < 0) {
            abort();
        }
        self->head += (uint32_t) size;
        count++;
    }
    rts_cq_release(self->channel, self->head);
    return count;
}

static double run(caller_t *self, uint32_t depth, uint32_t calls)
{
    const uint64_t start = rts_now_us();
    uint32_t sent = 0;
    uint32_t answered = 0;
    while (answered < calls) {
        while (sent < calls && sent - answered < depth) {
            call(self, sent++);
        }
        answered += collect(self, 1000);
    }
    return (double) (rts_now_us() - start) / calls;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *) a;
    const double y = *(const double *) b;
    return (x > y) - (x < y);
}

static void print_median(const char *name, double *values, size_t count)
{
    qsort(values, count, sizeof(*values), by_value);
    printf("{\"name\": \"%s\", \"us\": %.3f}\n", name, values[count / 2]);
}

int main(void)
{
    caller_t caller = {0};
    char text[256];
    size_t length = sizeof(text);
    if (rts_channel_create(RING_BYTES, 0, &caller.channel, text, &length) != RTS_OK) {
        fprintf(stderr, "%.*s\n", (int) length, text);
        return 1;
    }
    rts_channel_view(caller.channel, &caller.view);
    echo_t host = {.channel = caller.channel, .spins = 1 << 20};
    pthread_t thread;
    pthread_create(&thread, NULL, echo, &host);

    static const uint32_t depths[] = {1, 4, 16, 64, 256};
    double values[ROUNDS];
    for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++) {
        for (int round = 0; round < ROUNDS; round++) {
            values[round] = run(&caller, depths[d], depths[d] == 1 ? CALLS / 10 : CALLS / 2);
        }
        char name[64];
        snprintf(name, sizeof(name), "a call at depth %" PRIu32, depths[d]);
        print_median(name, values, ROUNDS);
    }
    atomic_store(&host.stop, 1);
    pthread_join(thread, NULL);

    host.stop = 0;
    host.spins = 0;
    pthread_create(&thread, NULL, echo, &host);
    double asleep[SLEEPS];
    for (int i = 0; i < SLEEPS; i++) {
        const struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
        const uint64_t start = rts_now_us();
        call(&caller, (uint32_t) i);
        while (collect(&caller, 0) == 0) {
        }
        asleep[i] = (double) (rts_now_us() - start);
    }
    print_median("a round trip, both sides asleep", asleep, SLEEPS);
    atomic_store(&host.stop, 1);
    rts_sq_publish(caller.channel, caller.tail);
    rts_sq_kick(caller.channel);
    pthread_join(thread, NULL);
    rts_channel_destroy(caller.channel);
    return 0;
}
