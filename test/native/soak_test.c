/*
 * Millions of records of random sizes through each ring, every byte checked, with both sides
 * falling asleep whenever they are ahead.
 *
 * Threads: main plays Lua, one other the host; submissions and completions one after the other.
 */
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "support.h"

enum { PATIENCE_MS = 30000, PATIENCE_US = PATIENCE_MS * 1000 };

typedef struct {
    uint32_t ring_bytes;
    uint32_t first;
    uint32_t records;
} soak_t;

typedef struct {
    const soak_t *soak;
    rts_channel_t *channel;
    rts_view_t view;
    const char *wrong; /* the host thread's verdict */
} run_t;

/* Mostly small, some middling, a few of the largest. */
static uint32_t random_length(tap_random_t *random, uint32_t ring_bytes)
{
    const uint64_t r = tap_random(random);
    const uint32_t most = rts_record_max(ring_bytes);
    const uint32_t below = r % 512 == 0 ? most + 1 : r % 16 == 0 ? most / 16 + 1 : 65;
    return (uint32_t) (tap_random(random) % below);
}

static rts_record_t make(uint32_t sequence, tap_random_t *random, uint32_t ring_bytes,
                         uint8_t *payload)
{
    const uint32_t length = random_length(random, ring_bytes);
    uint64_t word = sequence * 0x9E3779B97F4A7C15u + 1;
    uint32_t sum = sequence;
    for (uint32_t i = 0; i < length; i += 8) {
        memcpy(payload + i, &word, 8); /* payload has 8 bytes to spare */
        word = word * 6364136223846793005u + 1442695040888963407u;
    }
    for (uint32_t i = 0; i < length; i++) {
        sum = sum * 31 + payload[i];
    }
    return (rts_record_t){.length = length,
                          .kind = RTS_KIND_CALL,
                          .id = sequence,
                          .a = sum,
                          .b = ~sequence,
                          .total = length};
}

static const char *check(const rts_record_t *record, const uint8_t *payload, uint32_t sequence)
{
    uint32_t sum = sequence;
    if (record->id != sequence || record->b != ~sequence || record->total != record->length) {
        return "a record is lost, doubled or out of order";
    }
    for (uint32_t i = 0; i < record->length; i++) {
        sum = sum * 31 + payload[i];
    }
    return sum == record->a ? NULL : "a payload has changed";
}

static int poll_bell(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, PATIENCE_MS) == 1;
}

static void *host_reads(void *argument)
{
    run_t *run = argument;
    rts_channel_t *channel = run->channel;
    rts_control_t *control = rts_host_control(channel);
    const uint32_t ring = run->soak->ring_bytes;
    uint32_t head = run->soak->first;
    tap_random_t random = {.state = 11};
    for (uint32_t sequence = 0; sequence < run->soak->records;) {
        if (!rts_host_pending(channel)) {
            if (rts_host_arm(channel)) {
                if (!poll_bell(rts_host_bell(channel))) {
                    run->wrong = "the host was not woken";
                    break;
                }
                rts_host_bell_drain(channel);
            }
            continue;
        }
        const uint32_t tail = atomic_load_explicit(&control->sq_tail, memory_order_acquire);
        uint32_t batch = 1 + (uint32_t) (tap_random(&random) % 16);
        while (head != tail && batch-- > 0) {
            rts_record_t record;
            const uint8_t *payload;
            const int32_t size = rts_record_read(run->view.sq + (head & (ring - 1)), tail - head,
                                                 ring, &record, &payload);
            if (size < 0) {
                run->wrong = "a record is malformed";
                host_read_to(channel, tail);
                return NULL;
            }
            run->wrong = check(&record, payload, sequence++);
            if (run->wrong != NULL) {
                return NULL;
            }
            head += (uint32_t) size;
        }
        host_read_to(channel, head);
    }
    return NULL;
}

static void submissions(const void *argument)
{
    const soak_t *soak = argument;
    const uint32_t ring = soak->ring_bytes;
    run_t run = {.soak = soak, .channel = new_channel(ring, soak->first)};
    rts_channel_view(run.channel, &run.view);
    uint8_t *payload = malloc(ring);
    pthread_t host;
    CHECK_EQ(pthread_create(&host, NULL, host_reads, &run), 0);
    tap_random_t random = {.state = 5};
    uint32_t tail = soak->first;
    uint32_t published = tail;
    int stuck = 0;
    for (uint32_t sequence = 0; sequence < soak->records && !stuck; sequence++) {
        const rts_record_t record = make(sequence, &random, ring, payload);
        for (;;) {
            const uint32_t head = rts_sq_head(run.channel);
            const int32_t size = rts_record_write(run.view.sq + (tail & (ring - 1)),
                                                  ring - (tail - head), ring, &record, payload);
            if (size > 0) {
                tail += (uint32_t) size;
                break;
            }
            if (published != tail) {
                rts_sq_publish(run.channel, tail);
                rts_sq_kick(run.channel);
                published = tail;
            }
            if (rts_sq_wait_room(run.channel, head, PATIENCE_US) == 0) {
                stuck = 1;
                break;
            }
        }
        if (tap_random(&random) % 4 == 0 || sequence + 1 == soak->records) {
            rts_sq_publish(run.channel, tail);
            rts_sq_kick(run.channel);
            published = tail;
        }
    }
    CHECK_EQ(pthread_join(host, NULL), 0);
    free(payload);
    if (run.wrong != NULL) {
        tap_fail(__FILE__, __LINE__, "%s", run.wrong);
    }
    CHECK(!stuck);
    CHECK_EQ(rts_sq_head(run.channel), tail);
    rts_channel_destroy(run.channel);
}

static void *host_writes(void *argument)
{
    run_t *run = argument;
    rts_channel_t *channel = run->channel;
    rts_control_t *control = rts_host_control(channel);
    const uint32_t ring = run->soak->ring_bytes;
    uint8_t *payload = malloc(ring);
    tap_random_t random = {.state = 23};
    uint32_t tail = run->soak->first;
    for (uint32_t sequence = 0; sequence < run->soak->records; sequence++) {
        const rts_record_t record = make(sequence, &random, ring, payload);
        for (;;) {
            const uint32_t head = atomic_load_explicit(&control->cq_head, memory_order_acquire);
            const int32_t size = rts_record_write(run->view.cq + (tail & (ring - 1)),
                                                  ring - (tail - head), ring, &record, payload);
            if (size > 0) {
                tail += (uint32_t) size;
                break;
            }
            /* As src/host/channel.ts waits for room. */
            host_publish(channel, tail);
            atomic_fetch_or(&control->cq_room, RTS_WAKE_BELL);
            if (atomic_load(&control->cq_head) == head) {
                if (!poll_bell(rts_host_bell(channel))) {
                    run->wrong = "the host was not woken for room";
                    free(payload);
                    return NULL;
                }
                rts_host_bell_drain(channel);
            } else {
                atomic_fetch_and(&control->cq_room, ~(uint32_t) RTS_WAKE_BELL);
            }
        }
        if (tap_random(&random) % 4 == 0 || sequence + 1 == run->soak->records) {
            host_publish(channel, tail);
        }
    }
    free(payload);
    return NULL;
}

static const char *lua_reads(run_t *run, int bell)
{
    const uint32_t ring = run->soak->ring_bytes;
    uint32_t head = run->soak->first;
    uint64_t count;
    for (uint32_t sequence = 0; sequence < run->soak->records;) {
        const uint32_t tail = rts_cq_tail(run->channel);
        if (tail == head) {
            /* Both ways to wait, in turn. */
            if (sequence % 2 == 0) {
                if (!rts_cq_wait(run->channel, head, 20, PATIENCE_US)) {
                    return "Lua was not woken by the futex";
                }
            } else if (rts_cq_arm(run->channel, head)) {
                if (!poll_bell(bell) || read(bell, &count, sizeof(count)) < 0) {
                    return "Lua was not woken by the bell";
                }
            }
            continue;
        }
        while (head != tail) {
            rts_record_t record;
            const uint8_t *payload;
            const int32_t size = rts_record_read(run->view.cq + (head & (ring - 1)), tail - head,
                                                 ring, &record, &payload);
            const char *wrong =
                size < 0 ? "a record is malformed" : check(&record, payload, sequence++);
            if (wrong != NULL) {
                return wrong;
            }
            head += (uint32_t) size;
        }
        rts_cq_release(run->channel, head);
    }
    return NULL;
}

static void completions(const void *argument)
{
    const soak_t *soak = argument;
    run_t run = {.soak = soak, .channel = new_channel(soak->ring_bytes, soak->first)};
    rts_channel_view(run.channel, &run.view);
    char text[256];
    size_t length = sizeof(text);
    const int bell = rts_bell_pair(run.channel, text, &length);
    CHECK(bell >= 0);
    pthread_t host;
    CHECK_EQ(pthread_create(&host, NULL, host_writes, &run), 0);
    const char *wrong = lua_reads(&run, bell);
    if (wrong != NULL) {
        tap_fail(__FILE__, __LINE__, "%s", wrong); /* the host may wait for room for ever */
    }
    CHECK_EQ(pthread_join(host, NULL), 0);
    if (run.wrong != NULL) {
        tap_fail(__FILE__, __LINE__, "%s", run.wrong);
    }
    rts_channel_destroy(run.channel);
}

int main(void)
{
    const uint32_t records = UNDER_SANITIZER ? 60000 : 600000;
    const soak_t soaks[] = {
        {4096, 0, records},
        {4096, 0u - 4096u, records},
        {1u << 16, 0u - (1u << 20), records},
        {1u << 20, 0u - 8u, records},
    };
    char sentence[160];
    for (size_t i = 0; i < sizeof(soaks) / sizeof(soaks[0]); i++) {
        const char *format =
            "%" PRIu32 " %s pass a ring of %" PRIu32 " bytes whole, in order, from 0x%" PRIx32;
        snprintf(sentence, sizeof(sentence), format, records, "submissions", soaks[i].ring_bytes,
                 soaks[i].first);
        tap_test(sentence, submissions, &soaks[i]);
        snprintf(sentence, sizeof(sentence), format, records, "completions", soaks[i].ring_bytes,
                 soaks[i].first);
        tap_test(sentence, completions, &soaks[i]);
    }
    return tap_done();
}
