/*
 * nginx's SIGCHLD handler reaps with waitpid(-1), and logs an alert for each child that it does not
 * know and that a signal ended. So one handler of ours comes before it and reaps our children alone.
 *
 * Threads: on_sigchld on any, as a signal handler; the rest on watching threads.
 * Invariant: a child is in the table before it runs a program, and until its status is there.
 */
#define _GNU_SOURCE
#include "runtime/child_status.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A handler that has reaped, but not stored yet, gets so long. */
enum { MAX_CHILDREN = 256, PATIENCE_MS = 20 };

static rts_child_t children[MAX_CHILDREN];
static struct sigaction handler_before;

static void reap(rts_child_t *child)
{
    siginfo_t info = {0};
    const pid_t pid = atomic_load(&child->pid);
    if (pid > 0 && atomic_load(&child->status) == RTS_CHILD_RUNNING &&
        syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG, NULL) == 0 &&
        info.si_pid == pid) {
        atomic_store(&child->status, info.si_code == CLD_EXITED
                                         ? info.si_status
                                         : RTS_CHILD_SIGNAL + info.si_status);
    }
}

static void on_sigchld(int signo, siginfo_t *info, void *context)
{
    const int error = errno;
    for (int i = 0; i < MAX_CHILDREN; i++) {
        if (atomic_load(&children[i].used)) {
            reap(&children[i]);
        }
    }
    if (handler_before.sa_flags & SA_SIGINFO) {
        handler_before.sa_sigaction(signo, info, context);
    } else {
        handler_before.sa_handler(signo);
    }
    errno = error;
}

/* Where nobody handles SIGCHLD nobody reaps children that are not his own. */
static void install(void)
{
    sigaction(SIGCHLD, NULL, &handler_before);
    if (!(handler_before.sa_flags & SA_SIGINFO) &&
        (handler_before.sa_handler == SIG_DFL || handler_before.sa_handler == SIG_IGN)) {
        return;
    }
    struct sigaction ours = handler_before;
    ours.sa_flags |= SA_SIGINFO;
    ours.sa_sigaction = on_sigchld;
    sigaction(SIGCHLD, &ours, NULL);
}

rts_child_t *rts_child_new(void)
{
    static pthread_once_t installed = PTHREAD_ONCE_INIT;
    pthread_once(&installed, install);
    for (int i = 0; i < MAX_CHILDREN; i++) {
        int unused = 0;
        if (atomic_compare_exchange_strong(&children[i].used, &unused, 1)) {
            atomic_store(&children[i].status, RTS_CHILD_RUNNING);
            return &children[i];
        }
    }
    return NULL;
}

int rts_child_end(rts_child_t *child)
{
    const struct timespec millisecond = {0, 1000000};
    for (int i = 0; i < PATIENCE_MS; i++) {
        reap(child);
        const int status = atomic_load(&child->status);
        if (status != RTS_CHILD_RUNNING) {
            return status;
        }
        nanosleep(&millisecond, NULL);
    }
    return RTS_CHILD_UNKNOWN;
}

void rts_child_free(rts_child_t *child)
{
    atomic_store(&child->pid, 0);
    atomic_store(&child->used, 0);
}
