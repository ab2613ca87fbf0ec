/*
 * Walks a ring of fuzzed bytes with rts_record_read as a reader of a hostile peer would: from a cursor
 * that the input names to a tail that it names, too.
 *
 * Invariant checked: a size is positive, a multiple of 8, within what is published; the payload
 * lies in the record; what is accepted can be written back and is the same; the sanitizers see
 * every byte read outside of what is published, as the block ends there.
 */
#include <stdlib.h>
#include <string.h>

#include "channel/record.h"

enum { RING = 4096, INPUT_HEAD = 8 };

#define REQUIRE(condition)  \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static void write_back(const rts_record_t *record, const uint8_t *payload, uint32_t size)
{
    uint8_t *copy = malloc(size);
    rts_record_t again;
    const uint8_t *data = NULL;
    REQUIRE(rts_record_write(copy, size - 1, RING, record, payload) == 0);
    REQUIRE(rts_record_write(copy, size, RING, record, payload) == (int32_t) size);
    REQUIRE(rts_record_read(copy, size, RING, &again, &data) == (int32_t) size);
    REQUIRE(memcmp(&again, record, sizeof(again)) == 0);
    REQUIRE(memcmp(data, payload, record->length) == 0);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length)
{
    uint32_t head;
    uint32_t published;
    if (length < INPUT_HEAD) {
        return 0;
    }
    memcpy(&head, input, sizeof(head));
    memcpy(&published, input + 4, sizeof(published));
    head &= ~7u;
    /* Mostly what the input has bytes for; else a cursor that lies, which must not be believed. */
    if (published % 8 != 0) {
        rts_record_t record;
        const uint8_t *payload = NULL;
        uint8_t nothing[sizeof(record)] = {0};
        published = published > RING ? published : RING + 1;
        REQUIRE(rts_record_read(nothing, published, RING, &record, &payload) == -RTS_E_PROTOCOL);
        return 0;
    }
    input += INPUT_HEAD;
    length -= INPUT_HEAD;
    published = (uint32_t) (length < RING ? length : RING) & ~7u;

    /* The ring as the reader sees it: published bytes from head on, and not one more. */
    uint8_t *block = malloc(published > 0 ? published : 1);
    memcpy(block, input, published);
    const uint32_t tail = head + published;
    uint32_t cursor = head;
    while (cursor != tail) {
        rts_record_t record;
        const uint8_t *payload = NULL;
        const uint32_t available = tail - cursor;
        const uint8_t *at = block + (cursor - head);
        const int32_t size = rts_record_read(at, available, RING, &record, &payload);
        if (size < 0) {
            REQUIRE(size == -RTS_E_PROTOCOL);
            break;
        }
        REQUIRE(size >= (int32_t) sizeof(record) && size % 8 == 0 && (uint32_t) size <= available);
        REQUIRE(payload == at + sizeof(record));
        REQUIRE(record.length <= (uint32_t) size - sizeof(record));
        REQUIRE(record.length <= rts_record_max(RING));
        write_back(&record, payload, (uint32_t) size);
        cursor += (uint32_t) size;
    }
    free(block);
    return 0;
}
