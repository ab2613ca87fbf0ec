/*
 * Records as C reads and writes them; docs/wire-format.md is the text that all languages follow.
 *
 * Threads: any; no state. Invariant: nothing is read or written outside of what the caller says
 * is there.
 */
#ifndef RTS_RECORD_H
#define RTS_RECORD_H

#include "resty_ts.h"

enum {
    /* Lua to host */
    RTS_KIND_CALL = 1,
    RTS_KIND_NOTIFY = 2,
    RTS_KIND_CANCEL = 3,
    RTS_KIND_MODULE = 4,
    RTS_KIND_FUNCTION = 5,
    /* both ways: goes on with the message of this id whose last record had RTS_FLAG_MORE */
    RTS_KIND_CHUNK = 6,
    /* host to Lua */
    RTS_KIND_RESULT = 16,
    RTS_KIND_ERROR = 17,
    RTS_KIND_READY = 18,
    RTS_KIND_LOG = 19,
    RTS_KIND_ASK = 20,
    RTS_KIND_WAIT = 21,
    RTS_KIND_LOGGED = 22,
};

enum { RTS_FLAG_MORE = 1 };

/* The largest payload of one record in a ring of ring_bytes: four always fit. */
static inline uint32_t rts_record_max(uint32_t ring_bytes)
{
    return ring_bytes / 4 - (uint32_t) sizeof(rts_record_t);
}

/* Bytes that a record with this payload takes in the ring. */
static inline uint32_t rts_record_size(uint32_t length)
{
    return (uint32_t) sizeof(rts_record_t) + ((length + 7u) & ~7u);
}

/* Reads the record at `at`, of which `available` bytes are published.
 * Returns: its size in the ring, or -RTS_E_PROTOCOL when it is none. *payload points into `at`. */
int32_t rts_record_read(const uint8_t *at, uint32_t available, uint32_t ring_bytes,
                        rts_record_t *record, const uint8_t **payload);

/* Writes a record and its payload (record->length bytes) to `at`, where `room` bytes are free.
 * Returns: its size in the ring; 0 when there is no room now; -RTS_E_TOO_LARGE when there never is. */
int32_t rts_record_write(uint8_t *at, uint32_t room, uint32_t ring_bytes,
                         const rts_record_t *record, const void *payload);

#endif
