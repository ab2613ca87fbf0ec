/*
 * See pages.h.
 *
 * Threads: the Node thread. Invariant: only what is never written is given back: segments of the file
 * that are not writable, whose pages are all as in the file.
 */
#define _GNU_SOURCE
#include "runtime/pages.h"

#include <dlfcn.h>
#include <link.h>
#include <node_api.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Called for each object; libnode: where it begins. */
static int give_back(struct dl_phdr_info *object, size_t size, void *libnode)
{
    (void) size;
    if (object->dlpi_addr != (uintptr_t) libnode) {
        return 0;
    }
    const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0) {
            const uintptr_t start = object->dlpi_addr + segment->p_vaddr;
            const uintptr_t first = (start + page - 1) / page * page;
            const uintptr_t stop = (start + segment->p_filesz) / page * page;
            if (stop > first) {
                madvise((void *) first, stop - first, MADV_DONTNEED);
            }
        }
    }
    return 1;
}

void rts_pages_give_back(void)
{
    Dl_info libnode;
    /* Before dl_iterate_phdr: see interpose.c. */
    if (dladdr((const void *) (uintptr_t) napi_get_version, &libnode) != 0) {
        dl_iterate_phdr(give_back, libnode.dli_fbase);
    }
}
