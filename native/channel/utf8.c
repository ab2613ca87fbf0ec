/*
 * UTF-8 validation (Unicode 15, table 3-7), so that no string is mangled on its way to JavaScript.
 *
 * Threads: any. Invariant: reads exactly n bytes.
 */
#include "resty_ts.h"

#include <string.h>

int rts_utf8_valid(const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *) s;
    const uint8_t *const end = p + n;

    while (p < end) {
        while (end - p >= 8) {
            uint64_t word;
            memcpy(&word, p, sizeof(word));
            if (word & 0x8080808080808080u) {
                break;
            }
            p += 8;
        }
        if (p == end) {
            break;
        }
        const uint8_t lead = *p++;
        if (lead < 0x80) {
            continue;
        }
        /* The second byte's range is narrower after E0, ED, F0 and F4. */
        uint8_t low = 0x80;
        uint8_t high = 0xBF;
        int more;
        if (lead >= 0xC2 && lead <= 0xDF) {
            more = 1;
        } else if (lead >= 0xE0 && lead <= 0xEF) {
            more = 2;
            low = lead == 0xE0 ? 0xA0 : low;
            high = lead == 0xED ? 0x9F : high;
        } else if (lead >= 0xF0 && lead <= 0xF4) {
            more = 3;
            low = lead == 0xF0 ? 0x90 : low;
            high = lead == 0xF4 ? 0x8F : high;
        } else {
            return 0;
        }
        if (end - p < more || *p < low || *p > high) {
            return 0;
        }
        p++;
        while (--more > 0) {
            if ((*p++ & 0xC0) != 0x80) {
                return 0;
            }
        }
    }
    return 1;
}
