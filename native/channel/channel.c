/*
 * The mapping: one memfd, each ring mapped twice in a row so that a record never wraps.
 *
 * Threads: create and destroy on the Lua side, while nobody else has the channel.
 * Invariant: the memfd is sealed against shrinking before anybody sees it, so that no holder
 * of the descriptor can turn another's load into SIGBUS.
 */
#define _GNU_SOURCE
#include "channel/channel_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

int rts_error_format(char *errbuf, size_t *errlen, int code, const char *what)
{
    if (errbuf != NULL && errlen != NULL && *errlen > 0) {
        int n = code == RTS_E_SYSTEM ? snprintf(errbuf, *errlen, "%s: %s", what, strerror(errno))
                                     : snprintf(errbuf, *errlen, "%s", what);
        size_t length = n < 0 ? 0 : (size_t) n;
        *errlen = length < *errlen ? length : *errlen - 1;
    }
    return -code;
}

int rts_channel_map(rts_channel_t *channel)
{
    const size_t ring = channel->ring_bytes;
    uint8_t *base = mmap(NULL, channel->mapped_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return -1;
    }
    channel->base = base;

    const struct {
        size_t at, bytes, file;
    } parts[] = {
        {0, RTS_CONTROL_BYTES, 0},
        {RTS_CONTROL_BYTES, ring, RTS_CONTROL_BYTES},
        {RTS_CONTROL_BYTES + ring, ring, RTS_CONTROL_BYTES},
        {RTS_CONTROL_BYTES + 2 * ring, ring, RTS_CONTROL_BYTES + ring},
        {RTS_CONTROL_BYTES + 3 * ring, ring, RTS_CONTROL_BYTES + ring},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (mmap(base + parts[i].at, parts[i].bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 channel->memfd, (off_t) parts[i].file) == MAP_FAILED) {
            return -1;
        }
    }
    channel->sq = base + RTS_CONTROL_BYTES;
    channel->cq = base + RTS_CONTROL_BYTES + 2 * ring;
    channel->control = (rts_control_t *) (void *) base;
    return 0;
}

rts_channel_t *rts_channel_new(uint32_t ring_bytes)
{
    rts_channel_t *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return NULL;
    }
    channel->ring_bytes = ring_bytes;
    channel->mapped_bytes = RTS_CONTROL_BYTES + 4 * (size_t) ring_bytes;
    cpu_set_t cores; /* too small for a kernel with more than 1,024 */
    channel->cores = sched_getaffinity(0, sizeof(cores), &cores) == 0
                         ? CPU_COUNT(&cores)
                         : (int) sysconf(_SC_NPROCESSORS_ONLN);
    channel->memfd = -1;
    channel->listen_fd = -1;
    channel->host_bell = -1;
    channel->bells = -1;
    channel->lua_bell = -1;
    channel->lua_end = -1;
    atomic_init(&channel->lease.state, 0);
    atomic_init(&channel->lease.claims, 0);
    atomic_init(&channel->lease.sleeps, 0);
    atomic_init(&channel->lease.deadline_us, 0);
    atomic_init(&channel->lease.asked_us, 0);
    atomic_init(&channel->lease.stall_us, 0);
    atomic_init(&channel->lease.slow_until_us, 0);
    atomic_init(&channel->host_ringer, -1);
    pthread_mutex_init(&channel->bell_lock, NULL);
    return channel;
}

int rts_channel_create(uint32_t ring_bytes, uint32_t first_cursor, rts_channel_t **out,
                       char *errbuf, size_t *errlen)
{
    const uint32_t page = (uint32_t) sysconf(_SC_PAGESIZE);
    if (ring_bytes < page || ring_bytes > (1u << 30) || (ring_bytes & (ring_bytes - 1)) != 0) {
        char what[96];
        snprintf(what, sizeof(what),
                 "ring_bytes must be a power of two from %u, this machine's page, to 2^30", page);
        return rts_error_format(errbuf, errlen, RTS_E_BAD_OPTION, what);
    }
    if (first_cursor % 8 != 0) {
        return rts_error_format(errbuf, errlen, RTS_E_BAD_OPTION,
                                "first_cursor must be a multiple of 8");
    }

    rts_channel_t *channel = rts_channel_new(ring_bytes);
    if (channel == NULL) {
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM, "calloc");
    }
    const char *what = "memfd_create";
    channel->memfd = memfd_create("resty-ts", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (channel->memfd < 0) {
        goto failed;
    }
    what = "ftruncate of the channel's memory";
    if (ftruncate(channel->memfd, (off_t) (RTS_CONTROL_BYTES + 2 * (size_t) ring_bytes)) != 0 ||
        fcntl(channel->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        goto failed;
    }
    what = "mmap of the channel's memory";
    if (rts_channel_map(channel) != 0) {
        goto failed;
    }
    what = "eventfd";
    channel->host_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (channel->host_bell < 0) {
        goto failed;
    }

    rts_control_t *control = channel->control;
    control->magic = RTS_MAGIC;
    control->protocol = RTS_PROTOCOL;
    control->ring_bytes = ring_bytes;
    control->first_cursor = first_cursor;
    atomic_init(&control->sq_tail, first_cursor);
    atomic_init(&control->sq_head, first_cursor);
    atomic_init(&control->sq_begun, first_cursor);
    atomic_init(&control->cq_tail, first_cursor);
    atomic_init(&control->cq_head, first_cursor);
    *out = channel;
    return RTS_OK;

failed : {
    int code = rts_error_format(errbuf, errlen, RTS_E_SYSTEM, what);
    rts_channel_destroy(channel);
    return code;
}
}

void rts_channel_destroy(rts_channel_t *channel)
{
    if (channel == NULL) {
        return;
    }
    rts_bell_unlisten(channel);
    const int descriptors[] = {
        channel->lua_bell, atomic_load_explicit(&channel->host_ringer, memory_order_relaxed),
        channel->lua_end,  channel->host_bell,
        channel->bells,    channel->memfd,
    };
    for (size_t i = 0; i < sizeof(descriptors) / sizeof(descriptors[0]); i++) {
        if (descriptors[i] >= 0) {
            close(descriptors[i]);
        }
    }
    if (channel->base != NULL) {
        munmap(channel->base, channel->mapped_bytes);
    }
    pthread_mutex_destroy(&channel->bell_lock);
    free(channel);
}

void rts_channel_view(const rts_channel_t *channel, rts_view_t *out)
{
    out->sq = channel->sq;
    out->cq = channel->cq;
    out->sq_bytes = channel->ring_bytes;
    out->cq_bytes = channel->ring_bytes;
    out->sq_tail = atomic_load_explicit(&channel->control->sq_tail, memory_order_relaxed);
    out->cq_head = atomic_load_explicit(&channel->control->cq_head, memory_order_relaxed);
}

int rts_channel_memory_fd(const rts_channel_t *channel)
{
    return channel->memfd;
}

uint8_t *rts_host_memory(const rts_channel_t *channel, size_t *bytes)
{
    *bytes = channel->mapped_bytes;
    return channel->base;
}

rts_control_t *rts_host_control(const rts_channel_t *channel)
{
    return channel->control;
}

void rts_host_layout(const rts_channel_t *channel, uint32_t *sq_offset, uint32_t *cq_offset,
                     uint32_t *ring_bytes)
{
    *sq_offset = (uint32_t) (channel->sq - channel->base);
    *cq_offset = (uint32_t) (channel->cq - channel->base);
    *ring_bytes = channel->ring_bytes;
}

const char *rts_version(void)
{
    return RTS_VERSION;
}
