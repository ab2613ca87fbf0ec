/*
 * Lets nginx and Node's child_process, in one process, each learn of the end of their own children.
 *
 * nginx reaps with waitpid(-1), in its SIGCHLD handler or (ngx.pipe) in its event loop, and so
 * takes the exit status of children that libuv waits for by pid; libuv in its turn replaces
 * nginx's SIGCHLD handler. See docs/adr/0003-child-processes.md.
 */
#ifndef RTS_CHILD_REAPING_H
#define RTS_CHILD_REAPING_H

#ifdef __cplusplus
extern "C" {
#endif

/* Installs a SIGCHLD handler that serves libuv's and the one that was there, and makes every
 * waitpid(-1) of the loaded objects keep what it reaped for whoever waits for that pid.
 * Once a process; later calls do nothing.
 * Threads: the Node thread, before the first environment.
 * sigchld_blocked: whether the main thread blocks SIGCHLD and reads it by signalfd. */
void rts_child_reaping_install(int sigchld_blocked);

/* Libuv's own handler, which it would have installed. Threads: any. */
void rts_child_reaping_use(void (*handler)(int));

#ifdef __cplusplus
}
#endif

#endif
