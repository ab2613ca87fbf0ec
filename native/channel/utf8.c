/*
 * UTF-8 validation (Unicode 15, table 3-7), so that no string is mangled on its way to JavaScript.
 *
 * A state machine without branches: a byte's row has the next state of each state, where the state is
 * the number of bits to shift the row by. nginx waits while a string of many MiB is checked.
 *
 * Threads: any. Invariant: reads exactly n bytes.
 */
#include "resty_ts.h"

#include <string.h>

#define BAD 0u
#define START 6u
/* So many bytes from 80 to BF are to come. */
#define ONE 12u
#define TWO 18u
#define THREE 24u
/* The second byte's range is narrower after these. */
#define AFTER_E0 30u
#define AFTER_ED 36u
#define AFTER_F0 42u
#define AFTER_F4 48u
#define STATE_MASK 63u

#define TO(from, next) ((uint64_t) (next) << (from))
#define MORE (TO(ONE, START) | TO(TWO, ONE) | TO(THREE, TWO))
#define MORE_80 (MORE | TO(AFTER_ED, ONE) | TO(AFTER_F4, TWO))
#define MORE_90 (MORE | TO(AFTER_ED, ONE) | TO(AFTER_F0, TWO))
#define MORE_A0 (MORE | TO(AFTER_E0, ONE) | TO(AFTER_F0, TWO))

#define TIMES_4(row) row, row, row, row
#define TIMES_16(row) TIMES_4(row), TIMES_4(row), TIMES_4(row), TIMES_4(row)

static const uint64_t rows[256] = {
    /* 00 to 7F */
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    TIMES_16(TO(START, START)),
    /* 80, 90, A0, B0 */
    TIMES_16(MORE_80),
    TIMES_16(MORE_90),
    TIMES_16(MORE_A0),
    TIMES_16(MORE_A0),
    /* C0 and C1 are in no text, C2 to DF begin two bytes. */
    BAD,
    BAD,
    TO(START, ONE),
    TO(START, ONE),
    TIMES_4(TO(START, ONE)),
    TIMES_4(TO(START, ONE)),
    TIMES_4(TO(START, ONE)),
    TIMES_16(TO(START, ONE)),
    /* E0 to EF begin three. */
    TO(START, AFTER_E0),
    TIMES_4(TO(START, TWO)),
    TIMES_4(TO(START, TWO)),
    TIMES_4(TO(START, TWO)),
    TO(START, AFTER_ED),
    TO(START, TWO),
    TO(START, TWO),
    /* F0 to F4 begin four; the others are BAD. */
    TO(START, AFTER_F0),
    TO(START, THREE),
    TO(START, THREE),
    TO(START, THREE),
    TO(START, AFTER_F4),
};

int rts_utf8_valid(const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *) s;
    const uint8_t *const end = p + n;
    uint64_t state = START;

    while (p < end) {
        while ((state & STATE_MASK) == START && end - p >= 8) {
            uint64_t word;
            memcpy(&word, p, sizeof(word));
            if (word & 0x8080808080808080u) {
                break;
            }
            p += 8;
        }
        const uint8_t *const stop = end - p < 16 ? end : p + 16;
        while (p < stop) {
            state = rows[*p++] >> (state & STATE_MASK);
        }
    }
    return (state & STATE_MASK) == START;
}
