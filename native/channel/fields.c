/*
 * A request's fields, from the list that nginx's Lua module gives to the bytes that go to the host.
 *
 * Threads: the Lua side only. Invariant: writes nothing unless all of it has room. In C, as a loop
 * in Lua would end the trace of all that leads up to it.
 */
#include "resty_ts.h"

#include <string.h>

static uint8_t *put(uint8_t *to, rts_text_t text)
{
    memcpy(to, text.data, (size_t) text.bytes);
    return to + text.bytes;
}

uint32_t rts_put_fields(uint8_t *buffer, uint32_t size, uint32_t at, uint32_t *lengths,
                        const rts_field_t *fields, uint32_t n)
{
    uint32_t stop = at;
    for (uint32_t i = 0; i < n; i++) {
        stop += (uint32_t) fields[i].name.bytes + (uint32_t) fields[i].value.bytes;
    }
    if (stop > size) {
        return stop;
    }
    uint8_t *to = buffer + at;
    for (uint32_t i = 0; i < n; i++) {
        to = put(put(to, fields[i].name), fields[i].value);
        *lengths++ = (uint32_t) fields[i].name.bytes;
        *lengths++ = (uint32_t) fields[i].value.bytes;
    }
    return stop;
}
