/* rts_utf8_valid against a decoder that is slow and simple. */
#include "support.h"

/* RFC 3629: decodes one code point the long way and compares with its shortest encoding. */
static size_t encode_point(uint32_t point, uint8_t *out)
{
    if (point < 0x80) {
        out[0] = (uint8_t) point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (uint8_t) (0xC0 | point >> 6);
        out[1] = (uint8_t) (0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (uint8_t) (0xE0 | point >> 12);
        out[1] = (uint8_t) (0x80 | (point >> 6 & 0x3F));
        out[2] = (uint8_t) (0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (uint8_t) (0xF0 | point >> 18);
    out[1] = (uint8_t) (0x80 | (point >> 12 & 0x3F));
    out[2] = (uint8_t) (0x80 | (point >> 6 & 0x3F));
    out[3] = (uint8_t) (0x80 | (point & 0x3F));
    return 4;
}

static int reference(const uint8_t *s, size_t n)
{
    size_t at = 0;
    while (at < n) {
        const uint8_t lead = s[at];
        const size_t length = lead < 0x80   ? 1
                              : lead < 0xC0 ? 0
                              : lead < 0xE0 ? 2
                              : lead < 0xF0 ? 3
                              : lead < 0xF8 ? 4
                                            : 0;
        if (length == 0 || at + length > n) {
            return 0;
        }
        uint32_t point = length == 1 ? lead : lead & (0x7Fu >> length);
        for (size_t i = 1; i < length; i++) {
            if ((s[at + i] & 0xC0) != 0x80) {
                return 0;
            }
            point = point << 6 | (s[at + i] & 0x3F);
        }
        uint8_t shortest[4];
        if (point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF) ||
            encode_point(point, shortest) != length || memcmp(shortest, s + at, length) != 0) {
            return 0;
        }
        at += length;
    }
    return 1;
}

/* In a block of exactly n bytes, so that a sanitizer sees a byte too far. */
static int valid_exact(const uint8_t *s, size_t n)
{
    char *block = malloc(n > 0 ? n : 1);
    memcpy(block, s, n);
    const int valid = rts_utf8_valid(block, n);
    free(block);
    return valid;
}

static void short_strings(const void *unused)
{
    (void) unused;
    CHECK_EQ(rts_utf8_valid("", 0), 1);
    for (unsigned a = 0; a < 256; a++) {
        const uint8_t one[] = {(uint8_t) a};
        CHECK_EQ(valid_exact(one, 1), reference(one, 1));
        for (unsigned b = 0; b < 256; b++) {
            const uint8_t two[] = {(uint8_t) a, (uint8_t) b};
            CHECK_EQ(valid_exact(two, 2), reference(two, 2));
        }
    }
}

static void three_and_four(const void *unused)
{
    (void) unused;
    /* The bytes at which table 3-7 changes, and their neighbours. */
    const uint8_t edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                             0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED,
                             0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
    const size_t n = sizeof(edges);
    for (size_t i = 0; i < n * n * n * n; i++) {
        const uint8_t s[] = {edges[i / (n * n * n)], edges[i / (n * n) % n], edges[i / n % n],
                             edges[i % n]};
        CHECK_EQ(valid_exact(s, 3), reference(s, 3));
        CHECK_EQ(valid_exact(s, 4), reference(s, 4));
    }
}

static void every_code_point(const void *unused)
{
    (void) unused;
    for (uint32_t point = 0; point < 0x200000; point++) {
        uint8_t s[4];
        const size_t n = encode_point(point, s);
        const int scalar = point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
        CHECK_EQ(rts_utf8_valid((const char *) s, n), scalar);
        CHECK_EQ(reference(s, n), scalar);
    }
}

/* Long strings: the eight-byte steps, and everything at every offset to them. */
static void mutations(const void *unused)
{
    (void) unused;
    const int rounds = UNDER_SANITIZER ? 100000 : 1000000;
    tap_random_t random = {.state = 99};
    int valid = 0;
    for (int round = 0; round < rounds; round++) {
        uint8_t s[64];
        size_t n = 0;
        const size_t points = tap_random(&random) % 14;
        for (size_t i = 0; i < points; i++) {
            static const uint32_t below[] = {0x80, 0x80, 0x800, 0xD800, 0x110000};
            uint32_t point = (uint32_t) (tap_random(&random) % below[tap_random(&random) % 5]);
            if (point >= 0xD800 && point <= 0xDFFF) {
                point -= 0x800;
            }
            n += encode_point(point, s + n);
        }
        CHECK_EQ(valid_exact(s, n), 1);
        if (n == 0) {
            continue;
        }
        switch (tap_random(&random) % 3) {
        case 0: s[tap_random(&random) % n] = (uint8_t) tap_random(&random); break;
        case 1: s[tap_random(&random) % n] ^= (uint8_t) (1u << (tap_random(&random) % 8)); break;
        default: n = tap_random(&random) % n;
        }
        CHECK_EQ(valid_exact(s, n), reference(s, n));
        valid += reference(s, n);
    }
    /* Both answers must have been asked for. */
    CHECK(valid > rounds / 20 && valid < rounds - rounds / 20);
}

int main(void)
{
    tap_test("every string of 0 to 2 bytes is judged as by the reference", short_strings, NULL);
    tap_test("every 3 and 4 bytes from the table's edges are judged as by the reference",
             three_and_four, NULL);
    tap_test("exactly the scalar values are valid", every_code_point, NULL);
    tap_test("mutated strings are judged as by the reference", mutations, NULL);
    return tap_done();
}
