/*
 * Node as a child process of the worker.
 *
 * Threads: run on the watching thread; interrupt on any.
 */
#include "runtime/process.h"

static const char *node_version(void)
{
    return "";
}

static void run(rts_host_context_t *context)
{
    context->report(context, RTS_STATE_FAILED, RTS_E_UNAVAILABLE, "not built yet");
}

static void interrupt(rts_host_context_t *context, int hard)
{
    (void) context;
    (void) hard;
}

const rts_backend_t rts_process_backend = {
    .protocol = RTS_PROTOCOL,
    .node_version = node_version,
    .run = run,
    .interrupt = interrupt,
};
