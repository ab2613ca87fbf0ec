/*
 * Messages between a worker and a host in another process: one seqpacket socket each for the link
 * itself and, from the worker alone, for new doorbells.
 *
 * Threads: any; no state here. Invariant: neither side trusts the other's lengths or descriptors:
 * what is not a whole message of a known shape is an error, and its descriptors are closed.
 */
#ifndef RTS_LINK_H
#define RTS_LINK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which way, what `value` is, and what comes with it. */
enum {
    RTS_LINK_HELLO = 1, /* to the host: the protocol; RTS_LINK_HELLO_FDS descriptors */
    RTS_LINK_BELL = 2, /* to the host, by the bells' socket: the epoch; the new doorbell */
    RTS_LINK_STOP = 3, /* to the host: it is to end */
    RTS_LINK_NODE = 4, /* to the worker: Node's ABI; its version */
    RTS_LINK_READY = 5, /* to the worker: the host runs */
    RTS_LINK_FAILED = 6, /* to the worker: an RTS_E_* code; why the host does not start */
    RTS_LINK_STACK = 7, /* to the host: where is JavaScript?; to the worker: a sealed memfd, which
                         * holds what rts_runtime_stack gives */
};

/* Of a HELLO, in this order. */
enum {
    RTS_HELLO_MEMORY, /* the channel's memfd */
    RTS_HELLO_HOST_BELL, /* the end of a socket pair that becomes readable */
    RTS_HELLO_BELLS, /* the bells' socket */
    RTS_HELLO_SETTINGS, /* a sealed memfd */
    RTS_HELLO_FDS
};

enum { RTS_LINK_TEXT = 2048, RTS_LINK_MAX_FDS = RTS_HELLO_FDS };

typedef struct {
    uint32_t kind;
    uint32_t value;
    uint32_t length; /* of text */
    int fds[RTS_LINK_MAX_FDS];
    int fd_count;
    char text[RTS_LINK_TEXT + 1]; /* ends in a NUL, which is not in length */
} rts_link_message_t;

/* Never blocks. text is cut at RTS_LINK_TEXT.
 * Owns: the descriptors stay the caller's.
 * Returns: 0, or -1 with errno. */
int rts_link_send(int fd, uint32_t kind, uint32_t value, const char *text, size_t length,
                  const int *fds, int fd_count);

/* Never blocks.
 * Owns: the caller, the descriptors (close-on-exec).
 * Returns: 1; 0 when the other side has closed; -1 with errno: EAGAIN when there is none,
 * EPROTO when it is malformed. */
int rts_link_receive(int fd, rts_link_message_t *out);

/* Closes what came with a message. */
void rts_link_drop(rts_link_message_t *message);

#ifdef __cplusplus
}
#endif

#endif
