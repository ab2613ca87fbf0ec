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

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#if defined(__x86_64__)
#define RELOCATES_FUNCTION(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#define RELOCATES_FUNCTION(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT)
#else
#error "child_reaping.c does not know this machine's relocations"
#endif

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
static struct sigaction handler_of_libuv;
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

/* A read of the signalfd takes SIGCHLD also when it was on its way to the Node thread, which then
 * does not learn of it: whoever reaps tells libuv. All signals are blocked, as in its handler. */
static void tell_libuv(void)
{
    sigset_t all;
    sigset_t before;
    const int error = errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    handler_of_libuv.sa_handler(SIGCHLD);
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
        /* pairs: install's store, which comes after handler_of_libuv is there */
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
    handler_of_libuv.sa_handler(signo);
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

/* libuv uninstalls its handler (back to SIG_DFL) when the last loop that watches SIGCHLD goes;
 * this loop never goes, so libuv never touches the disposition again. */
static void on_keeper_signal(uv_signal_t *watcher, int signo)
{
    (void) watcher; /* the keeper's loop is never run */
    (void) signo;
}

static int keep_libuv_handler(void)
{
    static uv_loop_t keeper;
    static uv_signal_t watcher;
    return uv_loop_init(&keeper) == 0 && uv_signal_init(&keeper, &watcher) == 0 &&
           uv_signal_start(&watcher, on_keeper_signal, SIGCHLD) == 0;
}

/* What is called in place of a function of libc's, or NULL. */
static void *replacement_of(const char *name, int is_libuv)
{
    if (strcmp(name, "waitpid") == 0) {
        return (void *) reaping_waitpid;
    }
    /* libuv 1.52 and later try once by vfork whether a child shares their memory; posix_spawn is used
     * when it does, and leaves no moment to close descriptors in the child. Else they fork as before. */
    if (is_libuv && (strcmp(name, "fork") == 0 || strcmp(name, "vfork") == 0)) {
        return (void *) noting_fork;
    }
    if (is_libuv && strcmp(name, "clone") == 0) {
        return (void *) noting_clone;
    }
    return NULL;
}

/* What the dynamic linker has made read-only of an object: whole pages only. Where they are larger
 * than the linker thought (64 KiB, for an object laid out for 4 KiB), the last part is left writable,
 * with data beside it that must stay so. */
typedef struct {
    uintptr_t start, end;
} relro_t;

static void patch_slot(uintptr_t slot, void *function, const relro_t *relro)
{
    const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
    void *start = (void *) (slot & ~(page - 1));
    const int read_only = slot >= (relro->start & ~(page - 1)) && slot < (relro->end & ~(page - 1));
    if (*(void **) slot == function ||
        (read_only && mprotect(start, page, PROT_READ | PROT_WRITE) != 0)) {
        return;
    }
    __atomic_store_n((void **) slot, function, __ATOMIC_RELEASE);
    if (read_only) {
        mprotect(start, page, PROT_READ);
    }
}

static void patch_relocations(const struct dl_phdr_info *object, const ElfW(Rela) *relocations,
                              size_t bytes, const ElfW(Sym) *symbols, const char *strings,
                              const relro_t *relro, int is_libuv)
{
    for (size_t i = 0; i < bytes / sizeof(*relocations); i++) {
        const ElfW(Rela) *relocation = &relocations[i];
        if (!RELOCATES_FUNCTION(ELF64_R_TYPE(relocation->r_info))) {
            continue;
        }
        const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(relocation->r_info)];
        void *function = replacement_of(strings + symbol->st_name, is_libuv);
        if (function == NULL) {
            continue;
        }
        patch_slot(object->dlpi_addr + relocation->r_offset, function, relro);
    }
}

/* Where the objects begin that are not like the others. Looked up before dl_iterate_phdr, never in
 * its callback: dladdr takes the dynamic linker's first lock, the callback runs under its second,
 * and a dlopen in another thread takes them in that order. */
typedef struct {
    const void *own;
    const void *libuv; /* has uv_spawn: libuv itself, or a libnode that brings its own */
} objects_t;

static const void *object_of(void *function)
{
    Dl_info info;
    return dladdr(function, &info) != 0 ? info.dli_fbase : NULL;
}

/* glibc has made an address of it, musl leaves it as it is in the file. */
static const void *address_in(const struct dl_phdr_info *object, const ElfW(Dyn) *entry)
{
    const uintptr_t value = entry->d_un.d_ptr;
    return (const void *) (value < object->dlpi_addr ? object->dlpi_addr + value : value);
}

static int patch_object(struct dl_phdr_info *object, size_t size, void *data)
{
    (void) size;
    const objects_t *objects = data;
    if (object->dlpi_addr == (uintptr_t) objects->own) {
        return 0;
    }
    const ElfW(Dyn) *dynamic = NULL;
    relro_t relro = {0, 0};
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        if (header->p_type == PT_DYNAMIC) {
            dynamic = (const void *) (object->dlpi_addr + header->p_vaddr);
        } else if (header->p_type == PT_GNU_RELRO) {
            relro.start = object->dlpi_addr + header->p_vaddr;
            relro.end = relro.start + header->p_memsz;
        }
    }
    const char *name = object->dlpi_name != NULL ? object->dlpi_name : "";
    if (dynamic == NULL || strstr(name, "linux-vdso") != NULL) {
        return 0;
    }
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const ElfW(Rela) *tables[2] = {NULL, NULL};
    size_t bytes[2] = {0, 0};
    for (const ElfW(Dyn) *d = dynamic; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
        case DT_SYMTAB: symbols = address_in(object, d); break;
        case DT_STRTAB: strings = address_in(object, d); break;
        case DT_JMPREL: tables[0] = address_in(object, d); break;
        case DT_PLTRELSZ: bytes[0] = d->d_un.d_val; break;
        case DT_RELA: tables[1] = address_in(object, d); break;
        case DT_RELASZ: bytes[1] = d->d_un.d_val; break;
        default: break;
        }
    }
    if (symbols == NULL || strings == NULL) {
        return 0;
    }
    const int is_libuv = object->dlpi_addr == (uintptr_t) objects->libuv;
    for (int i = 0; i < 2; i++) {
        if (tables[i] != NULL) {
            patch_relocations(object, tables[i], bytes[i], symbols, strings, &relro, is_libuv);
        }
    }
    return 0;
}

static void install(int sigchld_blocked)
{
    objects_t objects = {object_of((void *) rts_child_reaping_install),
                         object_of((void *) uv_spawn)};
    dl_iterate_phdr(patch_object, &objects);

    sigaction(SIGCHLD, NULL, &handler_before);
    if (!keep_libuv_handler()) {
        return;
    }
    sigaction(SIGCHLD, NULL, &handler_of_libuv);
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
