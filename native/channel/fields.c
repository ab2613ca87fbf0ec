/*
 * Fields of requests and responses, from the lists that nginx and its Lua module have to the bytes
 * that go to the host; and what the Lua module cannot do to nginx's lists.
 *
 * Threads: the Lua side only. Invariant: puts nothing unless all of it has room. In C, as a loop
 * in Lua would end the trace of all that leads up to it.
 */
#include "resty_ts.h"

#include <string.h>
#include <strings.h>

enum {
    /* ngx_table_elt_t has six words, since nginx 1.23 seven. */
    FIELD_WORDS = 6,
    /* Signature, connection and such are ahead of the lists. */
    SEARCH_FROM = 64,
    SEARCH_TO = 1024,
    MOST_ROOM = 65536,
};

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

static int is_list(const rts_nginx_list_t *list)
{
    return (list->field_bytes == FIELD_WORDS * sizeof(void *) ||
            list->field_bytes == (FIELD_WORDS + 1) * sizeof(void *)) &&
           list->last != NULL && list->pool != NULL && list->room > 0 && list->room <= MOST_ROOM &&
           list->part.first != NULL && list->part.n <= MOST_ROOM;
}

uint32_t rts_find_list(const void *request, uint32_t from)
{
    for (uint32_t at = from > SEARCH_FROM ? from : SEARCH_FROM; at < SEARCH_TO;
         at += (uint32_t) sizeof(void *)) {
        if (is_list((const void *) ((const uint8_t *) request + at))) {
            return at;
        }
    }
    return 0;
}

/* A place in a list: what `field` is, and where to go from there. */
typedef struct {
    const rts_nginx_part_t *part;
    uintptr_t i;
    size_t field_bytes;
} place_t;

static place_t begin(const rts_nginx_list_t *list)
{
    return (place_t){.part = &list->part, .i = 0, .field_bytes = list->field_bytes};
}

static rts_nginx_field_t *next(place_t *place)
{
    while (place->part != NULL && place->i >= place->part->n) {
        place->part = place->part->next;
        place->i = 0;
    }
    if (place->part == NULL) {
        return NULL;
    }
    return (void *) (place->part->first + place->i++ * place->field_bytes);
}

static rts_nginx_field_t *next_sent(place_t *place)
{
    rts_nginx_field_t *field;
    do {
        field = next(place);
    } while (field != NULL && field->hash == 0);
    return field;
}

static int is_named(const rts_nginx_field_t *field, const char *name, size_t bytes)
{
    return field->name.bytes == bytes &&
           strncasecmp((const char *) field->name.data, name, bytes) == 0;
}

static uint32_t known_name(const rts_nginx_field_t *field)
{
    switch (field->name.bytes) {
    case 12: return is_named(field, "Content-Type", 12) ? 1 : 0;
    case 14: return is_named(field, "Content-Length", 14) ? 2 : 0;
    case 13: return is_named(field, "Last-Modified", 13) ? 4 : 0;
    default: return 0;
    }
}

uint32_t rts_count_listed(const rts_nginx_list_t *list, uint32_t *known)
{
    uint32_t n = 0;
    *known = 0;
    place_t place = begin(list);
    for (rts_nginx_field_t *field = next_sent(&place); field != NULL; field = next_sent(&place)) {
        n++;
        *known |= known_name(field);
    }
    return n;
}

uint32_t rts_put_listed(uint8_t *buffer, uint32_t size, uint32_t at, uint32_t *lengths,
                        const rts_nginx_list_t *list)
{
    uint32_t stop = at;
    place_t place = begin(list);
    for (rts_nginx_field_t *field = next_sent(&place); field != NULL; field = next_sent(&place)) {
        stop += (uint32_t) field->name.bytes + (uint32_t) field->value.bytes;
    }
    if (stop > size) {
        return stop;
    }
    uint8_t *to = buffer + at;
    place = begin(list);
    for (rts_nginx_field_t *field = next_sent(&place); field != NULL; field = next_sent(&place)) {
        memcpy(to, field->name.data, field->name.bytes);
        to += field->name.bytes;
        if (field->value.bytes > 0) {
            memcpy(to, field->value.data, field->value.bytes);
            to += field->value.bytes;
        }
        *lengths++ = (uint32_t) field->name.bytes;
        *lengths++ = (uint32_t) field->value.bytes;
    }
    return stop;
}

rts_nginx_field_t *rts_next_listed(const rts_nginx_list_t *list, const char *name, size_t bytes,
                                   const rts_nginx_field_t *after, int all)
{
    place_t place = begin(list);
    for (;;) {
        rts_nginx_field_t *field = all != 0 ? next(&place) : next_sent(&place);
        if (field == NULL) {
            return NULL;
        }
        if (after != NULL) {
            after = field == after ? NULL : after;
        } else if (is_named(field, name, bytes)) {
            return field;
        }
    }
}

uint32_t rts_drop_listed(const rts_nginx_list_t *list, const char *name, size_t bytes,
                         uint32_t keep)
{
    uint32_t kept = 0;
    place_t place = begin(list);
    for (rts_nginx_field_t *field = next_sent(&place); field != NULL; field = next_sent(&place)) {
        if (!is_named(field, name, bytes)) {
            continue;
        }
        if (kept < keep) {
            kept++;
        } else {
            field->hash = 0;
            field->value.bytes = 0;
        }
    }
    return kept;
}
