/*
 * The host side of a channel in another process than Lua's.
 *
 * Threads: the host's, all of it. Invariant: nothing of the mapping is used before memory, size and
 * seals have been found to be those of rts_channel_create in a library of the same protocol.
 */
#define _GNU_SOURCE
#include "channel/channel_internal.h"
#include "channel/link.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The size of each ring; 0 when the memory is not a channel's. */
static uint32_t ring_bytes_of(int memfd)
{
    struct stat status;
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
    const int seals = fcntl(memfd, F_GET_SEALS);
    if (seals < 0 || (seals & wanted) != wanted || fstat(memfd, &status) != 0 ||
        status.st_size < RTS_CONTROL_BYTES) {
        return 0;
    }
    const rts_control_t *control = mmap(NULL, RTS_CONTROL_BYTES, PROT_READ, MAP_SHARED, memfd, 0);
    if (control == MAP_FAILED) {
        return 0;
    }
    const uint32_t ring = control->ring_bytes;
    const int fits = control->magic == RTS_MAGIC && control->protocol == RTS_PROTOCOL &&
                     ring >= 4096 && (ring & (ring - 1)) == 0 &&
                     (uint64_t) status.st_size == RTS_CONTROL_BYTES + 2 * (uint64_t) ring;
    munmap((void *) control, RTS_CONTROL_BYTES);
    return fits ? ring : 0;
}

int rts_channel_attach(int memfd, int host_bell, int bells, rts_channel_t **out, char *errbuf,
                       size_t *errlen)
{
    const uint32_t ring_bytes = ring_bytes_of(memfd);
    if (ring_bytes == 0) {
        return rts_error_format(errbuf, errlen, RTS_E_PROTOCOL,
                                "the worker's memory is not a channel of this version");
    }
    rts_channel_t *channel = rts_channel_new(ring_bytes);
    if (channel == NULL) {
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM, "calloc");
    }
    channel->memfd = memfd;
    if (rts_channel_map(channel) != 0) {
        const int code = rts_error_format(errbuf, errlen, RTS_E_SYSTEM, "mmap of the channel");
        channel->memfd = -1;
        rts_channel_destroy(channel);
        return code;
    }
    channel->host_bell = host_bell;
    channel->bells = bells;
    *out = channel;
    return RTS_OK;
}

void rts_bell_refresh(rts_channel_t *channel)
{
    rts_link_message_t message;
    /* pairs: bell_replace's store, which comes after the descriptor was sent */
    while (atomic_load_explicit(&channel->control->bell_epoch, memory_order_seq_cst) !=
           channel->bell_epoch) {
        if (rts_link_receive(channel->bells, &message) != 1) {
            return;
        }
        if (message.kind == RTS_LINK_BELL && message.fd_count == 1) {
            if (channel->lua_bell >= 0) {
                close(channel->lua_bell);
            }
            channel->lua_bell = message.fds[0];
            channel->bell_epoch = message.value;
        } else {
            rts_link_drop(&message);
        }
    }
}
