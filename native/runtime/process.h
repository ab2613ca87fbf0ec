/* Node as a child process of the worker; see process.c. */
#ifndef RTS_PROCESS_H
#define RTS_PROCESS_H

#include "runtime/backend.h"

extern const rts_backend_t rts_process_backend;

#endif
