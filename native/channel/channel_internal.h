/* What the files of this room share, and nobody else sees. */
#ifndef RTS_CHANNEL_INTERNAL_H
#define RTS_CHANNEL_INTERNAL_H

#include <pthread.h>

#include "channel/channel.h"

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
    /* Of the last kick, by Lua, to a host in this process: from which core, and how long it took. */
    _Atomic int kick_cpu; /* -1: there was none */
    _Atomic uint32_t kick_ns;
    int memfd;
    int listen_fd;
    char listen_path[108];
    uint8_t *base;
    size_t mapped_bytes;
};

/* Writes `what` (with errno's text for RTS_E_SYSTEM) to errbuf and returns -code. */
int rts_error_format(char *errbuf, size_t *errlen, int code, const char *what);

/* A channel without memory and descriptors; NULL when there is no memory for it. */
rts_channel_t *rts_channel_new(uint32_t ring_bytes);

/* Maps channel->memfd. 0, or -1 with errno. */
int rts_channel_map(rts_channel_t *channel);

/* In a host of another process: takes the doorbell that Lua has now. Under bell_lock. */
void rts_bell_refresh(rts_channel_t *channel);

#endif
