/*
 * Node as a child process of the worker, or a connection to one that somebody else has started: one
 * life of it, from its start to its end.
 *
 * Threads: run on the watching thread, which waits for all that may happen to the child; interrupt
 * on any; tell_bell on the Lua side.
 * Invariants: context->env is set while there is a child to be interrupted, under context->lock. The
 * child is signalled by its pidfd only, so never another that got its pid. What comes from it is
 * looked at as from a stranger.
 */
#define _GNU_SOURCE
#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel/link.h"
#include "runtime/connect.h"
#include "runtime/shared.h"
#include "runtime/spawn.h"

enum { TAIL_BYTES = 4096, LAST_WORDS = 64, NEVER = -1 };
/* A host that stalls has so long to say where; the Lua side waits a little longer for its end. */
enum { STACK_US = 1000000, STACK_BYTES = 4 << 20 };

typedef struct {
    rts_host_context_t *context;
    rts_child_t *child;
    int link;
    int bells;
    int wake; /* eventfd: interrupt wants something */
    pid_t pid;
    int pidfd; /* -1: somebody else has started it */
    int output; /* the child's stdout and stderr */
    atomic_int hard;
    int link_open;
    int ready;
    int terminating;
    uint64_t kill_at_us; /* 0: not decided */
    int fail_code; /* the host's own last words */
    char words[1024];
    char tail[TAIL_BYTES + 1]; /* of its output */
    size_t tail_length;
} process_t;

static const char *node_version(void)
{
    return "";
}

static void close_all(const int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* A host that somebody else has started loses the link instead, and then ends our environment. */
static void signal_child(const process_t *process, int signo)
{
    if (process->pidfd < 0) {
        shutdown(process->link, SHUT_RDWR);
        return;
    }
    (void) syscall(SYS_pidfd_send_signal, process->pidfd, signo, NULL, 0);
}

/* A bell that cannot be sent would be rung in vain for ever: rather no link than that. */
static void tell_bell(void *data, int fd, uint32_t epoch)
{
    const process_t *process = data;
    if (rts_link_send(process->bells, RTS_LINK_BELL, epoch, NULL, 0, &fd, 1) != 0) {
        shutdown(process->link, SHUT_RDWR);
    }
}

/* A memfd of the settings, which may be longer than a message. -1 with errno. */
static int settings_memfd(const rts_host_context_t *context)
{
    const int fd = memfd_create("resty-ts-settings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const ssize_t size = (ssize_t) context->settings_bytes;
    if (fd >= 0 &&
        (write(fd, context->settings, context->settings_bytes) != size ||
         fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int say_hello(const process_t *process, int bells_of_host)
{
    rts_channel_t *channel = process->context->channel;
    const int settings = settings_memfd(process->context);
    const int bell = rts_host_bell_pair(channel);
    int sent = -1;
    const int fds[RTS_HELLO_FDS] = {
        [RTS_HELLO_MEMORY] = rts_channel_memory_fd(channel),
        [RTS_HELLO_HOST_BELL] = bell,
        [RTS_HELLO_BELLS] = bells_of_host,
        [RTS_HELLO_SETTINGS] = settings,
    };
    if (settings >= 0 && bell >= 0) {
        sent =
            rts_link_send(process->link, RTS_LINK_HELLO, RTS_PROTOCOL, NULL, 0, fds, RTS_HELLO_FDS);
    }
    const int error = errno;
    const int ours[] = {settings, bell};
    close_all(ours, 2);
    errno = error;
    return sent;
}

/* Greets the host at the other end of the link. 0, or a negated code with the reason in words. */
static int greet(process_t *process)
{
    enum { TYPE = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK };
    int bells[2] = {-1, -1};
    int sent = -1;
    if (socketpair(AF_UNIX, TYPE, 0, bells) == 0) {
        process->bells = bells[0];
        sent = say_hello(process, bells[1]);
    }
    if (sent != 0) {
        snprintf(process->words, sizeof(process->words), "the host's settings: %s",
                 strerror(errno));
    }
    if (bells[1] >= 0) {
        close(bells[1]);
    }
    return sent == 0 ? RTS_OK : -RTS_E_SYSTEM;
}

static int start_connected(process_t *process)
{
    rts_host_context_t *context = process->context;
    const size_t size = sizeof(process->words);
    const int fd = context->shared
                       ? rts_shared_connect(context, &process->pid, process->words, size)
                       : rts_connect(context->connect, &process->pid, process->words, size);
    if (fd < 0) {
        return fd;
    }
    process->link = fd;
    process->words[0] = '\0';
    return greet(process);
}

static int start_child(process_t *process)
{
    char *text = process->words;
    const size_t size = sizeof(process->words);
    int link[2] = {-1, -1};
    int output[2] = {-1, -1};
    int code = -RTS_E_SYSTEM;
    process->child = rts_child_new();
    if (process->child == NULL) {
        snprintf(text, size, "too many host processes");
        return code;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, link) != 0 ||
        pipe2(output, O_CLOEXEC) != 0 || fcntl(output[0], F_SETFL, O_NONBLOCK) != 0) {
        snprintf(text, size, "descriptors for the host process: %s", strerror(errno));
    } else {
        process->link = link[0];
        process->output = output[0];
        code = greet(process);
        if (code == RTS_OK) {
            code = rts_spawn(process->context, link[1], output[1], process->child, &process->pidfd,
                             text, size);
            process->pid = atomic_load(&process->child->pid);
        }
    }
    const int of_host[] = {link[1], output[1]};
    close_all(of_host, 2);
    if (process->link < 0) {
        const int unused[] = {link[0], output[0]};
        close_all(unused, 2);
    }
    return code;
}

/* Starts the host, or reaches it. 0, or a negated code with the reason in process->words. */
static int start(process_t *process)
{
    process->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (process->wake < 0) {
        snprintf(process->words, sizeof(process->words), "eventfd: %s", strerror(errno));
        return -RTS_E_SYSTEM;
    }
    return process->context->connect[0] != '\0' ? start_connected(process) : start_child(process);
}

/* Passes on some of what the child printed, to nginx's error log as a rule, and keeps the end of it.
 * Returns whether there was any. */
static int read_output(process_t *process)
{
    char buffer[TAIL_BYTES];
    const ssize_t n = read(process->output, buffer, sizeof(buffer));
    if (n <= 0) {
        return 0;
    }
    (void) !write(STDERR_FILENO, buffer, (size_t) n);
    const size_t got = (size_t) n;
    const size_t keep =
        process->tail_length + got > TAIL_BYTES ? TAIL_BYTES - got : process->tail_length;
    memmove(process->tail, process->tail + process->tail_length - keep, keep);
    memcpy(process->tail + keep, buffer, got);
    process->tail_length = keep + got;
    process->tail[process->tail_length] = '\0';
    return 1;
}

/* What a memfd of the host's holds, which must be sealed so that it stays as it is, and be UTF-8.
 * Returns NULL when it is not. */
static char *read_text(int fd)
{
    struct stat status;
    const int wanted = F_SEAL_SHRINK | F_SEAL_WRITE;
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & wanted) != wanted || fstat(fd, &status) != 0 ||
        status.st_size > STACK_BYTES) {
        return NULL;
    }
    const size_t size = (size_t) status.st_size;
    char *text = malloc(size + 1);
    if (text != NULL && pread(fd, text, size, 0) == status.st_size && rts_utf8_valid(text, size)) {
        text[size] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

static void take_stack(process_t *process, const rts_link_message_t *message)
{
    rts_host_context_t *context = process->context;
    char *text = message->fd_count == 1 ? read_text(message->fds[0]) : NULL;
    pthread_mutex_lock(&context->lock);
    if (context->fail_code == RTS_E_STALLED) {
        char *before = context->stack;
        context->stack = text;
        text = before;
        process->kill_at_us = rts_now_us();
    }
    pthread_mutex_unlock(&context->lock);
    free(text);
}

/* Takes one message. Returns whether there was one. */
static int read_link(process_t *process)
{
    rts_link_message_t message;
    const int got = rts_link_receive(process->link, &message);
    if (got == 1) {
        if (message.kind == RTS_LINK_NODE) {
            process->context->report_node(process->context, message.text, (int) message.value);
        } else if (message.kind == RTS_LINK_READY && !process->ready) {
            process->ready = 1;
            process->context->report(process->context, RTS_STATE_RUNNING, 0, NULL);
        } else if (message.kind == RTS_LINK_FAILED &&
                   (!process->ready || message.value == RTS_E_OUT_OF_MEMORY)) {
            process->fail_code = (int) message.value;
            snprintf(process->words, sizeof(process->words), "%.1000s", message.text);
        } else if (message.kind == RTS_LINK_STACK) {
            take_stack(process, &message);
        }
        rts_link_drop(&message);
    } else if (got == 0 || errno != EAGAIN) {
        process->link_open = 0;
    }
    return got == 1;
}

/* Carries out what interrupt noted, and looks after a child that lingers. */
static void advance(process_t *process)
{
    rts_host_context_t *context = process->context;
    pthread_mutex_lock(&context->lock);
    const int stop = context->stop_requested;
    const int fail_code = context->fail_code;
    pthread_mutex_unlock(&context->lock);
    const uint64_t now = rts_now_us();
    const int hard = atomic_load(&process->hard);

    if (fail_code == RTS_E_STALLED && !process->terminating) {
        process->terminating = 1;
        process->kill_at_us = now + STACK_US; /* it heeds nothing else */
        rts_link_send(process->link, RTS_LINK_STACK, 0, NULL, 0, NULL, 0);
    } else if (stop && !hard) {
        rts_link_send(process->link, RTS_LINK_STOP, 0, NULL, 0, NULL, 0);
    } else if ((hard || !process->link_open) && !process->terminating) {
        process->terminating = 1;
        process->kill_at_us = now + (uint64_t) context->kill_ms * 1000;
        if (process->link_open) {
            signal_child(process, SIGTERM);
        } /* else it is ending already */
    }
    if (process->kill_at_us != 0 && now >= process->kill_at_us) {
        process->kill_at_us = 0;
        signal_child(process, SIGKILL);
    }
}

static int milliseconds_left(const process_t *process)
{
    if (process->kill_at_us == 0) {
        return NEVER;
    }
    const uint64_t now = rts_now_us();
    return now >= process->kill_at_us ? 0 : (int) ((process->kill_at_us - now) / 1000 + 1);
}

static void watch(process_t *process)
{
    enum { ENDED, LINK, OUTPUT, WAKE, COUNT };
    for (;;) {
        struct pollfd fds[COUNT] = {
            [ENDED] = {process->pidfd, POLLIN, 0},
            [LINK] = {process->link_open ? process->link : -1, POLLIN, 0},
            [OUTPUT] = {process->output, POLLIN, 0},
            [WAKE] = {process->wake, POLLIN, 0},
        };
        if (poll(fds, COUNT, milliseconds_left(process)) < 0 && errno != EINTR) {
            signal_child(process, SIGKILL); /* RLIMIT_NOFILE is less than COUNT, say */
            return;
        }
        if (fds[OUTPUT].revents != 0 && !read_output(process)) {
            close(process->output); /* closed by all who had it */
            process->output = -1;
        }
        if (fds[LINK].revents != 0) {
            read_link(process);
        }
        if (fds[ENDED].revents != 0 || (process->pidfd < 0 && !process->link_open)) {
            return;
        }
        if (fds[WAKE].revents != 0) {
            uint64_t count;
            (void) !read(process->wake, &count, sizeof(count));
        }
        if (fds[WAKE].revents != 0 || !process->link_open || process->kill_at_us != 0) {
            advance(process);
        }
    }
}

static const char *signal_name(int signo)
{
    static const struct {
        int signo;
        const char *name;
    } names[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGKILL, "SIGKILL"},
                 {SIGTERM, "SIGTERM"}, {SIGBUS, "SIGBUS"},   {SIGILL, "SIGILL"},
                 {SIGFPE, "SIGFPE"},   {SIGTRAP, "SIGTRAP"}, {SIGINT, "SIGINT"},
                 {SIGHUP, "SIGHUP"},   {SIGQUIT, "SIGQUIT"}, {SIGSYS, "SIGSYS"},
                 {SIGXCPU, "SIGXCPU"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].signo == signo) {
            return names[i].name;
        }
    }
    return "another signal";
}

static void describe(const process_t *process, int status, char *text, size_t size)
{
    if (process->words[0] != '\0') {
        snprintf(text, size, "%s%.900s",
                 process->ready ? "" : "the host did not start: ", process->words);
    } else if (process->pidfd < 0) {
        snprintf(text, size, "%s has ended the connection (process.exit or an uncaught exception)",
                 process->context->shared ? "the host of all workers" : process->context->connect);
    } else if (status == RTS_CHILD_UNKNOWN) {
        snprintf(text, size,
                 "the process ended, and something else in this worker took its status");
    } else if (status >= RTS_CHILD_SIGNAL) {
        const int signo = status - RTS_CHILD_SIGNAL;
        snprintf(text, size, "the process was ended by signal %d, %s", signo, signal_name(signo));
    } else {
        snprintf(text, size,
                 "the process ended with exit code %d (process.exit or an uncaught exception)",
                 status);
    }
    /* Before it could speak, node itself has said why. */
    if (!process->ready && process->words[0] == '\0' && process->tail_length > 0) {
        const size_t at = strlen(text);
        snprintf(text + at, size - at, ": %.800s", process->tail);
        for (char *c = text + at; *c != '\0'; c++) {
            if (*c == '\n') {
                *c = ' ';
            }
        }
    }
}

static void report_end(const process_t *process, int status)
{
    rts_host_context_t *context = process->context;
    char text[sizeof(((rts_runtime_status_t *) 0)->text)];
    pthread_mutex_lock(&context->lock);
    const int stop = context->stop_requested;
    int code = context->fail_code;
    pthread_mutex_unlock(&context->lock);
    if (code == 0 && stop) {
        context->report(context, RTS_STATE_STOPPED, RTS_E_STOPPED, NULL);
        return;
    }
    describe(process, status, text, sizeof(text));
    if (code == 0 && strstr(process->tail, "JavaScript heap out of memory") != NULL) {
        code = RTS_E_OUT_OF_MEMORY;
    }
    if (code == 0) {
        code = process->fail_code != 0 ? process->fail_code : RTS_E_EXITED;
    }
    context->report(context, RTS_STATE_FAILED, code, text);
}

static void run_process(process_t *process)
{
    rts_host_context_t *context = process->context;
    const int code = start(process);
    if (code != RTS_OK) {
        context->report(context, RTS_STATE_FAILED, -code, process->words);
        return;
    }
    context->report_process(context, process->pid);
    pthread_mutex_lock(&context->lock);
    context->env = process;
    const int stop = context->stop_requested || context->fail_code != 0;
    pthread_mutex_unlock(&context->lock);
    if (stop) {
        signal_child(process, SIGKILL);
    }
    rts_bell_watch(context->channel, tell_bell, process);
    watch(process);
    rts_bell_watch(context->channel, NULL, NULL);
    pthread_mutex_lock(&context->lock);
    context->env = NULL;
    pthread_mutex_unlock(&context->lock);
    const int status = process->child != NULL ? rts_child_end(process->child) : RTS_CHILD_UNKNOWN;
    /* Its last words; what it has started may go on talking. */
    for (int i = 0; i < LAST_WORDS && read_output(process); i++) {
    }
    for (int i = 0; i < LAST_WORDS && process->link_open && read_link(process); i++) {
    }
    context->report_process(context, 0);
    report_end(process, status);
}

static void run(rts_host_context_t *context)
{
    process_t process = {.context = context,
                         .link = -1,
                         .bells = -1,
                         .wake = -1,
                         .pidfd = -1,
                         .output = -1,
                         .link_open = 1};
    run_process(&process);
    const int fds[] = {process.link, process.bells, process.wake, process.pidfd, process.output};
    close_all(fds, 5);
    if (process.child != NULL) {
        rts_child_free(process.child);
    }
}

static void interrupt(rts_host_context_t *context, int hard)
{
    const uint64_t one = 1;
    pthread_mutex_lock(&context->lock);
    process_t *process = context->env;
    if (process != NULL) {
        if (hard) {
            atomic_store(&process->hard, 1);
        }
        (void) !write(process->wake, &one, sizeof(one));
    }
    pthread_mutex_unlock(&context->lock);
}

const rts_backend_t rts_process_backend = {
    .protocol = RTS_PROTOCOL,
    .node_version = node_version,
    .run = run,
    .interrupt = interrupt,
};
