/* rts_put_fields: whole, or not at all. */
#include <stddef.h>
#include <string.h>

#include "support.h"

enum { SIZE = 64, AT = 16 };

static rts_text_t text(const char *s)
{
    return (rts_text_t){.bytes = (int32_t) strlen(s), .data = (const uint8_t *) s};
}

static const char whole[] = "HostaX-Emptycookieb=1";
enum { WHOLE = sizeof(whole) - 1 };

static void make(rts_field_t *fields)
{
    fields[0] = (rts_field_t){.name = text("Host"), .value = text("a")};
    fields[1] = (rts_field_t){.name = text("X-Empty"), .value = text("")};
    fields[2] = (rts_field_t){.name = text("cookie"), .value = text("b=1")};
}

static void puts_all(const void *argument)
{
    (void) argument;
    uint8_t buffer[SIZE];
    uint32_t lengths[6];
    rts_field_t fields[3];
    make(fields);
    memset(buffer, '.', sizeof(buffer));
    CHECK_EQ(rts_put_fields(buffer, AT + WHOLE, AT, lengths, fields, 3), AT + WHOLE);
    CHECK(memcmp(buffer + AT, whole, WHOLE) == 0);
    CHECK(buffer[AT - 1] == '.' && buffer[AT + WHOLE] == '.');
    const uint32_t expected[6] = {4, 1, 7, 0, 6, 3};
    CHECK(memcmp(lengths, expected, sizeof(expected)) == 0);
}

static void puts_none(const void *argument)
{
    (void) argument;
    uint8_t buffer[SIZE];
    uint32_t lengths[6] = {77, 77, 77, 77, 77, 77};
    rts_field_t fields[3];
    make(fields);
    memset(buffer, '.', sizeof(buffer));
    CHECK_EQ(rts_put_fields(buffer, AT + WHOLE - 1, AT, lengths, fields, 3), AT + WHOLE);
    for (int i = 0; i < SIZE; i++) {
        CHECK(buffer[i] == '.');
    }
    CHECK_EQ(lengths[0], 77);
    CHECK_EQ(rts_put_fields(buffer, SIZE, AT, lengths, fields, 0), AT);
}

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

static void puts_listed(const void *argument)
{
    (void) argument;
    static const char expected[] = "X-A1content-typeax-ax_a3";
    enum { BYTES = sizeof(expected) - 1 };
    response_t r;
    make_response(&r);
    uint32_t known = 77;
    CHECK_EQ(rts_count_listed(&r.list, &known), 4);
    CHECK_EQ(known, 1);
    uint8_t buffer[SIZE];
    uint32_t lengths[8];
    memset(buffer, '.', sizeof(buffer));
    CHECK_EQ(rts_put_listed(buffer, AT + BYTES - 1, AT, lengths, &r.list), AT + BYTES);
    CHECK(buffer[AT] == '.');
    CHECK_EQ(rts_put_listed(buffer, AT + BYTES, AT, lengths, &r.list), AT + BYTES);
    CHECK(memcmp(buffer + AT, expected, BYTES) == 0);
    CHECK(buffer[AT - 1] == '.' && buffer[AT + BYTES] == '.');
    const uint32_t pairs[8] = {3, 1, 12, 1, 3, 0, 3, 1};
    CHECK(memcmp(lengths, pairs, sizeof(pairs)) == 0);
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
    tap_test("a list's fields are put in their order, but for those that are gone", puts_listed,
             NULL);
    tap_test("a name's fields are found and dropped in any case", walks_and_drops, NULL);
    tap_test("fields are put one after the other, with their lengths", puts_all, NULL);
    tap_test("fields without room leave all as it was, and say how much they need", puts_none,
             NULL);
    return tap_done();
}
