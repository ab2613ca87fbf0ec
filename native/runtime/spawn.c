/*
 * Starting the host as a child process of a worker that has other threads and much memory.
 *
 * Threads: the watching thread; start_child is the child's only one, in the memory of the worker.
 * Invariants: between clone and exec there is nothing but system calls (another thread may hold any
 * lock), and the watching thread stands still. The child gets no descriptor, signal mask,
 * disposition or variable of nginx's that is not meant for it, and dies with the watching thread;
 * but for a host of all workers, which is nobody's child and ends when no worker is left.
 */
#define _GNU_SOURCE
#include "runtime/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/child_descriptors.h"

enum { STACK_BYTES = 64 << 10, MAX_ARGS = 16, MAX_ENV = 256, PATH_BYTES = 4096 };

/* nginx clears its environment, PATH with it. */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ALWAYS \
    "HOME TMPDIR TZ LANG LANGUAGE LC_ALL LC_CTYPE LC_MESSAGES LC_TIME LC_NUMERIC LC_COLLATE"

typedef struct {
    char *program;
    char *argv[MAX_ARGS];
    char *env[MAX_ENV];
    int env_count;
    char *stack;
    int null;
    int link; /* -1: a host of all workers */
    int output;
    pid_t parent;
    pid_t master; /* of a host of all workers: nginx's */
    rts_child_t *child;
    int error; /* written by the child */
} start_t;

static int run_program(void *data)
{
    start_t *start = data;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(start->program, start->argv, start->env);
    start->error = errno;
    return 127;
}

static int run_session(void *data)
{
    setsid();
    return run_program(data);
}

/* Whoever is the parent of orphans has it then. */
static int leave_to_others(start_t *start)
{
    if (clone(run_session, start->stack + STACK_BYTES / 2, CLONE_VM | CLONE_VFORK | SIGCHLD,
              start) < 0) {
        start->error = errno;
    }
    return 0;
}

static int start_child(void *data)
{
    start_t *start = data;
    atomic_store(&start->child->pid, getpid());
    rts_child_close_others();
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int signo = 1; signo < NSIG; signo++) {
        sigaction(signo, &standard, NULL); /* only an ignored one would outlive exec */
    }
    setpgid(0, 0); /* a terminal's signals are for nginx */
    if (dup2(start->null, 0) < 0 || dup2(start->output, 1) < 0 || dup2(start->output, 2) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        start->error = errno;
        return 127;
    }
    if (start->link < 0) {
        cpu_set_t cores; /* worker_cpu_affinity is one worker's */
        if (sched_getaffinity(start->master, sizeof(cores), &cores) == 0) {
            sched_setaffinity(0, sizeof(cores), &cores);
        }
        return leave_to_others(start);
    }
    if ((start->link == RTS_SPAWN_LINK ? fcntl(RTS_SPAWN_LINK, F_SETFD, 0)
                                       : dup2(start->link, RTS_SPAWN_LINK)) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        start->error = errno;
        return 127;
    }
    if (getppid() != start->parent) {
        return 127; /* it went before prctl */
    }
    return run_program(start);
}

static void add_variable(start_t *start, const char *name, size_t length, const char *value)
{
    char *entry = NULL;
    for (int i = 0; i < start->env_count; i++) {
        if (strncmp(start->env[i], name, length) == 0 && start->env[i][length] == '=') {
            return;
        }
    }
    if (value != NULL && start->env_count < MAX_ENV - 1 &&
        asprintf(&entry, "%.*s=%s", (int) length, name, value) >= 0) {
        start->env[start->env_count++] = entry;
    }
}

/* names: separated by spaces. */
static void add_variables(start_t *start, const char *names)
{
    while (*names != '\0') {
        const size_t length = strcspn(names, " ");
        char name[256];
        if (length > 0 && length < sizeof(name)) {
            memcpy(name, names, length);
            name[length] = '\0';
            add_variable(start, name, length, getenv(name));
        }
        names += length + (names[length] == ' ');
    }
}

static int is_program(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

static int find_node(const char *named, const char *search, char *path, char *text, size_t size)
{
    if (strchr(named, '/') != NULL) {
        snprintf(path, PATH_BYTES, "%s", named);
        if (is_program(path)) {
            return RTS_OK;
        }
        snprintf(text, size, "%s is not a program that may be run", named);
        return -RTS_E_NO_NODE;
    }
    const char *name = named[0] != '\0' ? named : "node";
    for (const char *at = search; *at != '\0';) {
        const size_t length = strcspn(at, ":");
        const int n = snprintf(path, PATH_BYTES, "%.*s/%s", (int) length, at, name);
        if (length > 0 && at[0] == '/' && n < PATH_BYTES && is_program(path)) {
            return RTS_OK;
        }
        at += length + (at[length] == ':');
    }
    snprintf(text, size, "there is no %s in %s", name, search);
    return -RTS_E_NO_NODE;
}

static void add_argument(start_t *start, const char *format, const char *value)
{
    int n = 0;
    while (start->argv[n] != NULL) {
        n++;
    }
    if (n == MAX_ARGS - 1 || asprintf(&start->argv[n], format, value) < 0) {
        start->argv[n] = NULL;
    }
}

static int clone_child(start_t *start, int *pidfd, char *text, size_t size)
{
    start->stack = malloc(STACK_BYTES);
    start->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    *pidfd = -1;
    int pid = -1;
    if (start->stack != NULL && start->null >= 0) {
        const int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
        pid = clone(start_child, start->stack + STACK_BYTES, flags, start, pidfd);
    }
    const int error = pid < 0 ? errno : start->error;
    if (start->null >= 0) {
        close(start->null);
    }
    free(start->stack);
    if (pid >= 0 && error == 0) {
        return RTS_OK;
    }
    if (pid >= 0) {
        rts_child_end(start->child);
        close(*pidfd);
        *pidfd = -1;
    }
    snprintf(text, size, "%s: %s", start->program, strerror(error));
    return pid >= 0 && (error == ENOEXEC || error == EACCES || error == ENOENT) ? -RTS_E_NO_NODE
                                                                                : -RTS_E_SYSTEM;
}

/* path: where it is to listen, else NULL. */
static int spawn(const rts_host_context_t *context, int link, int output, const char *path,
                 rts_child_t *child, int *pidfd, char *text, size_t text_size)
{
    char program[PATH_BYTES];
    char addon[PATH_BYTES];
    char heap[16];
    const char *search = getenv("PATH");
    if (search == NULL) {
        search = DEFAULT_PATH;
    }
    int code = find_node(context->node, search, program, text, text_size);
    if (code != RTS_OK) {
        return code;
    }
    snprintf(addon, sizeof(addon), "%s/resty_ts.node", context->library_dir);
    if (access(addon, R_OK) != 0) {
        snprintf(text, text_size, "%s: %s", addon, strerror(errno));
        return -RTS_E_NO_HOST;
    }
    start_t start = {.program = program,
                     .link = link,
                     .output = output,
                     .parent = getpid(),
                     .master = getppid(),
                     .child = child};
    add_argument(&start, "%s", program);
    snprintf(heap, sizeof(heap), "%u", context->max_heap_mb);
    if (path == NULL && context->max_heap_mb > 0) {
        add_argument(&start, "--max-old-space-size=%s", heap);
    }
    add_argument(&start, "%s", context->host);
    add_argument(&start, "--addon=%s", addon);
    if (path == NULL) {
        snprintf(heap, sizeof(heap), "%d", RTS_SPAWN_LINK);
        add_argument(&start, "--link=%s", heap);
    } else {
        add_argument(&start, "--listen=%s", path);
        add_argument(&start, "--shared-heap-mb=%s", heap);
    }
    add_variable(&start, "PATH", 4, search);
    add_variables(&start, ALWAYS);
    add_variables(&start, context->environment);

    code = clone_child(&start, pidfd, text, text_size);
    for (int i = 0; i < MAX_ARGS; i++) {
        free(start.argv[i]);
    }
    for (int i = 0; i < start.env_count; i++) {
        free(start.env[i]);
    }
    return code;
}

int rts_spawn(const rts_host_context_t *context, int link, int output, rts_child_t *child,
              int *pidfd, char *text, size_t text_size)
{
    return spawn(context, link, output, NULL, child, pidfd, text, text_size);
}

int rts_spawn_shared(const rts_host_context_t *context, const char *path, char *text, size_t size)
{
    int pidfd = -1;
    rts_child_t *child = rts_child_new();
    if (child == NULL) {
        snprintf(text, size, "too many host processes");
        return -RTS_E_SYSTEM;
    }
    const int code = spawn(context, -1, STDERR_FILENO, path, child, &pidfd, text, size);
    if (code == RTS_OK) {
        rts_child_end(child); /* it has left its own child behind */
        close(pidfd);
    }
    rts_child_free(child);
    return code;
}
