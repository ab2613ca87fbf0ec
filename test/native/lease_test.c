/* Two threads that run one environment by turns: neither while the other does, and what is late is told. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "channel/lease.h"
#include "support.h"

enum { HEADER = 24, STALL_US = 10000 };

/* What the lease guards is plain memory, so that TSan sees two at a time. */
typedef struct {
    rts_channel_t *channel;
    int locked; /* whether the environment's thread has it */
    int twice; /* how often it was had by two, or given twice */
    long runs, turns;
    int reads; /* whether a run reads what is there */
    int until_late, until_stalled;
    atomic_int stop, late, stalled;
    rts_tenant_t tenant;
} environment_t;

static void unlock(void *data, int due_ms)
{
    environment_t *environment = data;
    (void) due_ms;
    environment->twice += environment->locked != 1;
    environment->locked = 0;
}

static void lock(void *data)
{
    environment_t *environment = data;
    environment->twice += environment->locked != 0;
    environment->locked = 1;
}

static void run(void *data)
{
    environment_t *environment = data;
    environment->twice += environment->locked != 0;
    environment->runs++;
    if (environment->reads) {
        rts_control_t *control = rts_host_control(environment->channel);
        const uint32_t tail = atomic_load(&control->sq_tail);
        atomic_store(&control->sq_begun, tail);
        host_read_to(environment->channel, tail);
    }
    while ((environment->until_late && !atomic_load(&environment->late)) ||
           (environment->until_stalled && !atomic_load(&environment->stalled))) {
        poll(NULL, 0, 1);
    }
}

static void late(void *data, int stalled)
{
    environment_t *environment = data;
    atomic_store(&environment->late, 1);
    if (stalled) {
        atomic_store(&environment->stalled, 1);
    }
}

static void open_environment(environment_t *environment)
{
    *environment = (environment_t){.channel = new_channel(65536, 0), .locked = 1, .reads = 1};
    environment->tenant = (rts_tenant_t){environment, unlock, lock, run, late};
    rts_lease_share(environment->channel, &environment->tenant);
}

static void close_environment(environment_t *environment)
{
    CHECK_EQ(environment->locked, 1);
    CHECK_EQ(environment->twice, 0);
    rts_lease_share(environment->channel, NULL);
    CHECK_EQ(rts_lease_claim(environment->channel, 1000, STALL_US), 0);
    rts_channel_destroy(environment->channel);
}

static void not_shared(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(65536, 0);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 0);
    rts_lease_wait(channel, -1); /* as a host in a process of its own does */
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 0);
    rts_lease_resume(channel);
    rts_channel_destroy(channel);
}

static void claimed_while_it_waits(const void *unused)
{
    (void) unused;
    environment_t environment;
    open_environment(&environment);
    rts_channel_t *channel = environment.channel;
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 0);
    rts_lease_wait(channel, -1);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 1);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 0);
    CHECK_EQ(rts_lease_run(channel), 0);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 1);
    rts_lease_release(channel);
    rts_lease_resume(channel);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 0);
    CHECK_EQ(environment.runs, 1);
    close_environment(&environment);
}

/* Neither doorbell is rung for a call that is handled at once; afterwards they are as before. */
static void rings_nobody(const void *unused)
{
    (void) unused;
    environment_t environment;
    open_environment(&environment);
    rts_channel_t *channel = environment.channel;
    rts_control_t *control = rts_host_control(channel);
    CHECK_EQ(rts_host_arm(channel), 1);
    CHECK_EQ(rts_cq_arm(channel, 0), 1);
    rts_lease_wait(channel, -1);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 1);
    CHECK_EQ(rts_sq_publish(channel, HEADER), 0);
    CHECK_EQ(rts_lease_run(channel), 0);
    CHECK_EQ(rts_sq_head(channel), HEADER);
    CHECK_EQ(atomic_load(&control->cq_sleep), RTS_WAKE_BELL);
    CHECK_EQ(rts_sq_publish(channel, 2 * HEADER), 1);
    rts_lease_resume(channel);
    close_environment(&environment);
}

static int is_rung(rts_channel_t *channel)
{
    struct pollfd bell = {.fd = rts_host_bell(channel), .events = POLLIN};
    return poll(&bell, 1, 0) == 1;
}

static void leaves_the_rest(const void *unused)
{
    (void) unused;
    environment_t environment;
    open_environment(&environment);
    rts_channel_t *channel = environment.channel;
    environment.reads = 0;
    CHECK_EQ(rts_host_arm(channel), 1);
    rts_lease_wait(channel, -1);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 1);
    CHECK_EQ(rts_sq_publish(channel, HEADER), 0);
    CHECK(!is_rung(channel));
    CHECK_EQ(rts_lease_run(channel), 0);
    CHECK(is_rung(channel));
    rts_lease_resume(channel);
    close_environment(&environment);
}

/* What others have submitted is handled before ours, but not where handlers were slow of late. */
static void not_for_slow_ones(const void *unused)
{
    (void) unused;
    environment_t environment;
    open_environment(&environment);
    rts_channel_t *channel = environment.channel;
    rts_lease_wait(channel, -1);
    rts_sq_publish(channel, HEADER);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 1);
    rts_lease_release(channel);
    rts_lease_note(channel, rts_now_us() - 100000);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 0);
    host_read_to(channel, HEADER);
    CHECK_EQ(rts_lease_claim(channel, 1000, STALL_US), 1);
    rts_lease_release(channel);
    rts_lease_resume(channel);
    close_environment(&environment);
}

static void *environment_main(void *data)
{
    environment_t *environment = data;
    rts_channel_t *channel = environment->channel;
    for (int i = 0; !atomic_load(&environment->stop); i++) {
        environment->turns++;
        rts_lease_wait(channel, i % 3 == 0 ? 0 : -1);
        if (i % 3 != 0) {
            rts_lease_poll(channel, rts_host_bell(channel), i % 3 == 1 ? 1 : -1);
        }
        rts_lease_resume(channel);
        rts_host_bell_drain(channel);
    }
    return NULL;
}

/* As it would wake for a timer, or a socket. */
static void *waker_main(void *data)
{
    environment_t *environment = data;
    while (!atomic_load(&environment->stop)) {
        rts_host_ring(environment->channel);
        poll(NULL, 0, 1);
    }
    return NULL;
}

static void claim(environment_t *environment)
{
    while (!rts_lease_claim(environment->channel, 1000, STALL_US)) {
        poll(NULL, 0, 0);
    }
}

static void never_both(const void *unused)
{
    (void) unused;
    enum { CLAIMS = 20000 };
    environment_t environment;
    pthread_t host;
    pthread_t waker;
    open_environment(&environment);
    CHECK_EQ(pthread_create(&host, NULL, environment_main, &environment), 0);
    CHECK_EQ(pthread_create(&waker, NULL, waker_main, &environment), 0);
    uint32_t tail = 0;
    for (int i = 0; i < CLAIMS; i++) {
        claim(&environment);
        tail += HEADER;
        rts_sq_publish(environment.channel, tail);
        CHECK_EQ(rts_lease_run(environment.channel), 0);
        CHECK_EQ(rts_sq_head(environment.channel), tail);
    }
    atomic_store(&environment.stop, 1);
    CHECK_EQ(pthread_join(waker, NULL), 0);
    rts_host_ring(environment.channel);
    CHECK_EQ(pthread_join(host, NULL), 0);
    CHECK_EQ(environment.runs, CLAIMS);
    CHECK(environment.turns > 0);
    close_environment(&environment);
}

/* Also one that has slept for so long that it looks at no deadline by itself. */
static void late_is_told(const void *unused)
{
    (void) unused;
    environment_t environment;
    pthread_t host;
    open_environment(&environment);
    CHECK_EQ(pthread_create(&host, NULL, environment_main, &environment), 0);
    for (int i = 0; i < 6; i++) {
        claim(&environment);
        environment.until_late = 1;
        environment.until_stalled = i % 2;
        rts_lease_run(environment.channel);
        atomic_store(&environment.late, 0);
        atomic_store(&environment.stalled, 0);
        claim(&environment);
        environment.until_late = environment.until_stalled = 0;
        rts_lease_run(environment.channel);
        poll(NULL, 0, i * 40);
    }
    atomic_store(&environment.stop, 1);
    rts_host_ring(environment.channel);
    CHECK_EQ(pthread_join(host, NULL), 0);
    close_environment(&environment);
}

int main(void)
{
    tap_test("what is not shared is not to be had", not_shared, NULL);
    tap_test("it is to be had while its own thread waits, once", claimed_while_it_waits, NULL);
    tap_test("a call that is handled at once rings nobody", rings_nobody, NULL);
    tap_test("what a run leaves rings for its own thread", leaves_the_rest, NULL);
    tap_test("others' calls are not run where handlers were slow", not_for_slow_ones, NULL);
    tap_test("two threads never run it at a time", never_both, NULL);
    tap_test("a run past its deadline is told, and one that stalls", late_is_told, NULL);
    return tap_done();
}
