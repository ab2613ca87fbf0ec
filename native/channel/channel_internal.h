/* What the files of this room share, and nobody else sees. */
#ifndef RTS_CHANNEL_INTERNAL_H
#define RTS_CHANNEL_INTERNAL_H

#include "channel/channel.h"

struct rts_channel {
    rts_control_t *control;
    uint8_t *sq;
    uint8_t *cq;
    uint32_t ring_bytes;
    int host_bell; /* eventfd: rung by Lua, polled by the host */
    /* Rung by the host: an eventfd, or the accepted end of nginx's cosocket. -1 until there is
     * one; a ring that came before then is kept in bell_missed. */
    _Atomic int lua_bell;
    _Atomic int bell_missed;
    int cores; /* that this process may use */
    int memfd;
    int listen_fd;
    char listen_path[108];
    uint8_t *base;
    size_t mapped_bytes;
};

/* Writes `what` (with errno's text for RTS_E_SYSTEM) to errbuf and returns -code. */
int rts_error_format(char *errbuf, size_t *errlen, int code, const char *what);

#endif
