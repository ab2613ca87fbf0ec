/* Reaching a host that somebody else has started; see connect.c. */
#ifndef RTS_CONNECT_H
#define RTS_CONNECT_H

#include <stddef.h>
#include <sys/types.h>

/* Connects to the host that listens at `path`.
 * Threads: any.
 * Owns: the caller, the socket (not blocking, close-on-exec).
 * Returns: it, and its process's id in *pid; or a negated RTS_E_* with the reason in text. */
int rts_connect(const char *path, pid_t *pid, char *text, size_t size);

#endif
