/* Finding a libnode and the backend that was built for its ABI. */
#ifndef RTS_LOADER_H
#define RTS_LOADER_H

#include "runtime/backend.h"

typedef struct {
    const rts_backend_t *backend;
    char libnode_path[256];
    char backend_path[256];
    /* Set when libnode has an OpenSSL of its own and so was not loaded globally. */
    int own_openssl;
} rts_loaded_t;

/* Loads libnode (the file named by `libnode`, or one of those that a backend in library_dir is
 * there for) and the backend. Nothing that was loaded is ever unloaded.
 * Threads: any, one at a time; takes tens of milliseconds.
 * Returns: 0, -RTS_E_NO_LIBNODE, -RTS_E_WRONG_ABI; the reason in words in text. */
int rts_loader_load(const char *library_dir, const char *libnode, rts_loaded_t *out, char *text,
                    size_t text_size);

#endif
