/* How a child of ours ended, in a process where somebody else reaps all children. */
#ifndef RTS_CHILD_STATUS_H
#define RTS_CHILD_STATUS_H

#include <stdatomic.h>
#include <sys/types.h>

enum { RTS_CHILD_RUNNING = -1, RTS_CHILD_UNKNOWN = -2, RTS_CHILD_SIGNAL = 256 };

typedef struct {
    atomic_int used;
    _Atomic pid_t pid; /* stored by the child itself, before it can end */
    atomic_int status;
} rts_child_t;

/* A place for a child that is about to be started; NULL when all are taken. From here on the SIGCHLD
 * handler that was there, which may reap any child, finds ours reaped already.
 * Threads: any. */
rts_child_t *rts_child_new(void);

/* To be called when the child is known to have ended.
 * Returns: its exit code; RTS_CHILD_SIGNAL + the signal's number; RTS_CHILD_UNKNOWN when another
 * took its status (ngx.pipe reaps all children by a signalfd, past any handler).
 * Threads: any. */
int rts_child_end(rts_child_t *child);

/* Gives the place back. */
void rts_child_free(rts_child_t *child);

#endif
