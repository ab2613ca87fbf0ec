/* rts_put_fields: whole, or not at all. */
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

int main(void)
{
    tap_test("fields are put one after the other, with their lengths", puts_all, NULL);
    tap_test("fields without room leave all as it was, and say how much they need", puts_none,
             NULL);
    return tap_done();
}
