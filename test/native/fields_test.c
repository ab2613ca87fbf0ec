/* nginx's lists of fields: found, walked, and left out of what is sent. */
#include <stddef.h>
#include <string.h>

#include "support.h"

/* As ngx_table_elt_t, since nginx 1.23. */
typedef struct {
    rts_nginx_field_t field;
    void *more[2];
} entry_t;

static rts_nginx_text_t nginx_text(const char *s)
{
    return (rts_nginx_text_t){.bytes = strlen(s), .data = (uint8_t *) (uintptr_t) s};
}

static entry_t entry(uintptr_t hash, const char *name, const char *value)
{
    return (entry_t){.field = {.hash = hash, .name = nginx_text(name), .value = nginx_text(value)}};
}

enum { IN_FIRST = 3, IN_LAST = 2 };

/* A list of two parts with an empty one between. */
typedef struct {
    uint8_t before[200];
    rts_nginx_list_t list;
    uint8_t after[1024];
    rts_nginx_part_t empty;
    rts_nginx_part_t second;
    entry_t first[IN_FIRST];
    entry_t last[IN_LAST];
} response_t;

static void make_response(response_t *r)
{
    memset(r, 0, sizeof(*r));
    r->first[0] = entry(1, "X-A", "1");
    r->first[1] = entry(0, "X-Gone", "gone");
    r->first[2] = entry(7, "content-type", "a");
    r->last[0] = entry(1, "x-a", "");
    r->last[1] = entry(1, "x_a", "3");
    r->list.part = (rts_nginx_part_t){(uint8_t *) r->first, IN_FIRST, &r->empty};
    r->empty = (rts_nginx_part_t){(uint8_t *) r->last, 0, &r->second};
    r->second = (rts_nginx_part_t){(uint8_t *) r->last, IN_LAST, NULL};
    r->list.last = &r->second;
    r->list.field_bytes = sizeof(entry_t);
    r->list.room = 20;
    r->list.pool = r;
}

static void finds_lists(const void *argument)
{
    (void) argument;
    response_t r;
    make_response(&r);
    const uint32_t at = (uint32_t) offsetof(response_t, list);
    CHECK_EQ(rts_find_list(&r, 0), at);
    CHECK_EQ(rts_find_list(&r, at), at);
    CHECK_EQ(rts_find_list(&r, at + (uint32_t) sizeof(r.list)), 0);
    r.list.field_bytes = 8;
    CHECK_EQ(rts_find_list(&r, 0), 0);
}

static void walks_and_drops(const void *argument)
{
    (void) argument;
    response_t r;
    make_response(&r);
    rts_nginx_field_t *one = rts_next_listed(&r.list, "x-A", 3, NULL, 0);
    rts_nginx_field_t *two = rts_next_listed(&r.list, "x-A", 3, one, 0);
    CHECK(one == &r.first[0].field && two == &r.last[0].field);
    CHECK(rts_next_listed(&r.list, "x-A", 3, two, 0) == NULL);
    CHECK(rts_next_listed(&r.list, "x-gone", 6, NULL, 0) == NULL);
    CHECK(rts_next_listed(&r.list, "x-gone", 6, NULL, 1) == &r.first[1].field);
    CHECK_EQ(rts_drop_listed(&r.list, "X-a", 3, 1), 1);
    CHECK(r.first[0].field.hash == 1 && r.last[0].field.hash == 0);
    CHECK_EQ(rts_drop_listed(&r.list, "X-a", 3, 0), 0);
    CHECK(r.first[0].field.hash == 0 && r.last[1].field.hash == 1);
}

int main(void)
{
    tap_test("nginx's list of fields is found by its shape", finds_lists, NULL);
    tap_test("a name's fields are found and dropped in any case", walks_and_drops, NULL);
    return tap_done();
}
