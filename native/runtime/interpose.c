/*
 * See interpose.h.
 *
 * Threads: the Node thread, before the first environment.
 * Invariant: a slot of a relocation table goes from one function to the other in one store, as other
 * threads are calling through it.
 */
#define _GNU_SOURCE
#include "runtime/interpose.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <node_api.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#if defined(__x86_64__)
#define RELOCATES_FUNCTION(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#define RELOCATES_FUNCTION(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT)
#else
#error "interpose.c does not know this machine's relocations"
#endif

/* Where the objects begin that are not like the others. Looked up before dl_iterate_phdr, never in
 * its callback: dladdr takes the dynamic linker's first lock, the callback runs under its second,
 * and a dlopen in another thread takes them in that order. */
typedef struct {
    const void *own;
    const void *libuv;
    const void *libnode; /* which may bring its own libuv */
    const rts_replacement_t *replacements;
    size_t count;
} objects_t;

static void *replacement_of(const objects_t *objects, const char *name, int is_node)
{
    for (size_t i = 0; i < objects->count; i++) {
        const rts_replacement_t *replacement = &objects->replacements[i];
        if ((is_node || !replacement->node_only) && strcmp(name, replacement->name) == 0) {
            return replacement->function;
        }
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
                              const relro_t *relro, const objects_t *objects, int is_node)
{
    for (size_t i = 0; i < bytes / sizeof(*relocations); i++) {
        const ElfW(Rela) *relocation = &relocations[i];
        if (!RELOCATES_FUNCTION(ELF64_R_TYPE(relocation->r_info))) {
            continue;
        }
        const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(relocation->r_info)];
        void *function = replacement_of(objects, strings + symbol->st_name, is_node);
        if (function == NULL) {
            continue;
        }
        patch_slot(object->dlpi_addr + relocation->r_offset, function, relro);
    }
}

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
    const int is_node = object->dlpi_addr == (uintptr_t) objects->libuv ||
                        object->dlpi_addr == (uintptr_t) objects->libnode;
    for (int i = 0; i < 2; i++) {
        if (tables[i] != NULL) {
            patch_relocations(object, tables[i], bytes[i], symbols, strings, &relro, objects,
                              is_node);
        }
    }
    return 0;
}

void rts_interpose(const rts_replacement_t *replacements, size_t count)
{
    objects_t objects = {object_of((void *) rts_interpose), object_of((void *) uv_spawn),
                         object_of((void *) napi_create_object), replacements, count};
    dl_iterate_phdr(patch_object, &objects);
}
