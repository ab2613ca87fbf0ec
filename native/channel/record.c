/*
 * Reading and writing records, with every length checked before it is used.
 *
 * Threads: any; no state. Invariant: see record.h.
 */
#include "channel/record.h"

#include <string.h>

static int kind_is_known(uint8_t kind)
{
    return (kind >= RTS_KIND_CALL && kind <= RTS_KIND_CHUNK) ||
           (kind >= RTS_KIND_RESULT && kind <= RTS_KIND_LOGGED);
}

int32_t rts_record_read(const uint8_t *at, uint32_t available, uint32_t ring_bytes,
                        rts_record_t *record, const uint8_t **payload)
{
    if (available < sizeof(*record) || available > ring_bytes) {
        return -RTS_E_PROTOCOL;
    }
    /* A copy: the other side may be hostile and change the record after it was checked. */
    memcpy(record, at, sizeof(*record));
    if (record->length > rts_record_max(ring_bytes) ||
        rts_record_size(record->length) > available || !kind_is_known(record->kind) ||
        (record->flags & ~RTS_FLAG_MORE) != 0 ||
        (record->pending != 0 && record->kind != RTS_KIND_CALL)) {
        return -RTS_E_PROTOCOL;
    }
    *payload = at + sizeof(*record);
    return (int32_t) rts_record_size(record->length);
}

int32_t rts_record_write(uint8_t *at, uint32_t room, uint32_t ring_bytes,
                         const rts_record_t *record, const void *payload)
{
    if (record->length > rts_record_max(ring_bytes)) {
        return -RTS_E_TOO_LARGE;
    }
    const uint32_t size = rts_record_size(record->length);
    if (size > room) {
        return 0;
    }
    memcpy(at, record, sizeof(*record));
    if (record->length > 0) {
        memcpy(at + sizeof(*record), payload, record->length);
    }
    return (int32_t) size;
}
