/*
 * One host process for all workers of an nginx.
 *
 * Threads: watching ones, in any number of workers at once. Invariants: who starts a host holds the
 * lock beside its socket, and tries to connect first; both are in a folder of our own user's that
 * nobody else may enter. Its name goes by which nginx and which host it is for: what is to be run
 * otherwise than the host that runs (after a reload, say) has one of its own.
 */
#define _GNU_SOURCE
#include "runtime/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/connect.h"
#include "runtime/spawn.h"

enum { START_MS = 10000, STEP_MS = 5, STEP_NS = 5000000, PATH_BYTES = 256, FOLDERS = 8 };

static uint32_t hash(uint32_t seed, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        seed = (seed ^ (unsigned char) *c) * 16777619u; /* FNV-1a */
    }
    return (seed ^ 0xff) * 16777619u;
}

static void mix(uint64_t v[4], uint64_t block, int rounds)
{
    v[3] ^= block;
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1], v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0], v[0] = v[0] << 32 | v[0] >> 32;
        v[2] += v[3], v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
        v[0] += v[3], v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
        v[2] += v[1], v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2], v[2] = v[2] << 32 | v[2] >> 32;
    }
    v[0] ^= block;
}

/* SipHash-2-4 of 8 bytes. Its key is what the kernel gave nginx's master at its start, at random: all
 * of its workers have it, and neither another nginx nor another user, who would take the name first. */
static uint64_t keyed(uint64_t message)
{
    uint64_t key[2] = {0, 0};
    const void *random = (const void *) getauxval(AT_RANDOM);
    if (random != NULL) {
        memcpy(key, random, sizeof(key));
    }
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    mix(v, message, 2);
    mix(v, (uint64_t) sizeof(message) << 56, 2);
    v[2] ^= 0xff;
    mix(v, 0, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Makes the folder, or finds it. Returns 0, or -1 with the reason in text. */
static int make_folder(const rts_host_context_t *context, char *path, char *text, size_t size)
{
    uint32_t which = hash(2166136261u, context->host);
    which = hash(which, context->node);
    which = hash(which, context->environment);
    which = hash(which, context->library_dir);
    which = (which ^ context->max_heap_mb) * 16777619u;
    /* One that another has made nevertheless, who has seen it come and go, is passed by. */
    for (uint64_t attempt = 0; attempt < FOLDERS; attempt++) {
        struct stat status;
        snprintf(path, PATH_BYTES, "%s/resty-ts-shared-%u-%016" PRIx64, context->connect, geteuid(),
                 keyed(attempt << 32 | which));
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            snprintf(text, size, "%s: %s", path, strerror(errno));
            return -1;
        }
        if (lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
            (status.st_mode & 077) == 0) {
            return 0;
        }
    }
    snprintf(text, size, "%s is not a folder of our own that nobody else may enter", path);
    return -1;
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
