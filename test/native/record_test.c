/* Records: each boundary of their length, and everything that is none. */
#include "support.h"

static const uint8_t kinds[] = {
    RTS_KIND_CALL,  RTS_KIND_NOTIFY, RTS_KIND_CANCEL, RTS_KIND_MODULE, RTS_KIND_FUNCTION,
    RTS_KIND_CHUNK, RTS_KIND_RESULT, RTS_KIND_ERROR,  RTS_KIND_READY,  RTS_KIND_LOG,
    RTS_KIND_ASK,   RTS_KIND_WAIT,   RTS_KIND_LOGGED};

static int is_kind(unsigned kind)
{
    for (size_t i = 0; i < sizeof(kinds); i++) {
        if (kinds[i] == kind) {
            return 1;
        }
    }
    return 0;
}

static void has_its_layout(const void *unused)
{
    (void) unused;
    CHECK_EQ(sizeof(rts_record_t), 24);
    CHECK_EQ(offsetof(rts_record_t, length), 0);
    CHECK_EQ(offsetof(rts_record_t, kind), 4);
    CHECK_EQ(offsetof(rts_record_t, flags), 5);
    CHECK_EQ(offsetof(rts_record_t, pending), 6);
    CHECK_EQ(offsetof(rts_record_t, id), 8);
    CHECK_EQ(offsetof(rts_record_t, a), 12);
    CHECK_EQ(offsetof(rts_record_t, b), 16);
    CHECK_EQ(offsetof(rts_record_t, total), 20);
}

static void is_padded_to_eight(const void *unused)
{
    (void) unused;
    for (uint32_t length = 0; length < 4096; length++) {
        const uint32_t size = rts_record_size(length);
        CHECK_EQ(size % 8, 0);
        CHECK(size >= 24 + length && size < 24 + length + 8);
    }
    for (uint32_t ring = 4096; ring <= (1u << 30); ring *= 2) {
        CHECK_EQ(4 * rts_record_size(rts_record_max(ring)), ring);
    }
}

/* Writes at every place of a ring, so that every record crosses its end once, and reads it back. */
static void comes_back_from_every_place(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    const uint32_t ring = 4096;
    const uint32_t most = rts_record_max(ring);
    const uint32_t lengths[] = {0, 1, 7, 8, 9, 15, 16, 17, most - 1, most};
    rts_channel_t *channel = new_channel(ring, first);
    rts_view_t view;
    rts_channel_view(channel, &view);
    uint8_t payload[4096];
    tap_random_t random = {.state = 42};
    uint32_t cursor = first;

    for (int round = 0; round < 2000; round++) {
        const uint32_t length =
            lengths[tap_random(&random) % (sizeof(lengths) / sizeof(lengths[0]))];
        for (uint32_t i = 0; i < length; i++) {
            payload[i] = (uint8_t) tap_random(&random);
        }
        const uint8_t kind = kinds[tap_random(&random) % sizeof(kinds)];
        const rts_record_t record = {
            .length = length,
            .kind = kind,
            .pending = kind == RTS_KIND_CALL ? (uint16_t) tap_random(&random) : 0,
            .flags = (uint8_t) (tap_random(&random) & RTS_FLAG_MORE),
            .id = (uint32_t) tap_random(&random),
            .a = (uint32_t) tap_random(&random),
            .b = (uint32_t) tap_random(&random),
            .total = (uint32_t) tap_random(&random),
        };
        uint8_t *at = view.sq + (cursor & (ring - 1));
        const int32_t size = rts_record_write(at, ring, ring, &record, payload);
        CHECK_EQ(size, rts_record_size(length));
        CHECK_EQ(rts_sq_publish(channel, cursor + (uint32_t) size), 0);

        rts_record_t back;
        const uint8_t *data = NULL;
        const uint32_t tail = atomic_load(&rts_host_control(channel)->sq_tail);
        CHECK_EQ(rts_record_read(at, tail - cursor, ring, &back, &data), size);
        CHECK(memcmp(&back, &record, sizeof(record)) == 0);
        CHECK(data == at + sizeof(record));
        CHECK(memcmp(data, payload, length) == 0);
        cursor = tail;
        host_read_to(channel, cursor);
    }
    CHECK_EQ(rts_sq_head(channel), cursor);
    rts_channel_destroy(channel);
}

static void needs_room(const void *unused)
{
    (void) unused;
    const uint32_t ring = 4096;
    uint8_t memory[2048];
    uint8_t payload[2048] = {0};
    for (uint32_t length = 0; length <= rts_record_max(ring); length += 7) {
        const rts_record_t record = {.length = length, .kind = RTS_KIND_CALL};
        const uint32_t size = rts_record_size(length);
        memset(memory, 0xee, sizeof(memory));
        CHECK_EQ(rts_record_write(memory, size - 1, ring, &record, payload), 0);
        CHECK_EQ(rts_record_write(memory, 0, ring, &record, payload), 0);
        for (size_t i = 0; i < sizeof(memory); i++) {
            CHECK_EQ(memory[i], 0xee);
        }
        CHECK_EQ(rts_record_write(memory, size, ring, &record, payload), size);
        for (size_t i = size; i < sizeof(memory); i++) {
            CHECK_EQ(memory[i], 0xee);
        }
    }
    const uint32_t too_long[] = {rts_record_max(ring) + 1, ring, UINT32_MAX - 7, UINT32_MAX};
    for (size_t i = 0; i < sizeof(too_long) / sizeof(too_long[0]); i++) {
        const rts_record_t record = {.length = too_long[i], .kind = RTS_KIND_CALL};
        CHECK_EQ(rts_record_write(memory, sizeof(memory), ring, &record, payload),
                 -RTS_E_TOO_LARGE);
    }
}

/* Reads from a block of exactly `available` bytes: the sanitizers see each byte too far. */
static int32_t read_exact(const rts_record_t *record, uint32_t available, uint32_t ring)
{
    uint8_t *block = calloc(1, available > 0 ? available : 1);
    memcpy(block, record, available < sizeof(*record) ? available : sizeof(*record));
    rts_record_t out;
    const uint8_t *payload = NULL;
    const int32_t size = rts_record_read(block, available, ring, &out, &payload);
    if (size > 0 && (payload != block + 24 || out.length > available - 24)) {
        free(block);
        return 0;
    }
    free(block);
    return size;
}

static void is_refused_when_cut(const void *unused)
{
    (void) unused;
    const uint32_t ring = 4096;
    for (uint32_t length = 0; length <= rts_record_max(ring); length += 61) {
        const rts_record_t record = {.length = length, .kind = RTS_KIND_RESULT};
        const uint32_t size = rts_record_size(length);
        for (uint32_t available = 0; available < size; available += available < 48 ? 1 : 13) {
            CHECK_EQ(read_exact(&record, available, ring), -RTS_E_PROTOCOL);
        }
        CHECK_EQ(read_exact(&record, size - 1, ring), -RTS_E_PROTOCOL);
        CHECK_EQ(read_exact(&record, size, ring), size);
    }
}

static void is_refused_when_too_long(const void *unused)
{
    (void) unused;
    const uint32_t rings[] = {4096, 8192, 65536, 1u << 20, 1u << 30};
    for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
        const uint32_t most = rts_record_max(rings[i]);
        /* UINT32_MAX - 6 and above wrap to a small size when rounded up. */
        const uint32_t bad[] = {most + 1,       most + 8,        rings[i],        rings[i] + 1,
                                1u << 31,       UINT32_MAX - 31, UINT32_MAX - 24, UINT32_MAX - 7,
                                UINT32_MAX - 6, UINT32_MAX};
        for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
            const rts_record_t record = {.length = bad[j], .kind = RTS_KIND_CALL};
            CHECK_EQ(read_exact(&record, 4096, rings[i]), -RTS_E_PROTOCOL);
        }
    }
}

static void is_refused_past_the_ring(const void *unused)
{
    (void) unused;
    /* More published than there is: a cursor that lies. */
    const rts_record_t record = {.length = 0, .kind = RTS_KIND_CALL};
    uint8_t block[64] = {0};
    memcpy(block, &record, sizeof(record));
    rts_record_t out;
    const uint8_t *payload;
    CHECK_EQ(rts_record_read(block, 4097, 4096, &out, &payload), -RTS_E_PROTOCOL);
    CHECK_EQ(rts_record_read(block, UINT32_MAX, 4096, &out, &payload), -RTS_E_PROTOCOL);
    CHECK_EQ(rts_record_read(block, 4096, 4096, &out, &payload), 24);
}

static void is_refused_of_unknown_kind(const void *unused)
{
    (void) unused;
    for (unsigned kind = 0; kind < 256; kind++) {
        const rts_record_t record = {.length = 8, .kind = (uint8_t) kind};
        CHECK_EQ(read_exact(&record, 32, 4096), is_kind(kind) ? 32 : -RTS_E_PROTOCOL);
    }
}

static void is_refused_with_unknown_flags(const void *unused)
{
    (void) unused;
    for (unsigned flags = 0; flags < 256; flags++) {
        const rts_record_t record = {.kind = RTS_KIND_CALL, .flags = (uint8_t) flags};
        CHECK_EQ(read_exact(&record, 24, 4096), flags <= 1 ? 24 : -RTS_E_PROTOCOL);
    }
    for (unsigned bit = 0; bit < 16; bit++) {
        const rts_record_t record = {.kind = RTS_KIND_NOTIFY, .pending = (uint16_t) (1u << bit)};
        CHECK_EQ(read_exact(&record, 24, 4096), -RTS_E_PROTOCOL);
    }
}

static void never_leads_out(const void *unused)
{
    (void) unused;
    tap_random_t random = {.state = 7};
    for (int i = 0; i < 300000; i++) {
        uint8_t *block = malloc(512);
        for (size_t at = 0; at < 512; at += 8) {
            const uint64_t word = tap_random(&random);
            memcpy(block + at, &word, 8);
        }
        /* Mostly plausible: else nearly all would be refused by the first test. */
        const uint32_t length = (uint32_t) (tap_random(&random) % 600);
        memcpy(block, &length, 4);
        block[4] = kinds[tap_random(&random) % sizeof(kinds)];
        if (tap_random(&random) % 4 != 0) {
            block[5] = (uint8_t) (tap_random(&random) & 1);
            block[6] = block[7] = 0;
        }
        const uint32_t available = (uint32_t) (tap_random(&random) % 513);
        rts_record_t out;
        const uint8_t *payload = NULL;
        const int32_t size = rts_record_read(block, available, 4096, &out, &payload);
        const int good = available >= 24 && rts_record_size(length) <= available && block[5] <= 1 &&
                         ((block[6] == 0 && block[7] == 0) || block[4] == RTS_KIND_CALL);
        CHECK_EQ(size, good ? (int32_t) rts_record_size(length) : -RTS_E_PROTOCOL);
        free(block);
    }
}

int main(void)
{
    tap_test("a record's header is laid out as the wire format says", has_its_layout, NULL);
    tap_test("a record is padded to a multiple of 8, and four of the largest fit a ring",
             is_padded_to_eight, NULL);
    for (int i = 0; i < FIRST_CURSORS; i++) {
        tap_test("a record comes back from every place of the ring", comes_back_from_every_place,
                 &first_cursors[i]);
    }
    tap_test("a record is written where there is room for all of it, and nowhere else", needs_room,
             NULL);
    tap_test("a record that is cut is refused", is_refused_when_cut, NULL);
    tap_test("a record longer than a quarter of the ring is refused", is_refused_when_too_long,
             NULL);
    tap_test("more than a ring of published bytes is refused", is_refused_past_the_ring, NULL);
    tap_test("a record of an unknown kind is refused", is_refused_of_unknown_kind, NULL);
    tap_test("a record with unknown flags, or a pending count where none belongs, is refused",
             is_refused_with_unknown_flags, NULL);
    tap_test("of random bytes exactly the well-formed are taken", never_leads_out, NULL);
    return tap_done();
}
