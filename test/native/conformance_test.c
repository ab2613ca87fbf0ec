/*
 * The golden records of test/conformance/vectors.json, read and written by record.c.
 *
 * The file is searched, not parsed: every record in it is an object without others inside.
 */
#include <ctype.h>

#include "support.h"

static char *text; /* the file */

static void load(void)
{
    FILE *file = fopen(RTS_PROJECT_ROOT "/test/conformance/vectors.json", "rb");
    CHECK(file != NULL);
    text = calloc(1, 1 << 20);
    CHECK(fread(text, 1, (1 << 20) - 1, file) > 1000);
    fclose(file);
}

/* The next object of the list `name`: a copy of its text, for the caller to free; NULL at its end. */
static char *next_object(const char **at)
{
    const char *open = strchr(*at, '{');
    const char *end = strchr(*at, ']');
    if (open == NULL || (end != NULL && end < open)) {
        return NULL;
    }
    const char *close = strchr(open, '}');
    CHECK(close != NULL);
    *at = close + 1;
    return strndup(open, (size_t) (close - open));
}

static const char *list(const char *name)
{
    char key[64];
    snprintf(key, sizeof(key), "\"%s\": [", name);
    const char *at = strstr(text, key);
    CHECK(at != NULL);
    return at + strlen(key);
}

static const char *field(const char *object, const char *name)
{
    char key[64];
    snprintf(key, sizeof(key), "\"%s\":", name);
    const char *at = strstr(object, key);
    if (at == NULL) {
        tap_fail(__FILE__, __LINE__, "no %s in %s", name, object);
    }
    for (at += strlen(key); isspace((unsigned char) *at); at++) {
    }
    return at;
}

static uint32_t number(const char *object, const char *name)
{
    return (uint32_t) strtoul(field(object, name), NULL, 10);
}

/* The bytes of a hex string; *length how many. For the caller to free. */
static uint8_t *bytes(const char *object, const char *name, uint32_t *length)
{
    const char *at = field(object, name) + 1;
    const size_t n = strcspn(at, "\"") / 2;
    uint8_t *out = malloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        CHECK_EQ(sscanf(at + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t) byte;
    }
    *length = (uint32_t) n;
    return out;
}

static void records(const void *unused)
{
    (void) unused;
    const char *at = list("records");
    int count = 0;
    for (char *object; (object = next_object(&at)) != NULL; free(object), count++) {
        uint32_t size = 0;
        uint32_t length = 0;
        uint8_t *wire = bytes(object, "hex", &size);
        uint8_t *payload = bytes(object, "payload", &length);
        rts_record_t record;
        const uint8_t *data = NULL;
        CHECK_EQ(rts_record_read(wire, size, 4096, &record, &data), size);
        CHECK_EQ(record.length, length);
        CHECK_EQ(record.kind, number(object, "kind"));
        CHECK_EQ(record.flags, number(object, "flags"));
        CHECK_EQ(record.pending, number(object, "pending"));
        CHECK_EQ(record.id, number(object, "id"));
        CHECK_EQ(record.a, number(object, "a"));
        CHECK_EQ(record.b, number(object, "b"));
        CHECK_EQ(record.total, number(object, "total"));
        CHECK(memcmp(data, payload, length) == 0);

        uint8_t *copy = calloc(1, size);
        CHECK_EQ(rts_record_write(copy, size, 4096, &record, payload), size);
        CHECK(memcmp(copy, wire, size) == 0);
        free(copy);
        free(wire);
        free(payload);
    }
    CHECK(count >= 15);
}

static void messages(const void *unused)
{
    (void) unused;
    const char *at = list("messages");
    int count = 0;
    for (char *object; (object = next_object(&at)) != NULL; free(object), count++) {
        uint32_t size = 0;
        uint32_t length = 0;
        uint8_t *wire = bytes(object, "hex", &size);
        uint8_t *payload = bytes(object, "payload", &length);
        uint32_t filled = 0;
        uint32_t more = RTS_FLAG_MORE;
        for (uint32_t head = 0; head < size;) {
            rts_record_t record;
            const uint8_t *data = NULL;
            const int32_t step = rts_record_read(wire + head, size - head,
                                                 number(object, "ring_bytes"), &record, &data);
            CHECK(step > 0);
            CHECK_EQ(more, RTS_FLAG_MORE); /* the last one ends it */
            CHECK_EQ(record.kind, head == 0 ? number(object, "kind") : RTS_KIND_CHUNK);
            CHECK_EQ(record.id, number(object, "id"));
            CHECK_EQ(record.a, head == 0 ? number(object, "a") : 0);
            CHECK_EQ(record.b, head == 0 ? number(object, "b") : 0);
            CHECK_EQ(record.total, head == 0 ? length : 0);
            CHECK(filled + record.length <= length);
            CHECK(memcmp(payload + filled, data, record.length) == 0);
            filled += record.length;
            more = record.flags & RTS_FLAG_MORE;
            head += (uint32_t) step;
        }
        CHECK_EQ(more, 0);
        CHECK_EQ(filled, length);
        free(wire);
        free(payload);
    }
    CHECK(count >= 2);
}

static void bad_records(const void *unused)
{
    (void) unused;
    const char *at = list("badRecords");
    int count = 0;
    for (char *object; (object = next_object(&at)) != NULL; free(object), count++) {
        uint32_t size = 0;
        uint8_t *wire = bytes(object, "hex", &size);
        rts_record_t record;
        const uint8_t *data = NULL;
        CHECK_EQ(rts_record_read(wire, number(object, "published"), number(object, "ring_bytes"),
                                 &record, &data),
                 -RTS_E_PROTOCOL);
        free(wire);
    }
    CHECK(count >= 10);
}

static void load_test(const void *unused)
{
    (void) unused;
    load();
}

int main(void)
{
    tap_test("the golden vectors are there", load_test, NULL);
    if (tap.failed == 0) {
        tap_test("every golden record is read, and written byte for byte", records, NULL);
        tap_test("every golden message is the sum of its records", messages, NULL);
        tap_test("every golden bad record is refused", bad_records, NULL);
    }
    free(text);
    return tap_done();
}
