/*
 * One host process for all workers of an nginx.
 *
 * Threads: watching ones, in any number of workers at once. Invariants: who starts a host holds the
 * lock beside its socket, and tries to connect first; both are in a folder of our own user's that
 * nobody else may enter. Its name says which nginx and which host it is for: what is to be run
 * otherwise than the host that runs (after a reload, say) has one of its own.
 */
#define _GNU_SOURCE
#include "runtime/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/connect.h"
#include "runtime/spawn.h"

enum { START_MS = 10000, STEP_MS = 5, STEP_NS = 5000000, PATH_BYTES = 256 };

static uint32_t hash(uint32_t seed, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        seed = (seed ^ (unsigned char) *c) * 16777619u; /* FNV-1a */
    }
    return (seed ^ 0xff) * 16777619u;
}

/* What tells an nginx from another with its master's pid, which may be of a container: when that one
 * was started. "" when that is not known. */
static void describe_master(char *out, size_t size)
{
    enum { STARTED = 20 }; /* fields after the name */
    char line[1024];
    snprintf(line, sizeof(line), "/proc/%d/stat", getppid());
    const int fd = open(line, O_RDONLY | O_CLOEXEC);
    const ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof(line) - 1);
    if (fd >= 0) {
        close(fd);
    }
    line[length > 0 ? length : 0] = '\0';
    const char *at = strrchr(line, ')');
    for (int i = 0; i < STARTED && at != NULL; i++) {
        at = strchr(at + 1, ' ');
    }
    snprintf(out, size, "%.*s", at != NULL ? (int) strcspn(at + 1, " ") : 0,
             at != NULL ? at + 1 : "");
}

/* Makes the folder, or finds it. Returns 0, or -1 with the reason in text. */
static int make_folder(const rts_host_context_t *context, char *path, char *text, size_t size)
{
    uint32_t which = hash(2166136261u, context->host);
    which = hash(which, context->node);
    which = hash(which, context->environment);
    which = hash(which, context->library_dir);
    char master[32];
    describe_master(master, sizeof(master));
    which = hash(which, master);
    which = (which ^ context->max_heap_mb) * 16777619u;
    snprintf(path, PATH_BYTES, "%s/resty-ts-shared-%u-%d-%08x", context->connect, geteuid(),
             getppid(), which);
    struct stat status;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        snprintf(text, size, "%s: %s", path, strerror(errno));
        return -1;
    }
    if (lstat(path, &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & 077) != 0) {
        snprintf(text, size, "%s is not a folder of our own that nobody else may enter", path);
        return -1;
    }
    return 0;
}

static int is_stopped(rts_host_context_t *context)
{
    pthread_mutex_lock(&context->lock);
    const int stopped = context->stop_requested || context->fail_code != 0;
    pthread_mutex_unlock(&context->lock);
    return stopped;
}

int rts_shared_connect(rts_host_context_t *context, pid_t *pid, char *text, size_t size)
{
    const struct timespec step = {0, STEP_NS};
    char folder[PATH_BYTES];
    char path[PATH_BYTES + 16];
    int lock = -1;
    int spawned = 0;
    int code = -RTS_E_UNAVAILABLE;
    for (int waited = 0; waited < START_MS && !is_stopped(context); waited += STEP_MS) {
        /* Again each time: a host that ends takes the folder away. */
        if (make_folder(context, folder, text, size) != 0) {
            code = -RTS_E_SYSTEM;
            break;
        }
        snprintf(path, sizeof(path), "%s/host", folder);
        code = rts_connect(path, pid, text, size);
        if (code >= 0) {
            break;
        }
        if (lock < 0) {
            snprintf(path, sizeof(path), "%s/lock", folder);
            lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        }
        if (!spawned && lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
            snprintf(path, sizeof(path), "%s/host", folder);
            const int started = rts_spawn_shared(context, path, text, size);
            if (started != RTS_OK) {
                code = started;
                break;
            }
            spawned = 1;
        }
        nanosleep(&step, NULL);
    }
    if (lock >= 0) {
        close(lock);
    }
    return code;
}
