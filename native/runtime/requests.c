/*
 * Requests that have ended, from nginx's cleanup handlers to Lua, which cannot be called from there.
 *
 * Threads: the Lua side only, which in nginx is the worker's one thread.
 * Invariant: an id is kept until Lua has taken it. Without memory for it it is lost, and what the
 * host keeps for that request stays until the environment ends.
 */
#include <stdint.h>
#include <stdlib.h>

#include "resty_ts.h"

static struct {
    uint32_t *ids;
    uint32_t count;
    uint32_t room;
} ended;

void rts_request_note_end(void *id)
{
    if (ended.count == ended.room) {
        const uint32_t room = ended.room == 0 ? 64 : ended.room * 2;
        uint32_t *ids = realloc(ended.ids, room * sizeof(*ids));
        if (ids == NULL) {
            return;
        }
        ended.ids = ids;
        ended.room = room;
    }
    ended.ids[ended.count++] = (uint32_t) (uintptr_t) id;
}

uint32_t rts_requests_ended(uint32_t *ids, uint32_t max)
{
    uint32_t n = 0;
    while (n < max && ended.count > 0) {
        ids[n++] = ended.ids[--ended.count];
    }
    return n;
}
