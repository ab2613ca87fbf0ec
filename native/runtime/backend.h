/*
 * What the core (libresty_ts.so, no libnode) and a backend (libresty_ts_node<ABI>.so) ask of
 * each other. A backend exports one symbol, rts_backend, of this type.
 *
 * Threads: run on the Node thread; interrupt on any; dispose on the thread that calls exit().
 */
#ifndef RTS_BACKEND_H
#define RTS_BACKEND_H

#include <pthread.h>

#include "channel/channel.h"

enum { RTS_STATE_STARTING = 0, RTS_STATE_RUNNING = 1, RTS_STATE_STOPPED = 2, RTS_STATE_FAILED = 3 };

/* Handed to run; owned by the core, alive until run has returned. */
typedef struct rts_host_context {
    rts_channel_t *channel;
    const char *host;
    const char *modules; /* absolute, or "": none */
    const char *plugins; /* likewise */
    uint32_t max_message_bytes;
    uint32_t spin_us;
    int sigchld_blocked; /* in the Lua thread, as OpenResty's ngx.pipe does it */
    /* Tells the core where we are; text may be NULL. Any thread. */
    void (*report)(struct rts_host_context *context, int state, int error, const char *text);
    /* Guards env, stopper and stop_requested: interrupt may come before there is an environment, and
     * after there was one. */
    pthread_mutex_t lock;
    void *env;
    void *stopper; /* wakes the environment's loop so that it ends */
    int stop_requested;
} rts_host_context_t;

typedef struct {
    uint32_t protocol;
    uint32_t abi; /* NODE_MODULE_VERSION */
    const char *(*node_version)(void);
    /* Runs one environment to its end. */
    void (*run)(rts_host_context_t *context);
    /* Makes the environment end when it next comes back to its loop; with `hard`, ends JavaScript
     * wherever it is. Returns at once. */
    void (*interrupt)(rts_host_context_t *context, int hard);
    /* Ends V8's own threads. Only when no environment is running any more. */
    void (*dispose)(void);
} rts_backend_t;

#endif
