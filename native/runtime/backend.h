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
    const char *host; /* absolute */
    const char *node; /* this and what follows: as in rts_runtime_options_t; "" for NULL */
    const char *environment;
    const char *connect;
    const char *library_dir;
    const uint8_t *settings;
    uint32_t settings_bytes;
    uint32_t shared;
    uint32_t max_heap_mb;
    uint32_t max_external_mb;
    uint32_t tune_malloc;
    uint32_t kill_ms;
    int sigchld_blocked; /* in the Lua thread, as OpenResty's ngx.pipe does it */
    /* Tells the core where we are; text may be NULL. Any thread. */
    void (*report)(struct rts_host_context *context, int state, int error, const char *text);
    /* Guards env, stopper and stop_requested: interrupt may come before there is an environment, and
     * after there was one. */
    pthread_mutex_t lock;
    void *env;
    void *stopper; /* wakes the environment's loop so that it ends */
    int stop_requested;
    int fail_code; /* rts_runtime_fail's, or 0: why the environment is ended */
    char *stack; /* malloc'd by the backend, freed by the core; or NULL */
    /* Tells the core of a child process; 0: it has ended. */
    void (*report_process)(struct rts_host_context *context, int pid);
    /* Tells the core which Node it is, where only the environment knows. */
    void (*report_node)(struct rts_host_context *context, const char *version, int abi);
} rts_host_context_t;

typedef struct {
    uint32_t protocol;
    uint32_t abi; /* NODE_MODULE_VERSION */
    const char *(*node_version)(void);
    /* Runs one environment to its end. */
    void (*run)(rts_host_context_t *context);
    /* Makes the environment end when it next comes back to its loop; with `hard`, ends JavaScript
     * wherever it is; with fail_code set it is to note the stack in `stack` first, if that can be
     * had. Returns at once. */
    void (*interrupt)(rts_host_context_t *context, int hard);
    /* Ends V8's own threads. Only when no environment is running any more. */
    void (*dispose)(void);
} rts_backend_t;

#endif
