/* rts_head_put: what nginx has, in its place; whole, or counted. */
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { FIXED = 48, SIZE = 512, REQUEST_FIELDS = 3 };

static rts_text_t text(const char *s)
{
    return (rts_text_t){.bytes = (int32_t) strlen(s), .data = (const uint8_t *) s};
}

/* An nginx of our own: a request is a number of fields. */
static int var_get(void *request, const char *name, size_t bytes, uint8_t *lowercase, int capture,
                   uint8_t **value, size_t *value_bytes, char **err)
{
    static const struct {
        const char *name;
        const char *value;
    } vars[] = {{"request_uri", "/a?b"}, {"uri", "/a"}, {"remote_addr", "::1"}, {"host", "h"}};
    (void) request, (void) lowercase, (void) capture, (void) err;
    for (size_t i = 0; i < sizeof(vars) / sizeof(vars[0]); i++) {
        if (strlen(vars[i].name) == bytes && memcmp(vars[i].name, name, bytes) == 0) {
            *value = (uint8_t *) (uintptr_t) vars[i].value;
            *value_bytes = strlen(vars[i].value);
            return 0;
        }
    }
    return -1;
}

static int method(void *request, uint8_t **name, size_t *bytes)
{
    (void) request;
    *name = (uint8_t *) (uintptr_t) "GET";
    *bytes = 3;
    return 0;
}

static int fields_count(void *request, int max, int *truncated)
{
    (void) max, (void) truncated;
    return *(const int *) request;
}

static int put_fields(void *request, rts_field_t *out, int count, int raw)
{
    (void) request;
    static const char *const names[REQUEST_FIELDS] = {"Host", "X-Empty", "cookie"};
    static const char *const values[REQUEST_FIELDS] = {"a", "", "b=1"};
    CHECK_EQ(raw, 1);
    for (int i = 0; i < count; i++) {
        out[i] = (rts_field_t){.name = text(names[i % REQUEST_FIELDS]),
                               .value = text(values[i % REQUEST_FIELDS])};
    }
    return 0;
}

static int response_field(void *request, const uint8_t *name, size_t bytes, uint8_t *name_buffer,
                          rts_text_t *values, int most, char **err)
{
    (void) request, (void) name_buffer, (void) most, (void) err;
    if (bytes != strlen("Content-Length") || memcmp(name, "Content-Length", bytes) != 0) {
        return 0;
    }
    values[0] = text("5");
    return 1;
}

/* One field that is sent, one that is not. */
typedef struct {
    rts_nginx_list_t list;
    rts_nginx_field_t fields[2];
    int requests;
    rts_head_t head;
} case_t;

static rts_nginx_text_t nginx_text(const char *s)
{
    return (rts_nginx_text_t){.bytes = strlen(s), .data = (uint8_t *) (uintptr_t) s};
}

static void make(case_t *c)
{
    memset(c, 0, sizeof(*c));
    c->requests = REQUEST_FIELDS;
    c->fields[0] = (rts_nginx_field_t){1, nginx_text("content-type"), nginx_text("t")};
    c->fields[1] = (rts_nginx_field_t){0, nginx_text("X-Gone"), nginx_text("gone")};
    c->list.part.first = (uint8_t *) c->fields;
    c->list.part.n = 2;
    c->list.field_bytes = sizeof(rts_nginx_field_t);
    c->head = (rts_head_t){
        .nginx = {var_get, method, fields_count, put_fields, response_field},
        .request = &c->requests,
        .response = &c->list,
        .token = 7,
        .id = 9,
        .status = 200,
        .phase = 4,
        .version = 11,
        .flags = 2,
        .is_known = 1,
    };
}

static void puts_all(const void *unused)
{
    (void) unused;
    case_t c;
    uint32_t buffer[SIZE / 4];
    make(&c);
    static const char texts[] = "GET/a?b/a::1hHostaX-Emptycookieb=1Content-Length5content-typet";
    const uint32_t whole = FIXED + 8 * 5 + (uint32_t) sizeof(texts) - 1;
    CHECK_EQ(rts_head_put(&c.head, (uint8_t *) buffer, SIZE), whole);
    const uint8_t *bytes = (const uint8_t *) buffer;
    CHECK(bytes[0] == 4 && bytes[1] == 11 && bytes[2] == 2 && bytes[3] == 0);
    const uint32_t words[] = {7, 9, 3 | 2u << 16, 200, 3, 4, 2, 0xffffffffu, 3, 1, 0xffffffffu};
    const uint32_t lengths[] = {4, 1, 7, 0, 6, 3, 14, 1, 12, 1};
    CHECK(memcmp(buffer + 1, words, sizeof(words)) == 0);
    CHECK(memcmp(buffer + FIXED / 4, lengths, sizeof(lengths)) == 0);
    CHECK(memcmp(bytes + FIXED + sizeof(lengths), texts, sizeof(texts) - 1) == 0);
}

/* Not a byte behind any end; and what it needs is known however little there is. */
static void counts_what_has_no_room(const void *unused)
{
    (void) unused;
    case_t c;
    make(&c);
    const uint32_t whole = rts_head_put(&c.head, NULL, 0);
    for (uint32_t size = FIXED; size <= whole; size++) {
        uint8_t *buffer = malloc(size); /* the sanitizer looks */
        CHECK_EQ(rts_head_put(&c.head, buffer, size), whole);
        free(buffer);
    }
}

static void takes_texts_that_are_given(const void *unused)
{
    (void) unused;
    case_t c;
    uint32_t buffer[SIZE / 4];
    make(&c);
    c.requests = 0;
    c.list.part.n = 0;
    c.head.is_known = 0;
    c.head.target = text("/t");
    c.head.uri = text("/u");
    c.head.args = text("q");
    c.head.original = text("/o");
    static const char texts[] = "GET/t/uq::1h/o";
    CHECK_EQ(rts_head_put(&c.head, (uint8_t *) buffer, SIZE), FIXED + sizeof(texts) - 1);
    CHECK(memcmp((const uint8_t *) buffer + FIXED, texts, sizeof(texts) - 1) == 0);
    CHECK_EQ(buffer[8], 1);
    CHECK_EQ(buffer[11], 2);
    c.head.args = (rts_text_t){0};
    rts_head_put(&c.head, (uint8_t *) buffer, SIZE);
    CHECK_EQ(buffer[8], 0xffffffffu);
}

static void says_what_cannot_be(const void *unused)
{
    (void) unused;
    case_t c;
    uint32_t buffer[SIZE / 4];
    make(&c);
    c.requests = 65536;
    CHECK_EQ(rts_head_put(&c.head, (uint8_t *) buffer, SIZE), RTS_HEAD_REQUEST_FIELDS);
    c.requests = 65535;
    CHECK(rts_head_put(&c.head, (uint8_t *) buffer, SIZE) > SIZE);
    c.head.request = NULL;
    memset(buffer, 0xff, sizeof(buffer));
    CHECK_EQ(rts_head_put(&c.head, (uint8_t *) buffer, SIZE), FIXED);
    CHECK_EQ(buffer[1], 7);
    for (size_t i = 5; i < FIXED / 4; i++) {
        CHECK_EQ(buffer[i], 0);
    }
}

int main(void)
{
    tap_test("all is in its place", puts_all, NULL);
    tap_test("what has no room is counted, and nothing is written behind the end",
             counts_what_has_no_room, NULL);
    tap_test("texts that are given take the place of nginx's", takes_texts_that_are_given, NULL);
    tap_test("what a head cannot count is said, and one may say nothing of a request",
             says_what_cannot_be, NULL);
    return tap_done();
}
