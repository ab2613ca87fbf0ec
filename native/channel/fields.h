/* A walk through one of nginx's lists of fields. Threads: Lua. */
#ifndef RTS_FIELDS_H
#define RTS_FIELDS_H

#include "resty_ts.h"

typedef struct {
    const rts_nginx_part_t *part;
    uintptr_t i;
    size_t field_bytes;
} rts_place_t;

rts_place_t rts_list_begin(const rts_nginx_list_t *list);

/* The next field that is sent; NULL: there is none. */
rts_nginx_field_t *rts_list_next_sent(rts_place_t *place);

int rts_field_is_named(const rts_nginx_field_t *field, const char *name, size_t bytes);

#endif
