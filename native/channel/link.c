/* See link.h. */
#define _GNU_SOURCE
#include "channel/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct {
    uint32_t kind;
    uint32_t value;
} head_t;

typedef union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * RTS_LINK_MAX_FDS)];
} descriptors_t;

int rts_link_send(int fd, uint32_t kind, uint32_t value, const char *text, size_t length,
                  const int *fds, int fd_count)
{
    head_t head = {kind, value};
    struct iovec parts[2] = {{&head, sizeof(head)},
                             {(void *) text, length < RTS_LINK_TEXT ? length : RTS_LINK_TEXT}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = text != NULL ? 2 : 1};
    descriptors_t space = {0};
    if (fd_count > 0) {
        const size_t bytes = sizeof(int) * (size_t) fd_count;
        message.msg_control = space.bytes;
        message.msg_controllen = (socklen_t) CMSG_SPACE(bytes); /* socklen_t: musl's type of it */
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = (socklen_t) CMSG_LEN(bytes);
        memcpy(CMSG_DATA(control), fds, bytes);
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

static void take_descriptors(struct msghdr *message, rts_link_message_t *out)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion" /* in musl's CMSG_NXTHDR */
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL;
         control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
            if (out->fd_count < RTS_LINK_MAX_FDS) {
                out->fds[out->fd_count++] = fd;
            } else {
                close(fd);
            }
        }
    }
#pragma GCC diagnostic pop
}

int rts_link_receive(int fd, rts_link_message_t *out)
{
    head_t head;
    descriptors_t space;
    struct iovec parts[2] = {{&head, sizeof(head)}, {out->text, RTS_LINK_TEXT}};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = space.bytes,
                             .msg_controllen = sizeof(space.bytes)};
    ssize_t n;
    out->fd_count = 0;
    do {
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return (int) n;
    }
    take_descriptors(&message, out);
    if (n < (ssize_t) sizeof(head) || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        rts_link_drop(out);
        errno = EPROTO;
        return -1;
    }
    out->kind = head.kind;
    out->value = head.value;
    out->length = (uint32_t) n - (uint32_t) sizeof(head);
    out->text[out->length] = '\0';
    return 1;
}

void rts_link_drop(rts_link_message_t *message)
{
    while (message->fd_count > 0) {
        close(message->fds[--message->fd_count]);
    }
}
