/*
 * A runtime seen from Lua: starts the thread that runs Node or watches its process, knows the state,
 * ends it. One runtime is one life of an environment, with a channel of its own.
 *
 * Threads: rts_runtime_* on the Lua side; node_thread is the Node thread or the watching one;
 * leave_runtimes on whichever thread calls exit().
 * Invariant: a thread that does not end in time is never freed under its feet: its runtime and
 * channel are left alone, and the process then leaves by _exit, past all static destructors.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/loader.h"
#include "runtime/process.h"

enum { RTS_RUNTIME_EMBEDDED, RTS_RUNTIME_PROCESS, RTS_RUNTIME_AUTO };
enum { NODE_STACK_BYTES = 8 << 20 };
/* How long after it was first asked to end a runtime is interrupted, and is left alone: nginx has ended
 * a second after it was told to. */
enum { PATIENCE_US = 100000, EXIT_WAIT_US = 800000 };

struct rts_runtime {
    rts_host_context_t context; /* first: report() casts back */
    rts_channel_t *channel;
    char *library_dir;
    char *libnode;
    char *host;
    char *node;
    char *environment;
    char *connect;
    uint8_t *settings;
    uint32_t which;
    const rts_backend_t *backend; /* set under context.lock */
    pthread_t thread;
    pid_t process;
    _Atomic int state; /* a copy of status.state, stored under status_lock */
    int thread_ended; /* under status_lock */
    uint64_t asked_us; /* when it was first asked to end, or 0; the Lua side's and at exit */
    pthread_mutex_t status_lock;
    pthread_cond_t ended;
    rts_runtime_status_t status;
    rts_runtime_t *next;
};

/* All runtimes of this process, for the exit hook. Node threads take hook_lock alone: at exit the
 * other one is held while they end. */
static struct {
    pthread_mutex_t lock;
    rts_runtime_t *first;
    pthread_mutex_t hook_lock;
    const rts_backend_t *backend;
    int hooked;
} process_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .hook_lock = PTHREAD_MUTEX_INITIALIZER};

static int fail(char *errbuf, size_t *errlen, int code, const char *format, ...)
{
    if (errbuf != NULL && errlen != NULL && *errlen > 0) {
        va_list arguments;
        va_start(arguments, format);
        const int n = vsnprintf(errbuf, *errlen, format, arguments);
        va_end(arguments);
        const size_t length = n < 0 ? 0 : (size_t) n;
        *errlen = length < *errlen ? length : *errlen - 1;
    }
    return -code;
}

static int wait_until(rts_runtime_t *runtime, uint64_t end_us)
{
    const struct timespec end = {.tv_sec = (time_t) (end_us / 1000000),
                                 .tv_nsec = (long) (end_us % 1000000) * 1000};
    pthread_mutex_lock(&runtime->status_lock);
    while (!runtime->thread_ended &&
           pthread_cond_timedwait(&runtime->ended, &runtime->status_lock, &end) != ETIMEDOUT) {
    }
    const int ended = runtime->thread_ended;
    pthread_mutex_unlock(&runtime->status_lock);
    return ended;
}

static void interrupt(rts_runtime_t *runtime, int hard)
{
    pthread_mutex_lock(&runtime->context.lock);
    runtime->context.stop_requested = 1;
    const rts_backend_t *backend = runtime->backend;
    pthread_mutex_unlock(&runtime->context.lock);
    if (runtime->asked_us == 0) {
        runtime->asked_us = rts_now_us();
    }
    if (backend != NULL) {
        backend->interrupt(&runtime->context, hard);
    }
}

/* Terminated in the middle of some of its own C++, Node 18 aborts (a Worker's exit, say): so it is
 * asked first. Returns whether it has ended by end_us. */
static int end_by(rts_runtime_t *runtime, uint64_t end_us)
{
    interrupt(runtime, 0);
    const uint64_t patience_us = runtime->asked_us + PATIENCE_US;
    if (wait_until(runtime, patience_us < end_us ? patience_us : end_us)) {
        return 1;
    }
    interrupt(runtime, 1);
    return wait_until(runtime, end_us);
}

/* At the process's end: all are asked at once, so that each has its time while others have theirs. */
static int end_at_exit(rts_runtime_t *runtime)
{
    if (runtime->asked_us == 0 && rts_runtime_state(runtime) <= RTS_STATE_RUNNING) {
        for (rts_runtime_t *one = process_state.first; one != NULL; one = one->next) {
            interrupt(one, 0);
        }
    }
    return end_by(runtime, runtime->asked_us + EXIT_WAIT_US);
}

/* Ends what can be ended before the static destructors of libnode run: those would destroy
 * what V8's and our threads still use. Returns whether all has ended. */
static int end_runtimes(void)
{
    int all_ended = 1;
    pthread_mutex_lock(&process_state.lock);
    for (rts_runtime_t *runtime = process_state.first; runtime != NULL; runtime = runtime->next) {
        if (runtime->process == getpid() && !rts_runtime_ended(runtime) && !end_at_exit(runtime)) {
            all_ended = 0;
        }
    }
    pthread_mutex_unlock(&process_state.lock);
    if (!all_ended) {
        return 0;
    }
    pthread_mutex_lock(&process_state.hook_lock);
    const rts_backend_t *backend = process_state.backend;
    process_state.backend = NULL;
    pthread_mutex_unlock(&process_state.hook_lock);
    if (backend != NULL && backend->dispose != NULL) {
        backend->dispose();
    }
    return 1;
}

static void leave_runtimes(int status)
{
    if (!end_runtimes()) {
        fflush(NULL);
        _exit(status);
    }
}

#ifdef __GLIBC__
static void on_process_exit(int status, void *unused)
{
    (void) unused;
    leave_runtimes(status);
}
#else
/* Without on_exit (musl) nothing tells the status: who had to be left behind leaves as a failure. */
static void at_process_exit(void)
{
    leave_runtimes(EXIT_FAILURE);
}
#endif

static void forget_parent_after_fork(void)
{
    /* The child has neither the threads nor a use for them. */
    process_state.first = NULL;
    process_state.backend = NULL;
}

/* Exit handlers run last-registered first, and libnode registers the destructors of some statics
 * when it first uses them. So this is called at each stage of the start, and once more when a thread
 * is left alone; what it registers twice does nothing the second time. backend: NULL where it is not
 * known yet. Where glibc lets us the main thread's exit ends all before any of these
 * (at_main_exit). */
static void hook_process_exit(const rts_backend_t *backend)
{
    pthread_mutex_lock(&process_state.hook_lock);
    if (backend != NULL) {
        process_state.backend = backend;
    }
#ifdef __GLIBC__
    on_exit(on_process_exit, NULL);
#else
    atexit(at_process_exit);
#endif
    if (!process_state.hooked) {
        process_state.hooked = 1;
        pthread_atfork(NULL, NULL, forget_parent_after_fork);
    }
    pthread_mutex_unlock(&process_state.hook_lock);
}

#ifdef __GLIBC__
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

/* exit() calls the destructors of its thread's variables before all exit handlers, also those that
 * libnode registers meanwhile. Only these know the status. */
static void at_main_exit(void *unused)
{
    (void) unused;
    if (!end_runtimes()) {
        hook_process_exit(NULL);
    }
}

static void hook_main_exit(void)
{
    static int hooked;
    if (!hooked && syscall(SYS_gettid) == getpid()) {
        hooked = 1;
        __cxa_thread_atexit_impl(at_main_exit, NULL, &__dso_handle);
    }
}
#else
static void hook_main_exit(void)
{
}
#endif

static void report(rts_host_context_t *context, int state, int error, const char *text)
{
    rts_runtime_t *runtime = (rts_runtime_t *) context;
    pthread_mutex_lock(&runtime->status_lock);
    runtime->status.state = state;
    runtime->status.error = error;
    atomic_store_explicit(&runtime->state, state, memory_order_release);
    if (text != NULL) {
        snprintf(runtime->status.text, sizeof(runtime->status.text), "%s", text);
    }
    pthread_mutex_unlock(&runtime->status_lock);
    if (state == RTS_STATE_RUNNING) {
        hook_process_exit(runtime->backend);
    }
    rts_bell_ring(runtime->channel);
}

static void report_process(rts_host_context_t *context, int pid)
{
    rts_runtime_t *runtime = (rts_runtime_t *) context;
    pthread_mutex_lock(&runtime->status_lock);
    runtime->status.process_id = pid;
    pthread_mutex_unlock(&runtime->status_lock);
}

static void report_node(rts_host_context_t *context, const char *version, int abi)
{
    rts_runtime_t *runtime = (rts_runtime_t *) context;
    pthread_mutex_lock(&runtime->status_lock);
    runtime->status.abi = abi;
    snprintf(runtime->status.node_version, sizeof(runtime->status.node_version), "%s", version);
    pthread_mutex_unlock(&runtime->status_lock);
}

static void run_backend(rts_runtime_t *runtime)
{
    rts_loaded_t loaded = {.backend = &rts_process_backend};
    char text[sizeof(runtime->status.text)] = "";
    if (runtime->which != RTS_RUNTIME_PROCESS) {
        const int code =
            rts_loader_load(runtime->library_dir, runtime->libnode, &loaded, text, sizeof(text));
        /* Of `auto`, too, what may be there again in a moment is waited for. */
        if (code != RTS_OK && (runtime->which == RTS_RUNTIME_EMBEDDED || code == -RTS_E_SYSTEM)) {
            report(&runtime->context, RTS_STATE_FAILED, -code, text);
            return;
        }
        if (code != RTS_OK) {
            loaded = (rts_loaded_t){.backend = &rts_process_backend};
        }
    }
    pthread_mutex_lock(&runtime->status_lock);
    runtime->status.process = loaded.backend == &rts_process_backend;
    /* Of `auto`: why it is not the embedded one. */
    snprintf(runtime->status.text, sizeof(runtime->status.text), "%s", text);
    runtime->status.abi = (int32_t) loaded.backend->abi;
    snprintf(runtime->status.libnode, sizeof(runtime->status.libnode), "%s", loaded.libnode_path);
    snprintf(runtime->status.backend, sizeof(runtime->status.backend), "%s", loaded.backend_path);
    snprintf(runtime->status.node_version, sizeof(runtime->status.node_version), "%s",
             loaded.backend->node_version());
    pthread_mutex_unlock(&runtime->status_lock);

    pthread_mutex_lock(&runtime->context.lock);
    runtime->backend = loaded.backend;
    const int stop = runtime->context.stop_requested;
    const int fail_code = runtime->context.fail_code;
    pthread_mutex_unlock(&runtime->context.lock);
    /* After libnode's own registrations, so that our hook runs before them. */
    hook_process_exit(loaded.backend);
    if (stop) {
        report(&runtime->context, RTS_STATE_STOPPED, RTS_E_STOPPED, NULL);
        return;
    }
    if (fail_code != RTS_OK) { /* ended while libnode was loaded */
        report(&runtime->context, RTS_STATE_FAILED, fail_code, NULL);
        return;
    }
    loaded.backend->run(&runtime->context);
}

static void *node_thread(void *argument)
{
    rts_runtime_t *runtime = argument;
    pthread_mutex_lock(&runtime->status_lock);
    runtime->status.thread_id = (int32_t) syscall(SYS_gettid);
    pthread_mutex_unlock(&runtime->status_lock);

    run_backend(runtime);

    pthread_mutex_lock(&runtime->status_lock);
    runtime->thread_ended = 1;
    pthread_cond_broadcast(&runtime->ended);
    pthread_mutex_unlock(&runtime->status_lock);
    return NULL;
}

static void runtime_free(rts_runtime_t *runtime)
{
    pthread_mutex_destroy(&runtime->context.lock);
    pthread_mutex_destroy(&runtime->status_lock);
    pthread_cond_destroy(&runtime->ended);
    free(runtime->library_dir);
    free(runtime->libnode);
    free(runtime->host);
    free(runtime->node);
    free(runtime->environment);
    free(runtime->connect);
    free(runtime->settings);
    free(runtime->context.stack);
    free(runtime);
}

static int start_thread(rts_runtime_t *runtime)
{
    sigset_t all;
    sigset_t before;
    pthread_attr_t attributes;

    /* The Node thread and all that it starts inherit this mask: signals stay nginx's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    runtime->context.sigchld_blocked = sigismember(&before, SIGCHLD);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, NODE_STACK_BYTES);
    const int error = pthread_create(&runtime->thread, &attributes, node_thread, runtime);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        pthread_setname_np(runtime->thread, "resty-ts-node");
    }
    return error;
}

static char *copy(const char *text)
{
    return strdup(text != NULL ? text : "");
}

/* The absolute form of a path that may not exist yet; "" for none. */
static char *absolute(const char *path)
{
    if (path == NULL) {
        return copy("");
    }
    char *real = realpath(path, NULL);
    return real != NULL ? real : copy(path);
}

int rts_runtime_start(rts_channel_t *channel, const rts_runtime_options_t *options,
                      rts_runtime_t **out, char *errbuf, size_t *errlen)
{
    if (options->library_dir == NULL || options->host == NULL) {
        return fail(errbuf, errlen, RTS_E_BAD_OPTION, "library_dir and host must be given");
    }
    /* Absolute, because Node's require takes no other, and nginx may change its directory. */
    char *host = realpath(options->host, NULL);
    if (host == NULL || access(host, R_OK) != 0) {
        const int error = errno;
        free(host);
        return fail(errbuf, errlen, RTS_E_NO_HOST, "%s: %s", options->host, strerror(error));
    }
    rts_runtime_t *runtime = calloc(1, sizeof(*runtime));
    if (runtime == NULL) {
        free(host);
        return fail(errbuf, errlen, RTS_E_SYSTEM, "calloc: %s", strerror(errno));
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&runtime->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&runtime->status_lock, NULL);
    pthread_mutex_init(&runtime->context.lock, NULL);

    runtime->process = getpid();
    runtime->channel = channel;
    runtime->library_dir = absolute(options->library_dir);
    runtime->libnode = copy(options->libnode);
    runtime->host = host;
    runtime->node = copy(options->node);
    runtime->environment = copy(options->environment);
    runtime->connect = copy(options->connect);
    runtime->settings = malloc(options->settings_bytes + 1);
    if (runtime->settings != NULL) {
        memcpy(runtime->settings, options->settings, options->settings_bytes);
    }
    runtime->which = options->runtime;
    runtime->context.channel = channel;
    runtime->context.host = runtime->host;
    runtime->context.node = runtime->node;
    runtime->context.environment = runtime->environment;
    runtime->context.connect = runtime->connect;
    runtime->context.library_dir = runtime->library_dir;
    runtime->context.settings = runtime->settings;
    runtime->context.settings_bytes = runtime->settings != NULL ? options->settings_bytes : 0;
    runtime->context.shared = options->shared;
    runtime->context.max_heap_mb = options->max_heap_mb;
    runtime->context.max_external_mb = options->max_external_mb;
    runtime->context.tune_malloc = options->tune_malloc;
    runtime->context.kill_ms = options->kill_ms;
    runtime->context.report = report;
    runtime->context.report_process = report_process;
    runtime->context.report_node = report_node;

    pthread_mutex_lock(&process_state.lock);
    runtime->next = process_state.first;
    process_state.first = runtime;
    pthread_mutex_unlock(&process_state.lock);
    /* Before libnode is there: the process may exit while it is loaded. */
    hook_process_exit(NULL);
    hook_main_exit();

    const int error = start_thread(runtime);
    if (error != 0) {
        pthread_mutex_lock(&process_state.lock);
        process_state.first = runtime->next;
        pthread_mutex_unlock(&process_state.lock);
        runtime_free(runtime);
        return fail(errbuf, errlen, RTS_E_SYSTEM, "pthread_create: %s", strerror(error));
    }
    *out = runtime;
    return RTS_OK;
}

int rts_runtime_state(const rts_runtime_t *runtime)
{
    return atomic_load_explicit(&runtime->state, memory_order_acquire);
}

void rts_runtime_status(rts_runtime_t *runtime, rts_runtime_status_t *out)
{
    pthread_mutex_lock(&runtime->status_lock);
    *out = runtime->status;
    pthread_mutex_unlock(&runtime->status_lock);
}

int rts_runtime_ended(rts_runtime_t *runtime)
{
    pthread_mutex_lock(&runtime->status_lock);
    const int ended = runtime->thread_ended;
    pthread_mutex_unlock(&runtime->status_lock);
    return ended;
}

int rts_runtime_stop(rts_runtime_t *runtime, uint32_t timeout_ms)
{
    runtime->asked_us = rts_now_us();
    return end_by(runtime, runtime->asked_us + (uint64_t) timeout_ms * 1000) ? RTS_OK
                                                                             : -RTS_E_TIMEOUT;
}

void rts_runtime_fail(rts_runtime_t *runtime, int code)
{
    pthread_mutex_lock(&runtime->context.lock);
    const rts_backend_t *backend = runtime->backend;
    if (runtime->context.fail_code == 0) {
        runtime->context.fail_code = code;
    }
    pthread_mutex_unlock(&runtime->context.lock);
    runtime->asked_us = rts_now_us();
    if (backend != NULL) {
        backend->interrupt(&runtime->context, 1);
    }
}

size_t rts_runtime_stack(rts_runtime_t *runtime, char *text, size_t size)
{
    pthread_mutex_lock(&runtime->context.lock);
    const char *stack = runtime->context.stack;
    const size_t length = stack != NULL ? strlen(stack) : 0;
    memcpy(text, length > 0 ? stack : "", length < size ? length : size);
    pthread_mutex_unlock(&runtime->context.lock);
    return length;
}

/* The thread has ended: nobody uses runtime or channel any more. */
static void bury(rts_runtime_t *runtime)
{
    pthread_mutex_lock(&process_state.lock);
    for (rts_runtime_t **at = &process_state.first; *at != NULL; at = &(*at)->next) {
        if (*at == runtime) {
            *at = runtime->next;
            break;
        }
    }
    pthread_mutex_unlock(&process_state.lock);
    pthread_join(runtime->thread, NULL);
    rts_channel_destroy(runtime->channel);
    runtime_free(runtime);
}

int rts_runtime_reap(rts_runtime_t **holder)
{
    rts_runtime_t *runtime = *holder;
    if (runtime == NULL || runtime->process != getpid()) {
        *holder = NULL;
        return 1;
    }
    if (!rts_runtime_ended(runtime)) {
        return 0;
    }
    *holder = NULL;
    bury(runtime);
    return 1;
}

void rts_runtime_leave(rts_runtime_t **holder)
{
    rts_runtime_t *runtime = *holder;
    *holder = NULL;
    if (runtime == NULL || runtime->process != getpid()) {
        return;
    }
    pthread_mutex_lock(&process_state.lock);
    const int ended = rts_runtime_ended(runtime) || end_at_exit(runtime);
    pthread_mutex_unlock(&process_state.lock);
    if (ended) {
        bury(runtime);
    } else {
        hook_process_exit(NULL);
    }
}
