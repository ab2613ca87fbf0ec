/*
 * What a process has only one of stays nginx's, whatever JavaScript asks Node for: dispositions of
 * signals, the umask, the priority of nginx's thread; and it does not signal the worker. Below
 * JavaScript, as process.binding and worker_threads go around all that could be done there.
 * Native packages call libc themselves.
 */
#ifndef RTS_GUARD_H
#define RTS_GUARD_H

#ifdef __cplusplus
extern "C" {
#endif

/* Once a process; later calls do nothing. Threads: the Node thread, before the first environment. */
void rts_guard_install(void);

#ifdef __cplusplus
}
#endif

#endif
