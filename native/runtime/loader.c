/*
 * Finds a libnode and the backend for it.
 *
 * Threads: the Node thread, before there is an environment.
 * Invariant: a libnode that brings an OpenSSL of its own stays RTLD_LOCAL: its SSL_* and the
 * ones that nginx uses would interpose each other. Any other is made global, because native npm
 * packages expect to find napi_* in the process.
 */
#define _GNU_SOURCE
#include "runtime/loader.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BACKENDS = 16 };

static int newest_first(const void *a, const void *b)
{
    return *(const int *) b - *(const int *) a;
}

/* Whether what a dlopen failed for may be there again in a moment: nobody has to mend anything. */
static int is_passing(const char *error)
{
    static const int causes[] = {EMFILE, ENFILE, ENOMEM};
    for (size_t i = 0; i < sizeof(causes) / sizeof(*causes); i++) {
        if (strstr(error, strerror(causes[i])) != NULL) {
            return 1;
        }
    }
    return 0;
}

/* The ABIs that library_dir has a backend for, newest first; -1: errno says why it is not known. */
static int list_backends(const char *library_dir, int *abis)
{
    int count = 0;
    DIR *dir = opendir(library_dir);
    if (dir == NULL) {
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL && count < MAX_BACKENDS;) {
        int abi = 0;
        int end = 0;
        if (sscanf(entry->d_name, "libresty_ts_node%d.so%n", &abi, &end) == 1 && end > 0 &&
            entry->d_name[end] == '\0') {
            abis[count++] = abi;
        }
    }
    closedir(dir);
    qsort(abis, (size_t) count, sizeof(*abis), newest_first);
    return count;
}

static void abi_list(const int *abis, int count, char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < count && at < size; i++) {
        const int n = snprintf(out + at, size - at, "%s%d", i == 0 ? "" : ", ", abis[i]);
        at += n < 0 ? 0 : (size_t) n;
    }
}

static int has_abi(const int *abis, int count, int abi)
{
    for (int i = 0; i < count; i++) {
        if (abis[i] == abi) {
            return 1;
        }
    }
    return 0;
}

/* The ABI in "libnode.so.108", the soname that every distribution gives it; 0 when not there. */
static int libnode_abi(void *handle, char *path, size_t path_size)
{
    struct link_map *map = NULL;
    int abi = 0;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) {
        return 0;
    }
    snprintf(path, path_size, "%s", map->l_name);
    const char *soname = NULL;
    const char *strings = NULL;
    ElfW(Xword) at = 0;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_STRTAB) {
            /* glibc has made an address of it, musl leaves it as it is in the file */
            const uintptr_t place = d->d_un.d_ptr;
            strings = (const char *) (place < map->l_addr ? map->l_addr + place : place);
        } else if (d->d_tag == DT_SONAME) {
            at = d->d_un.d_val;
        }
    }
    soname = strings != NULL && at != 0 ? strings + at : map->l_name;
    const char *suffix = strstr(soname, ".so.");
    return suffix != NULL && sscanf(suffix, ".so.%d", &abi) == 1 ? abi : 0;
}

static void *open_libnode(const char *library_dir, const char *named, const int *abis, int count,
                          char *text, size_t text_size)
{
    if (named != NULL && named[0] != '\0') {
        void *handle = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL) {
            snprintf(text, text_size, "%s", dlerror());
        }
        return handle;
    }
    char tried[192];
    abi_list(abis, count, tried, sizeof(tried));
    char first_error[256] = "";
    for (int i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/libnode/libnode.so.%d", library_dir, abis[i]);
        for (int system = 0; system < 2; system++) {
            const char *file = system ? strrchr(path, '/') + 1 : path;
            void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
            if (handle != NULL) {
                return handle;
            }
            const char *error = dlerror();
            /* "Not there" is expected of all but one; anything else is the reason to show. */
            if (first_error[0] == '\0' && strstr(error, "libnode.so.") != error &&
                strstr(error, "cannot open shared object file: No such file") == NULL) {
                snprintf(first_error, sizeof(first_error), ": %s", error);
            }
        }
    }
    snprintf(text, text_size,
             "no libnode.so.N with N one of %s, neither in %s/libnode nor among the system's "
             "libraries%s",
             tried, library_dir, first_error);
    return NULL;
}

static int has_own_openssl(void *libnode)
{
    void *symbol = dlsym(libnode, "SSL_CTX_new");
    const void *node = dlsym(libnode, "node_module_register");
    Dl_info of_symbol;
    Dl_info of_node;
    return symbol != NULL && node != NULL && dladdr(symbol, &of_symbol) != 0 &&
           dladdr(node, &of_node) != 0 && of_symbol.dli_fbase == of_node.dli_fbase;
}

int rts_loader_load(const char *library_dir, const char *libnode, rts_loaded_t *out, char *text,
                    size_t text_size)
{
    int abis[MAX_BACKENDS];
    const int count = list_backends(library_dir, abis);
    if (count < 0) {
        snprintf(text, text_size, "%s: %s", library_dir, strerror(errno));
        return -RTS_E_SYSTEM;
    }
    if (count == 0) {
        snprintf(text, text_size, "there is no backend libresty_ts_node<ABI>.so in %s",
                 library_dir);
        return -RTS_E_WRONG_ABI;
    }
    void *node = open_libnode(library_dir, libnode, abis, count, text, text_size);
    if (node == NULL) {
        return is_passing(text) ? -RTS_E_SYSTEM : -RTS_E_NO_LIBNODE;
    }
    const int abi = libnode_abi(node, out->libnode_path, sizeof(out->libnode_path));
    out->own_openssl = has_own_openssl(node);
    if (!out->own_openssl) {
        dlopen(out->libnode_path, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    }

    snprintf(out->backend_path, sizeof(out->backend_path), "%s/libresty_ts_node%d.so", library_dir,
             abi);
    void *handle = dlopen(out->backend_path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        char have[192];
        char error[512];
        snprintf(error, sizeof(error), "%s", dlerror());
        if (is_passing(error)) {
            snprintf(text, text_size, "%s", error);
            return -RTS_E_SYSTEM;
        }
        if (has_abi(abis, count, abi)) {
            snprintf(text, text_size, "the backend for %s does not load: %s", out->libnode_path,
                     error);
            return -RTS_E_WRONG_ABI;
        }
        abi_list(abis, count, have, sizeof(have));
        snprintf(text, text_size, "%s has ABI %d, and the backends in %s are for %s: %s",
                 out->libnode_path, abi, library_dir, have, error);
        return -RTS_E_WRONG_ABI;
    }
    out->backend = dlsym(handle, "rts_backend");
    if (out->backend == NULL || out->backend->protocol != RTS_PROTOCOL) {
        snprintf(text, text_size, "%s is of another version than libresty_ts.so: build both anew",
                 out->backend_path);
        return -RTS_E_WRONG_ABI;
    }
    return RTS_OK;
}
