/*
 * A child process of the worker must not keep nginx's sockets: a client's connection would end only
 * when the child does, and epoll would go on telling of a descriptor that nginx has closed.
 *
 * Threads: the one thread of a child between fork and exec, so system calls only.
 */
#define _GNU_SOURCE
#include "runtime/child_descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST = 3, MOST = 65536, CLOEXEC_FLAG = 1 << 2 /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */ };

void rts_child_close_others(void)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, FIRST, ~0U, CLOEXEC_FLAG) == 0) {
        return;
    }
#endif
    struct rlimit limit;
    rlim_t end = MOST;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < end) {
        end = limit.rlim_cur;
    }
    for (int fd = FIRST; fd < (int) end; fd++) {
        (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}
