/*
 * Puts functions of ours in the place of libc's, in objects that are loaded already: by the entries of
 * their relocation tables. What is loaded later calls libc's.
 */
#ifndef RTS_INTERPOSE_H
#define RTS_INTERPOSE_H

#include <stddef.h>

typedef struct {
    const char *name;
    void *function;
    int node_only; /* in libnode and libuv, else in every object but our own */
} rts_replacement_t;

/* Threads: the Node thread, before the first environment. */
void rts_interpose(const rts_replacement_t *replacements, size_t count);

#endif
