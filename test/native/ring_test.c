/*
 * Publishing, sleeping and waking, on every cursor that matters.
 *
 * Threads: main plays Lua, one other the host. A lost wake-up shows as a wait that takes PATIENCE;
 * none of the waits is a sleep that hopes for the best.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "support.h"

enum { RING = 4096, PATIENCE_MS = 20000, PATIENCE_US = PATIENCE_MS * 1000, HEADER = 24 };

/* How often a doorbell was rung; empties it. */
static uint64_t rung(int bell)
{
    uint64_t rings = 0;
    for (uint64_t count; read(bell, &count, sizeof(count)) == sizeof(count);) {
        rings += count;
    }
    return rings;
}

static int wait_readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, PATIENCE_MS) == 1;
}

static int lua_bell(rts_channel_t *channel)
{
    char text[256];
    size_t length = sizeof(text);
    const int fd = rts_bell_pair(channel, text, &length);
    CHECK(fd >= 0);
    return fd;
}

static void kick_rings_a_sleeper(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    rts_channel_t *channel = new_channel(RING, first);
    const int bell = rts_host_bell(channel);

    CHECK_EQ(rts_host_pending(channel), 0);
    CHECK_EQ(rts_sq_publish(channel, first + HEADER), 0);
    CHECK_EQ(rts_host_pending(channel), 1);
    CHECK_EQ(rts_sq_kick(channel), 0);
    CHECK_EQ(rung(bell), 0); /* nobody sleeps */
    CHECK_EQ(rts_host_arm(channel), 0);
    CHECK_EQ(atomic_load(&rts_host_control(channel)->sq_sleep), 0);
    host_read_to(channel, first + HEADER);
    CHECK_EQ(rts_sq_head(channel), first + HEADER);
    CHECK_EQ(rts_host_pending(channel), 0);

    CHECK_EQ(rts_host_arm(channel), 1);
    CHECK_EQ(rts_sq_publish(channel, first + 2 * HEADER), 1);
    CHECK_EQ(rts_sq_publish(channel, first + 3 * HEADER), 1);
    CHECK_EQ(rung(bell), 0); /* it gathers */
    CHECK_EQ(rts_sq_kick(channel), 0);
    CHECK_EQ(rung(bell), 1);
    CHECK_EQ(rts_sq_kick(channel), 0);
    CHECK_EQ(rts_sq_publish(channel, first + 4 * HEADER), 0); /* it is awake */
    CHECK_EQ(rts_sq_kick(channel), 0);
    CHECK_EQ(rung(bell), 0); /* once for each time that it slept */

    host_read_to(channel, first + 4 * HEADER);
    CHECK_EQ(rts_host_arm(channel), 1);
    CHECK_EQ(rts_sq_kick(channel), 0);
    CHECK_EQ(rung(bell), 0); /* it has read all */
    CHECK_EQ(rts_sq_publish(channel, first + 5 * HEADER), 1);
    CHECK_EQ(rts_sq_kick(channel), 0);
    rts_host_bell_drain(channel);
    CHECK_EQ(rung(bell), 0);
    rts_host_bell_drain(channel); /* of an empty one does not block */
    rts_channel_destroy(channel);
}

static void room_rings_lua(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    rts_channel_t *channel = new_channel(RING, first);
    const int bell = lua_bell(channel);

    CHECK_EQ(rts_sq_publish(channel, first + RING), 0); /* full */
    CHECK_EQ(rts_sq_want_room(channel, first), 1);
    CHECK_EQ(rung(bell), 0);
    host_read_to(channel, first + HEADER);
    host_read_to(channel, first + 2 * HEADER);
    CHECK_EQ(rung(bell), 1);
    CHECK_EQ(rts_sq_want_room(channel, first), 0); /* there is some already */
    host_read_to(channel, first + 3 * HEADER);
    CHECK_EQ(rung(bell), 0);
    CHECK_EQ(rts_sq_wait_room(channel, first, 0), 1);
    CHECK_EQ(rts_sq_wait_room(channel, first + 3 * HEADER, 0), 0);
    CHECK_EQ(rts_sq_wait_room(channel, first + 3 * HEADER, 3000), 0);
    CHECK_EQ(atomic_load(&rts_host_control(channel)->sq_room), 0);
    rts_channel_destroy(channel);
}

static void arm_and_disarm(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    rts_channel_t *channel = new_channel(RING, first);
    const int bell = lua_bell(channel);
    rts_control_t *control = rts_host_control(channel);

    CHECK_EQ(rts_cq_arm(channel, first), 1);
    CHECK_EQ(rts_cq_disarm(channel), 1);
    host_publish(channel, first + HEADER);
    CHECK_EQ(rung(bell), 0); /* taken back */
    CHECK_EQ(rts_cq_tail(channel), first + HEADER);
    CHECK_EQ(rts_cq_arm(channel, first), 0); /* there is something */
    CHECK_EQ(atomic_load(&control->cq_sleep), 0);
    CHECK_EQ(rts_cq_disarm(channel), 0);

    CHECK_EQ(rts_cq_arm(channel, first + HEADER), 1);
    CHECK_EQ(rts_cq_arm(channel, first + HEADER), 1);
    host_publish(channel, first + 2 * HEADER);
    host_publish(channel, first + 3 * HEADER);
    CHECK_EQ(rung(bell), 1);
    CHECK_EQ(rts_cq_disarm(channel), 0); /* too late, it rang */

    /* Giving back room rings the host when it waits for it, and else not. */
    CHECK_EQ(rts_cq_release(channel, first + HEADER), 0);
    CHECK_EQ(rung(rts_host_bell(channel)), 0);
    atomic_fetch_or(&control->cq_room, RTS_WAKE_BELL);
    CHECK_EQ(rts_cq_release(channel, first + 2 * HEADER), 0);
    CHECK_EQ(rts_cq_release(channel, first + 3 * HEADER), 0);
    CHECK_EQ(rung(rts_host_bell(channel)), 1);
    CHECK_EQ(atomic_load(&control->cq_head), first + 3 * HEADER);
    rts_channel_destroy(channel);
}

static void waits_end_in_time(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    rts_channel_t *channel = new_channel(RING, first);
    const uint32_t spins[] = {0, 100, 1000000};
    for (int i = 0; i < 3; i++) {
        const uint64_t start = rts_now_us();
        CHECK_EQ(rts_cq_wait(channel, first, spins[i], 5000), 0);
        CHECK(rts_now_us() - start >= 5000);
        CHECK_EQ(rts_cq_wait(channel, first, spins[i], 0), 0);
    }
    /* Nothing is left armed: a later publish wakes nobody for nothing. */
    CHECK_EQ(atomic_load(&rts_host_control(channel)->cq_sleep), 0);
    /* The bell that was armed before stays armed. */
    CHECK_EQ(rts_cq_arm(channel, first), 1);
    CHECK_EQ(rts_cq_wait(channel, first, 0, 2000), 0);
    CHECK_EQ(atomic_load(&rts_host_control(channel)->cq_sleep), RTS_WAKE_BELL);
    host_publish(channel, first + 8);
    CHECK_EQ(rts_cq_wait(channel, first, 0, 0), 1);
    rts_channel_destroy(channel);
}

static void spins_without_sleeping(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    rts_channel_t *channel = new_channel(RING, first);
    CHECK(rts_host_cores(channel) >= 1);
    CHECK_EQ(rts_cq_spin(channel, first, 0), 0);
    const uint64_t start = rts_now_us();
    CHECK_EQ(rts_cq_spin(channel, first, 2000), 0);
    CHECK(rts_host_cores(channel) == 1 || rts_now_us() - start >= 2000);
    CHECK_EQ(atomic_load(&rts_host_control(channel)->cq_sleep), 0);
    host_publish(channel, first + HEADER);
    CHECK_EQ(rts_cq_spin(channel, first, 2000), rts_host_cores(channel) > 1);
    rts_channel_destroy(channel);
}

/* Two threads ------------------------------------------------------------------------------- */

enum lua_wait { LUA_FUTEX, LUA_SPIN, LUA_BELL };

typedef struct {
    rts_channel_t *channel;
    uint32_t first;
    int rounds;
    int host_sleeps;
    _Atomic int stop;
    int lost; /* the host's own verdict */
} pair_t;

/* Waits until the flag's owner has said that it sleeps. */
static void until_set(rts_atomic_u32 *flag, uint32_t bit)
{
    while ((atomic_load(flag) & bit) == 0) {
        sched_yield();
    }
}

static void *host_echoes(void *argument)
{
    pair_t *pair = argument;
    rts_channel_t *channel = pair->channel;
    rts_control_t *control = rts_host_control(channel);
    uint32_t cursor = pair->first;
    for (int i = 0; i < pair->rounds; i++) {
        while (!rts_host_pending(channel)) {
            if (!pair->host_sleeps) {
                sched_yield();
            } else if (rts_host_arm(channel)) {
                if (!wait_readable(rts_host_bell(channel))) {
                    pair->lost = 1;
                    return NULL;
                }
                rts_host_bell_drain(channel);
            }
        }
        cursor = atomic_load(&control->sq_tail);
        host_read_to(channel, cursor);
        host_publish(channel, cursor);
    }
    return NULL;
}

/* How long a side that is awake spins: on one CPU not at all, where each spin would last a slice. */
static uint32_t awake_us(void)
{
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) == 1 ? 0
                                                                                   : PATIENCE_US;
}

static int lua_waits(rts_channel_t *channel, int bell, enum lua_wait how, uint32_t seen)
{
    if (how != LUA_BELL) {
        return rts_cq_wait(channel, seen, how == LUA_SPIN ? awake_us() : 0, PATIENCE_US);
    }
    while (rts_cq_tail(channel) == seen) {
        if (rts_cq_arm(channel, seen)) {
            if (!wait_readable(bell)) {
                return 0;
            }
            rung(bell);
        }
    }
    return 1;
}

static void ping_pong(uint32_t first, int host_sleeps, enum lua_wait how, int rounds)
{
    pair_t pair = {.channel = new_channel(RING, first),
                   .first = first,
                   .rounds = rounds,
                   .host_sleeps = host_sleeps};
    const int bell = lua_bell(pair.channel);
    pthread_t host;
    CHECK_EQ(pthread_create(&host, NULL, host_echoes, &pair), 0);
    uint32_t cursor = first;
    int lost = 0;
    for (int i = 0; i < rounds && !lost; i++) {
        const uint32_t next = cursor + HEADER;
        rts_sq_publish(pair.channel, next);
        rts_sq_kick(pair.channel);
        lost = !lua_waits(pair.channel, bell, how, cursor) || rts_cq_tail(pair.channel) != next;
        rts_cq_release(pair.channel, next);
        cursor = next;
    }
    CHECK_EQ(pthread_join(host, NULL), 0);
    CHECK(!lost);
    CHECK(!pair.lost);
    CHECK_EQ(rts_sq_head(pair.channel), first + (uint32_t) rounds * HEADER);
    rts_channel_destroy(pair.channel);
}

static void both_sleep(const void *argument)
{
    const int rounds = UNDER_SANITIZER ? 2000 : 20000;
    ping_pong(*(const uint32_t *) argument, 1, LUA_FUTEX, rounds);
    ping_pong(*(const uint32_t *) argument, 1, LUA_BELL, rounds);
}

static void one_sleeps(const void *argument)
{
    const int rounds = UNDER_SANITIZER ? 1000 : 5000;
    ping_pong(*(const uint32_t *) argument, 0, LUA_FUTEX, rounds);
    ping_pong(*(const uint32_t *) argument, 0, LUA_BELL, rounds);
    ping_pong(*(const uint32_t *) argument, 1, LUA_SPIN, rounds);
}

static void none_sleeps(const void *argument)
{
    ping_pong(*(const uint32_t *) argument, 0, LUA_SPIN, UNDER_SANITIZER ? 500 : 3000);
}

static void *host_publishes_to_sleeper(void *argument)
{
    pair_t *pair = argument;
    rts_control_t *control = rts_host_control(pair->channel);
    for (int i = 0; i < pair->rounds; i++) {
        until_set(&control->cq_sleep, RTS_WAKE_FUTEX);
        host_publish(pair->channel, pair->first + (uint32_t) (i + 1) * 8);
    }
    return NULL;
}

static void wakes_futex_and_bell(const void *argument)
{
    /* The bell is armed and the thread waits on the futex of the same flag: both get theirs. */
    const uint32_t first = *(const uint32_t *) argument;
    pair_t pair = {.channel = new_channel(RING, first), .first = first, .rounds = 300};
    const int bell = lua_bell(pair.channel);
    pthread_t host;
    CHECK_EQ(pthread_create(&host, NULL, host_publishes_to_sleeper, &pair), 0);
    int bad = 0;
    for (int i = 0; i < pair.rounds && !bad; i++) {
        const uint32_t seen = first + (uint32_t) i * 8;
        const int armed = rts_cq_arm(pair.channel, seen);
        bad = armed != 1 || rts_cq_wait(pair.channel, seen, 0, PATIENCE_US) != 1 ||
              !wait_readable(bell) || rung(bell) != 1;
    }
    CHECK(!bad);
    CHECK_EQ(pthread_join(host, NULL), 0);
    CHECK_EQ(rts_cq_tail(pair.channel), first + 300 * 8);
    rts_channel_destroy(pair.channel);
}

static void *host_makes_room(void *argument)
{
    pair_t *pair = argument;
    rts_control_t *control = rts_host_control(pair->channel);
    for (int i = 0; i < pair->rounds; i++) {
        until_set(&control->sq_room, RTS_WAKE_FUTEX);
        host_read_to(pair->channel, pair->first + (uint32_t) (i + 1) * 8);
    }
    return NULL;
}

static void waits_for_room(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    pair_t pair = {.channel = new_channel(RING, first), .first = first, .rounds = 300};
    pthread_t host;
    CHECK_EQ(pthread_create(&host, NULL, host_makes_room, &pair), 0);
    int bad = 0;
    for (int i = 0; i < pair.rounds && !bad; i++) {
        const uint32_t seen = first + (uint32_t) i * 8;
        rts_sq_publish(pair.channel, seen + RING);
        rts_sq_kick(pair.channel);
        bad = rts_sq_wait_room(pair.channel, seen, PATIENCE_US) != 1;
    }
    CHECK(!bad);
    CHECK_EQ(pthread_join(host, NULL), 0);
    rts_channel_destroy(pair.channel);
}

int main(void)
{
    static const struct {
        const char *sentence;
        void (*body)(const void *);
    } tests[] = {
        {"a kick rings the host when it sleeps and has something to read", kick_rings_a_sleeper},
        {"room that was asked for rings Lua once", room_rings_lua},
        {"the completion bell rings when it is armed, and only then", arm_and_disarm},
        {"a wait for nothing ends at its deadline and leaves no flag behind", waits_end_in_time},
        {"a spin sees a completion, and sets no flag", spins_without_sleeping},
        {"no wake-up is lost while both sides sleep", both_sleep},
        {"no wake-up is lost while one side sleeps", one_sleeps},
        {"nothing is lost while both sides are awake", none_sleeps},
        {"a publish wakes the futex and the bell of one flag", wakes_futex_and_bell},
        {"a wait for room ends when the host reads on", waits_for_room},
    };
    char sentence[160];
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        for (int j = 0; j < FIRST_CURSORS; j++) {
            snprintf(sentence, sizeof(sentence), "%s (cursors from 0x%" PRIx32 ")",
                     tests[i].sentence, first_cursors[j]);
            tap_test(sentence, tests[i].body, &first_cursors[j]);
        }
    }
    return tap_done();
}
