/*
 * Preloaded into nginx: has what the worker needs for a new channel fail for as many times as a
 * file says, which is mapped here and written by the suite (scarcity.ts).
 *
 * Threads: any; only calls of a process's first thread fail, which is nginx's own. Invariant: what
 * nginx, LuaJIT and Node need for themselves is left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* How often each is still to fail. */
typedef struct {
    _Atomic int32_t memfd;
    _Atomic int32_t map;
    _Atomic int32_t thread;
} counters_t;

static counters_t *counters;

static int fails(_Atomic int32_t *counter)
{
    if (syscall(SYS_gettid) != getpid() || atomic_load(counter) <= 0) {
        return 0;
    }
    return atomic_fetch_sub(counter, 1) > 0;
}

__attribute__((constructor)) static void open_counters(void)
{
    const char *path = getenv("RTS_CHAOS_SCARCE");
    const int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *page = mmap(NULL, sizeof(*counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        counters = page != MAP_FAILED ? page : NULL;
        close(fd);
    }
}

int memfd_create(const char *name, unsigned flags)
{
    if (counters != NULL && strcmp(name, "resty-ts") == 0 && fails(&counters->memfd)) {
        errno = ENOMEM;
        return -1;
    }
    return (int) syscall(SYS_memfd_create, name, flags);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    /* Nobody else in a worker maps a file shared at a certain address. */
    if (counters != NULL && (flags & MAP_SHARED) != 0 && (flags & MAP_FIXED) != 0 &&
        fails(&counters->map)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *) syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    typedef int (*create_t)(pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);
    if (counters != NULL && fails(&counters->thread)) {
        return EAGAIN;
    }
    void *next = dlsym(RTLD_NEXT, "pthread_create");
    create_t create;
    memcpy(&create, &next, sizeof(create));
    return create(thread, attributes, start, argument);
}
