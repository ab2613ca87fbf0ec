/*
 * Lua's doorbell: how the host wakes a thread that waits in some event loop's poll.
 *
 * Threads: set up on the Lua side; rts_bell_ring on any.
 * Invariant: whoever writes to lua_bell, or closes it, holds bell_lock: its number is another's as soon
 * as it is closed. A ring that comes before there is a bell is kept and rung on connection.
 * A host in another process has a copy of the descriptor: a new one is sent to it before the epoch
 * in the control page moves, and the epoch moves before Lua arms, so whoever is to ring finds it.
 */
#define _GNU_SOURCE
#include "channel/channel_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Under bell_lock, as all of these that do not take it. */
static int current_bell(rts_channel_t *channel)
{
    if (channel->bells >= 0) {
        rts_bell_refresh(channel);
    }
    return channel->lua_bell;
}

static void ring(rts_channel_t *channel)
{
    int fd = current_bell(channel);
    if (fd < 0) {
        atomic_store_explicit(&channel->control->bell_missed, 1, memory_order_seq_cst);
        fd = current_bell(channel);
        if (fd < 0) {
            return;
        }
    }
    const uint64_t one = 1;
    while (send(fd, &one, sizeof(one), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno != EINTR) {
            return; /* full: it is ringing already */
        }
    }
}

void rts_bell_ring(rts_channel_t *channel)
{
    pthread_mutex_lock(&channel->bell_lock);
    ring(channel);
    pthread_mutex_unlock(&channel->bell_lock);
}

static int socket_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
}

int rts_host_bell_pair(rts_channel_t *channel)
{
    int fds[2];
    if (socket_pair(fds) != 0) {
        return -1;
    }
    atomic_store_explicit(&channel->host_ringer, fds[0], memory_order_release);
    return fds[1];
}

/* The count is our own: the control page is the other side's to write, too. */
static void tell_watch(rts_channel_t *channel)
{
    channel->bell_epoch++;
    if (channel->watch_bell != NULL) {
        channel->watch_bell(channel->watch_data, channel->lua_bell, channel->bell_epoch);
    }
    atomic_store_explicit(&channel->control->bell_epoch, channel->bell_epoch, memory_order_seq_cst);
}

/* end: Lua's of the socket fd where it is ours, else -1. */
static void bell_replace(rts_channel_t *channel, int fd, int end)
{
    if (channel->lua_end >= 0) {
        close(channel->lua_end);
    }
    channel->lua_end = end;
    pthread_mutex_lock(&channel->bell_lock);
    if (channel->lua_bell >= 0) {
        close(channel->lua_bell);
    }
    channel->lua_bell = fd;
    tell_watch(channel);
    if (atomic_exchange_explicit(&channel->control->bell_missed, 0, memory_order_seq_cst)) {
        ring(channel);
    }
    pthread_mutex_unlock(&channel->bell_lock);
}

void rts_bell_watch(rts_channel_t *channel, rts_bell_watch_t watch, void *data)
{
    pthread_mutex_lock(&channel->bell_lock);
    channel->watch_bell = watch;
    channel->watch_data = data;
    if (watch != NULL && channel->lua_bell >= 0) {
        tell_watch(channel);
    }
    pthread_mutex_unlock(&channel->bell_lock);
}

void rts_bell_move(rts_channel_t *from, rts_channel_t *to)
{
    pthread_mutex_lock(&from->bell_lock);
    const int fd = from->lua_bell;
    from->lua_bell = -1;
    pthread_mutex_unlock(&from->bell_lock);
    if (fd >= 0) {
        const int end = from->lua_end;
        from->lua_end = -1;
        bell_replace(to, fd, end);
    }
}

int rts_bell_pair(rts_channel_t *channel, char *errbuf, size_t *errlen)
{
    int fds[2];
    if (socket_pair(fds) != 0) {
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM, "socketpair");
    }
    bell_replace(channel, fds[0], fds[1]);
    return fds[1];
}

int rts_bell_listen(rts_channel_t *channel, const char *dir, char *path, size_t *pathlen,
                    char *errbuf, size_t *errlen)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[sizeof(channel->listen_path)];
    char what[160];

    rts_bell_unlisten(channel);
    const int n = snprintf(folder, sizeof(folder), "%s/resty-ts-XXXXXX", dir ? dir : "/tmp");
    if (n < 0 || (size_t) n + sizeof("/bell") > sizeof(folder) ||
        (size_t) n + sizeof("/bell") > *pathlen) {
        errno = ENAMETOOLONG;
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM, "the doorbell's folder");
    }
    if (mkdtemp(folder) == NULL) { /* mode 0700: no other user reaches the socket */
        snprintf(what, sizeof(what), "mkdtemp %s", folder);
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM, what);
    }
    snprintf(channel->listen_path, sizeof(channel->listen_path), "%s", folder);
    memcpy(address.sun_path, folder, (size_t) n);
    memcpy(address.sun_path + n, "/bell", sizeof("/bell"));

    channel->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (channel->listen_fd < 0 ||
        bind(channel->listen_fd, (const struct sockaddr *) &address, sizeof(address)) != 0 ||
        listen(channel->listen_fd, 1) != 0) {
        snprintf(what, sizeof(what), "listen on %s", address.sun_path);
        const int code = rts_error_format(errbuf, errlen, RTS_E_SYSTEM, what);
        rts_bell_unlisten(channel);
        return code;
    }
    *pathlen = (size_t) n + sizeof("/bell") - 1;
    memcpy(path, address.sun_path, *pathlen);
    return RTS_OK;
}

int rts_bell_accept(rts_channel_t *channel, char *errbuf, size_t *errlen)
{
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    const int fd = accept4(channel->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    const int accept_errno = errno;
    rts_bell_unlisten(channel);
    errno = accept_errno;
    if (fd < 0) {
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM, "accept on the doorbell");
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.pid != getpid()) {
        close(fd);
        errno = EPERM;
        return rts_error_format(errbuf, errlen, RTS_E_SYSTEM,
                                "another process connected to the doorbell");
    }
    bell_replace(channel, fd, -1);
    return RTS_OK;
}

void rts_bell_unlisten(rts_channel_t *channel)
{
    if (channel->listen_fd >= 0) {
        close(channel->listen_fd);
        channel->listen_fd = -1;
    }
    if (channel->listen_path[0] != '\0') {
        char path[sizeof(channel->listen_path) + sizeof("/bell")];
        snprintf(path, sizeof(path), "%s/bell", channel->listen_path);
        unlink(path);
        rmdir(channel->listen_path);
        channel->listen_path[0] = '\0';
    }
}
