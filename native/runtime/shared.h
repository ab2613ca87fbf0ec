/* One host process for all workers of an nginx; see shared.c. */
#ifndef RTS_SHARED_H
#define RTS_SHARED_H

#include "runtime/backend.h"

/* Connects to the host of this nginx's workers, and starts it first where there is none.
 * Threads: a watching one; waits, START_MS at most.
 * Owns: the caller, the socket.
 * Returns: it, and the host's process id in *pid; or a negated RTS_E_* with the reason in text. */
int rts_shared_connect(rts_host_context_t *context, pid_t *pid, char *text, size_t size);

#endif
