/* Starting the host as a child process; see spawn.c. */
#ifndef RTS_SPAWN_H
#define RTS_SPAWN_H

#include <stddef.h>

#include "runtime/backend.h"
#include "runtime/child_status.h"

enum { RTS_SPAWN_LINK = 3 }; /* the link's descriptor in the child */

/* Starts `node host.cjs` with its link as descriptor RTS_SPAWN_LINK, and with `output` as its stdout
 * and stderr. It dies with the calling thread.
 * Owns: the descriptors stay the caller's; *pidfd is the caller's.
 * Returns: 0, or -RTS_E_NO_NODE, -RTS_E_NO_HOST, -RTS_E_SYSTEM with the reason in text. */
int rts_spawn(const rts_host_context_t *context, int link, int output, rts_child_t *child,
              int *pidfd, char *text, size_t text_size);

/* Starts a host that listens at `path`, for all workers. It is not our child, ends by itself when no
 * worker is left, and prints to our stderr.
 * Returns: as rts_spawn. */
int rts_spawn_shared(const rts_host_context_t *context, const char *path, char *text, size_t size);

#endif
