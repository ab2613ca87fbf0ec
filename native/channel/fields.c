/*
 * nginx's lists of fields: where they are in a request, and what its Lua module cannot do to them.
 *
 * Threads: the Lua side only. In C, as a loop in Lua would end the trace of all that leads up to it.
 */
#include "channel/fields.h"

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

rts_place_t rts_list_begin(const rts_nginx_list_t *list)
{
    return (rts_place_t){.part = &list->part, .i = 0, .field_bytes = list->field_bytes};
}

static rts_nginx_field_t *next(rts_place_t *place)
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

rts_nginx_field_t *rts_list_next_sent(rts_place_t *place)
{
    rts_nginx_field_t *field;
    do {
        field = next(place);
    } while (field != NULL && field->hash == 0);
    return field;
}

int rts_field_is_named(const rts_nginx_field_t *field, const char *name, size_t bytes)
{
    return field->name.bytes == bytes &&
           strncasecmp((const char *) field->name.data, name, bytes) == 0;
}

rts_nginx_field_t *rts_next_listed(const rts_nginx_list_t *list, const char *name, size_t bytes,
                                   const rts_nginx_field_t *after, int all)
{
    rts_place_t place = rts_list_begin(list);
    for (;;) {
        rts_nginx_field_t *field = all != 0 ? next(&place) : rts_list_next_sent(&place);
        if (field == NULL) {
            return NULL;
        }
        if (after != NULL) {
            after = field == after ? NULL : after;
        } else if (rts_field_is_named(field, name, bytes)) {
            return field;
        }
    }
}

uint32_t rts_drop_listed(const rts_nginx_list_t *list, const char *name, size_t bytes,
                         uint32_t keep)
{
    uint32_t kept = 0;
    rts_place_t place = rts_list_begin(list);
    for (rts_nginx_field_t *field = rts_list_next_sent(&place); field != NULL;
         field = rts_list_next_sent(&place)) {
        if (!rts_field_is_named(field, name, bytes)) {
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
