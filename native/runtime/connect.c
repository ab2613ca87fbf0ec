/*
 * Reaching a host that somebody else has started: it listens on a seqpacket socket.
 *
 * Threads: any; no state here. Invariant: what is connected belongs to the worker's own user, or to
 * root: nobody else is given the channel, and with it all that requests carry.
 */
#define _GNU_SOURCE
#include "runtime/connect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "resty_ts.h"

static int refuse(int fd, char *text, size_t size, const char *path, const char *why)
{
    snprintf(text, size, "no host at %s: %s", path, why);
    if (fd >= 0) {
        close(fd);
    }
    return -RTS_E_UNAVAILABLE;
}

int rts_connect(const char *path, pid_t *pid, char *text, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    if (strlen(path) >= sizeof(address.sun_path)) {
        return refuse(-1, text, size, path, "the path is too long for a socket");
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return refuse(fd, text, size, path, strerror(errno));
    }
    if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) != 0) {
        const int gone = errno == ENOENT || errno == ECONNREFUSED;
        return refuse(fd, text, size, path, gone ? "nobody listens there" : strerror(errno));
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
        (peer.uid != geteuid() && peer.uid != 0)) {
        return refuse(fd, text, size, path, "who listens there is another user");
    }
    *pid = peer.pid;
    return fd;
}
