/*
 * One SIGCHLD handler and one waitpid for two owners of children; see child_reaping.h.
 *
 * Threads: install on the Node thread; on_sigchld on any, as a signal handler; reaping_waitpid
 * on whichever thread calls waitpid.
 * Invariant: a status taken by waitpid(-1) is in the stash before the lock is let go, and SIGCHLD
 * is blocked while the lock is held, so a handler never waits for the thread it interrupted.
 */
#define _GNU_SOURCE
#include "runtime/child_reaping.h"

#include "runtime/child_descriptors.h"
#include "runtime/interpose.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STASH_SIZE = 1024 };

static struct {
    pthread_mutex_t lock;
    struct {
        pid_t pid;
        int status;
    } entries[STASH_SIZE];
    unsigned next;
} stash = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Children that libuv started, and how they ended when another's waitpid took that: many of others
 * may end meanwhile, and nginx is not told of them (it would log an alert for each that a signal
 * ended). */
enum { MAX_CHILDREN = 4096, RUNNING = -1 };
static struct {
    struct {
        pid_t pid;
        int status;
    } entries[MAX_CHILDREN];
    unsigned count;
} children; /* under stash.lock */

static struct sigaction handler_before;
static void (*_Atomic handler_of_libuv)(int); /* NULL until it has one */
static _Atomic int main_reads_signalfd;

static void stash_lock(sigset_t *before)
{
    sigset_t sigchld;
    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &sigchld, before);
    pthread_mutex_lock(&stash.lock);
}

static void stash_unlock(const sigset_t *before)
{
    pthread_mutex_unlock(&stash.lock);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* The lock is held in these. */

static unsigned children_find(pid_t pid)
{
    unsigned i = 0;
    while (i < children.count && children.entries[i].pid != pid) {
        i++;
    }
    return i;
}

static void children_remove(pid_t pid)
{
    const unsigned at = children_find(pid);
    if (at < children.count) {
        children.entries[at] = children.entries[--children.count];
    }
}

/* Keeps how a child ended. Returns whether it is one of libuv's. */
static int keep_end(pid_t pid, int status)
{
    const unsigned child = children_find(pid);
    if (child < children.count && children.entries[child].status == RUNNING) {
        children.entries[child].status = status;
        return 1;
    }
    children_remove(pid); /* nobody waited for it, and the pid came round again */
    const unsigned at = stash.next++ % STASH_SIZE;
    stash.entries[at].pid = pid;
    stash.entries[at].status = status;
    return 0;
}

static int stash_take(pid_t pid, int *status)
{
    sigset_t mask;
    int found = 0;
    stash_lock(&mask);
    const unsigned child = children_find(pid);
    if (child < children.count && children.entries[child].status != RUNNING) {
        *status = children.entries[child].status;
        found = 1;
    }
    /* Newest first: pids come round again. */
    for (unsigned i = 1; i <= STASH_SIZE && !found; i++) {
        const unsigned at = (stash.next - i) % STASH_SIZE;
        if (stash.entries[at].pid == pid) {
            *status = stash.entries[at].status;
            stash.entries[at].pid = 0;
            found = 1;
        }
    }
    children_remove(pid);
    stash_unlock(&mask);
    return found;
}

static unsigned stash_position(void)
{
    sigset_t mask;
    stash_lock(&mask);
    const unsigned position = stash.next;
    stash_unlock(&mask);
    return position;
}

/* since: the stash's position before the fork. A child that is in it by now has ended. */
static void children_add(pid_t pid, unsigned since)
{
    sigset_t mask;
    if (pid <= 0) {
        return;
    }
    stash_lock(&mask);
    children_remove(pid);
    while (since != stash.next && stash.entries[since % STASH_SIZE].pid != pid) {
        since++;
    }
    if (since == stash.next && children.count < MAX_CHILDREN) {
        children.entries[children.count].pid = pid;
        children.entries[children.count++].status = RUNNING;
    }
    stash_unlock(&mask);
}

static pid_t noting_fork(void)
{
    const unsigned since = stash_position();
    const pid_t pid = fork();
    if (pid == 0) {
        rts_child_close_others();
        return pid;
    }
    children_add(pid, since);
    return pid;
}

/* What libuv starts in a child of clone. */
typedef struct {
    int (*start)(void *);
    void *arg;
} start_t;

static int start_alone(void *data)
{
    const start_t *start = data;
    rts_child_close_others();
    return start->start(start->arg);
}

/* libuv 1.45 and later; the kernel's arguments after `arg` are passed on as they are. */
static int noting_clone(int (*start)(void *), void *stack, int flags, void *arg, void *ptid,
                        void *tls, void *ctid)
{
    const unsigned since = stash_position();
    if (flags & CLONE_THREAD) {
        return clone(start, stack, flags, arg, ptid, tls, ctid);
    }
    start_t alone = {start, arg};
    /* Only where we do not go on before the child has its own image may it see our stack. */
    const int waits = (flags & CLONE_VFORK) != 0 && (flags & CLONE_FILES) == 0;
    const int pid = waits ? clone(start_alone, stack, flags, &alone, ptid, tls, ctid)
                          : clone(start, stack, flags, arg, ptid, tls, ctid);
    children_add(pid, since);
    return pid;
}

static pid_t kernel_wait(pid_t pid, int *status, int options)
{
    return (pid_t) syscall(SYS_wait4, pid, status, options, NULL);
}

static int ended(int status)
{
    return WIFEXITED(status) || WIFSIGNALED(status);
}

static void call_libuv(int signo)
{
    /* pairs: rts_child_reaping_use */
    void (*handler)(int) = atomic_load_explicit(&handler_of_libuv, memory_order_acquire);
    if (handler != NULL) {
        handler(signo);
    }
}

/* A read of the signalfd takes SIGCHLD also when it was on its way to the Node thread, which then
 * does not learn of it: whoever reaps tells libuv. All signals are blocked, as in its handler. */
static void tell_libuv(void)
{
    sigset_t all;
    sigset_t before;
    const int error = errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    call_libuv(SIGCHLD);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
}

static pid_t reaping_waitpid(pid_t pid, int *status, int options)
{
    sigset_t mask;
    int own = 0;
    if (status == NULL) {
        status = &own;
    }
    if (pid > 0) {
        const pid_t result = kernel_wait(pid, status, options);
        if (result == -1 && errno == ECHILD) {
            return stash_take(pid, status) ? pid : result;
        }
        if (result == pid && ended(*status)) {
            stash_lock(&mask);
            children_remove(pid);
            stash_unlock(&mask);
        }
        return result;
    }
    if (options & WNOHANG) {
        pid_t result;
        int error;
        int hide;
        int kept = 0;
        stash_lock(&mask);
        do {
            result = kernel_wait(pid, status, options);
            error = errno;
            hide = 0;
            if (result > 0 && ended(*status)) {
                hide = keep_end(result, *status);
                kept = 1;
            }
        } while (hide);
        stash_unlock(&mask);
        /* pairs: install's store */
        if (kept && atomic_load_explicit(&main_reads_signalfd, memory_order_acquire)) {
            tell_libuv();
        }
        errno = error;
        return result;
    }
    const pid_t result = kernel_wait(pid, status, options);
    if (result > 0 && ended(*status)) {
        stash_lock(&mask);
        keep_end(result, *status);
        stash_unlock(&mask);
    }
    return result;
}

static void on_sigchld(int signo, siginfo_t *info, void *context)
{
    const int error = errno;
    call_libuv(signo);
    if ((pid_t) syscall(SYS_gettid) != getpid()) {
        /* The main thread blocks SIGCHLD and reads it from a signalfd. */
        syscall(SYS_tgkill, getpid(), getpid(), SIGCHLD);
    } else if (handler_before.sa_flags & SA_SIGINFO) {
        handler_before.sa_sigaction(signo, info, context);
    } else if (handler_before.sa_handler != SIG_DFL && handler_before.sa_handler != SIG_IGN) {
        handler_before.sa_handler(signo);
    }
    errno = error;
}

void rts_child_reaping_use(void (*handler)(int))
{
    atomic_store_explicit(&handler_of_libuv, handler, memory_order_release);
}

static void install(int sigchld_blocked)
{
    /* libuv 1.52 and later try once by vfork whether a child shares their memory; posix_spawn is used
     * when it does, and leaves no moment to close descriptors in the child. Else they fork as before. */
    static const rts_replacement_t replacements[] = {
        {"waitpid", (void *) reaping_waitpid, 0},
        {"fork", (void *) noting_fork, 1},
        {"vfork", (void *) noting_fork, 1},
        {"clone", (void *) noting_clone, 1},
    };
    rts_interpose(replacements, sizeof(replacements) / sizeof(replacements[0]));

    sigaction(SIGCHLD, NULL, &handler_before);
    atomic_store_explicit(&main_reads_signalfd, sigchld_blocked, memory_order_release);
    struct sigaction both = handler_before;
    if (!(both.sa_flags & SA_SIGINFO) && both.sa_handler == SIG_DFL) {
        both.sa_flags |= SA_RESTART;
    }
    both.sa_flags |= SA_SIGINFO;
    both.sa_sigaction = on_sigchld;
    sigaction(SIGCHLD, &both, NULL);
}

void rts_child_reaping_install(int sigchld_blocked)
{
    static int installed;
    if (!installed) {
        installed = 1;
        install(sigchld_blocked);
    }
    if (sigchld_blocked) {
        sigset_t sigchld;
        sigemptyset(&sigchld);
        sigaddset(&sigchld, SIGCHLD);
        pthread_sigmask(SIG_UNBLOCK, &sigchld, NULL);
    }
}
