/*
 * hostile PID WHAT: writes into the channel of a host process what a hostile one might. The host is
 * stopped meanwhile, so that what it writes itself does not undo it.
 *
 * Exit status: 0 done, 1 there is no such channel, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/record.h"

enum { MEMFD_NAME_BYTES = 64, PATH_BYTES = 320 };

/* The descriptor of the first channel that this process has; -1 when it has none. */
static int open_channel(const char *pid)
{
    char folder[PATH_BYTES];
    int found = -1;
    snprintf(folder, sizeof(folder), "/proc/%s/fd", pid);
    DIR *list = opendir(folder);
    for (struct dirent *entry; list != NULL && found < 0 && (entry = readdir(list)) != NULL;) {
        char path[PATH_BYTES];
        char target[MEMFD_NAME_BYTES] = "";
        snprintf(path, sizeof(path), "/proc/%s/fd/%.20s", pid, entry->d_name);
        if (readlink(path, target, sizeof(target) - 1) > 0 &&
            strcmp(target, "/memfd:resty-ts (deleted)") == 0) {
            found = open(path, O_RDWR | O_CLOEXEC);
        }
    }
    if (list != NULL) {
        closedir(list);
    }
    return found;
}

/* Publishes a completion of this header. */
static void complete(rts_control_t *control, uint32_t length, uint32_t kind, uint32_t id)
{
    uint8_t *ring = (uint8_t *) control + RTS_CONTROL_BYTES + control->ring_bytes;
    const uint32_t tail = atomic_load(&control->cq_tail);
    uint32_t words[8] = {length, kind, id, 0, 0, length, 0x55555555, 0x55555555};
    for (uint32_t i = 0; i < sizeof(words); i++) {
        ring[(tail + i) & (control->ring_bytes - 1)] = ((uint8_t *) words)[i];
    }
    atomic_store(&control->cq_tail, tail + (uint32_t) sizeof(words));
}

static int corrupt(rts_control_t *control, const char *what)
{
    if (strcmp(what, "kind") == 0) {
        complete(control, 8, 77, 0);
    } else if (strcmp(what, "length") == 0) {
        complete(control, 0xfffffff0u, 16, 0);
    } else if (strcmp(what, "stranger") == 0) {
        complete(control, 8, 16, 0xffff1234u);
    } else if (strcmp(what, "ahead") == 0) {
        atomic_fetch_add(&control->cq_tail, 2 * control->ring_bytes);
    } else if (strcmp(what, "short") == 0) {
        atomic_fetch_add(&control->cq_tail, 8);
    } else if (strcmp(what, "head") == 0) {
        atomic_fetch_add(&control->sq_head, control->ring_bytes);
    } else if (strcmp(what, "begun") == 0) {
        atomic_fetch_add(&control->sq_begun, 12);
    } else {
        return 2;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    const int fd = open_channel(argv[1]);
    if (fd < 0) {
        return 1;
    }
    rts_control_t *control =
        mmap(NULL, RTS_CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED || control->magic != RTS_MAGIC) {
        return 1;
    }
    const size_t bytes = RTS_CONTROL_BYTES + 2 * (size_t) control->ring_bytes;
    control = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return control != MAP_FAILED ? corrupt(control, argv[2]) : 1;
}
