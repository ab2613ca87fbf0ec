/*
 * See guard.h.
 *
 * Threads: install on the Node thread; the others on any of Node's. Invariant: in a child of the worker,
 * between fork and exec, they are libc's own: libuv sets the child's signals back there.
 */
#define _GNU_SOURCE
#include "runtime/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/child_reaping.h"
#include "runtime/interpose.h"

static pid_t worker;
static mode_t mask_of_worker;

static int in_worker(void)
{
    return getpid() == worker;
}

/* Tells of success: a package that listens for SIGTERM is not to fail over it. */
static int kept_sigaction(int signo, const struct sigaction *action, struct sigaction *before)
{
    if (!in_worker()) {
        return sigaction(signo, action, before);
    }
    if (signo == SIGCHLD && action != NULL && action->sa_handler != SIG_DFL) {
        rts_child_reaping_use(action->sa_handler);
    }
    return sigaction(signo, NULL, before);
}

static sighandler_t kept_signal(int signo, sighandler_t handler)
{
    struct sigaction now;
    if (!in_worker()) {
        return signal(signo, handler);
    }
    return sigaction(signo, NULL, &now) == 0 ? now.sa_handler : SIG_ERR;
}

static int refuse(void)
{
    errno = EPERM;
    return -1;
}

static int kept_kill(pid_t pid, int signo)
{
    const int is_own = pid == worker || pid == 0 || pid == -1 || pid == -getpgrp();
    return in_worker() && is_own && signo != 0 ? refuse() : kill(pid, signo);
}

/* 0 is the thread that calls, which may be nginx's (channel/lease.h). */
static int kept_setpriority(int which, id_t who, int priority)
{
    const id_t thread = who != 0 ? who : (id_t) syscall(SYS_gettid);
    const int is_own = which == PRIO_PROCESS && thread != (id_t) worker;
    return in_worker() && !is_own ? refuse() : setpriority(which, who, priority);
}

/* Signals stay nginx's: Node may start a thread on nginx's, too. */
static int masked_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *),
                         void *argument)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(thread, attributes, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* To read it Node sets it to 0 for a moment, in which nginx may make a file. */
static mode_t kept_umask(mode_t mask)
{
    return in_worker() ? mask_of_worker : umask(mask);
}

/* Returns 0 where the kernel (before 4.7) does not say. */
static int read_umask(void)
{
    char line[256];
    int found = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status != NULL && !found && fgets(line, sizeof(line), status) != NULL) {
        found = sscanf(line, "Umask: %o", &mask_of_worker) == 1;
    }
    if (status != NULL) {
        fclose(status);
    }
    return found;
}

void rts_guard_install(void)
{
    static const rts_replacement_t replacements[] = {
        {"sigaction", (void *) kept_sigaction, 1},
        {"signal", (void *) kept_signal, 1},
        {"kill", (void *) kept_kill, 1},
        {"setpriority", (void *) kept_setpriority, 1},
        {"pthread_create", (void *) masked_create, 1},
        {"umask", (void *) kept_umask, 1}, /* the last */
    };
    const size_t count = sizeof(replacements) / sizeof(replacements[0]);
    if (worker == 0) {
        worker = getpid();
        rts_interpose(replacements, read_umask() ? count : count - 1);
    }
}
