/* The mapping: what rts_channel_create refuses, and how what it makes is laid out. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support.h"

static void refuses_options(const void *unused)
{
    (void) unused;
    static const struct {
        uint32_t ring_bytes, first_cursor;
        const char *names;
    } bad[] = {
        {0, 0, "ring_bytes"},
        {1, 0, "ring_bytes"},
        {2048, 0, "ring_bytes"},
        {4095, 0, "ring_bytes"},
        {4097, 0, "ring_bytes"},
        {6144, 0, "ring_bytes"},
        {12288, 0, "ring_bytes"},
        {(1u << 30) + 1, 0, "ring_bytes"},
        {1u << 31, 0, "ring_bytes"},
        {UINT32_MAX, 0, "ring_bytes"},
        {4096, 1, "first_cursor"},
        {4096, 4, "first_cursor"},
        {4096, UINT32_MAX, "first_cursor"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        rts_channel_t *channel = NULL;
        char text[256];
        size_t length = sizeof(text);
        CHECK_EQ(
            rts_channel_create(bad[i].ring_bytes, bad[i].first_cursor, &channel, text, &length),
            -RTS_E_BAD_OPTION);
        CHECK(channel == NULL);
        CHECK(length > 0 && length < sizeof(text));
        CHECK(memmem(text, length, bad[i].names, strlen(bad[i].names)) != NULL);
    }
}

static void cuts_its_text(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = NULL;
    char text[8] = "1234567";
    size_t length = 4;
    CHECK_EQ(rts_channel_create(1, 0, &channel, text, &length), -RTS_E_BAD_OPTION);
    CHECK_EQ(length, 3);
    CHECK(memcmp(text, "rin", 3) == 0);
    CHECK(memcmp(text + 4, "567", 4) == 0);
    length = 0;
    CHECK_EQ(rts_channel_create(1, 0, &channel, text, &length), -RTS_E_BAD_OPTION);
    CHECK_EQ(rts_channel_create(1, 0, &channel, NULL, NULL), -RTS_E_BAD_OPTION);
    rts_channel_destroy(NULL);
}

static void takes_sizes(const void *unused)
{
    (void) unused;
    /* 2^30 is address space alone until it is touched. */
    for (uint32_t bytes = 4096; bytes <= (1u << 30); bytes *= 2) {
        rts_channel_t *channel = new_channel(bytes, 0);
        rts_view_t view;
        rts_channel_view(channel, &view);
        CHECK_EQ(view.sq_bytes, bytes);
        CHECK_EQ(view.cq_bytes, bytes);
        view.sq[bytes - 1] = 1;
        view.cq[bytes - 1] = 2;
        CHECK_EQ(view.sq[2 * (size_t) bytes - 1], 1);
        CHECK_EQ(view.cq[2 * (size_t) bytes - 1], 2);
        rts_channel_destroy(channel);
    }
}

static void begins_at_the_cursor(const void *argument)
{
    const uint32_t first = *(const uint32_t *) argument;
    rts_channel_t *channel = new_channel(4096, first);
    const rts_control_t *control = rts_host_control(channel);
    rts_view_t view;
    rts_channel_view(channel, &view);
    CHECK_EQ(control->magic, RTS_MAGIC);
    CHECK_EQ(control->protocol, RTS_PROTOCOL);
    CHECK_EQ(control->ring_bytes, 4096);
    CHECK_EQ(control->first_cursor, first);
    CHECK_EQ(view.sq_tail, first);
    CHECK_EQ(view.cq_head, first);
    CHECK_EQ(rts_sq_head(channel), first);
    CHECK_EQ(rts_cq_tail(channel), first);
    CHECK_EQ(atomic_load(&control->sq_tail), first);
    CHECK_EQ(atomic_load(&control->cq_head), first);
    CHECK_EQ(atomic_load(&control->sq_sleep), 0);
    CHECK_EQ(atomic_load(&control->sq_room), 0);
    CHECK_EQ(atomic_load(&control->cq_sleep), 0);
    CHECK_EQ(atomic_load(&control->cq_room), 0);
    CHECK_EQ(rts_host_pending(channel), 0);
    rts_channel_destroy(channel);
}

static void keeps_cursors_apart(const void *unused)
{
    (void) unused;
    CHECK(sizeof(rts_control_t) <= RTS_CONTROL_BYTES);
    const size_t offsets[] = {
        offsetof(rts_control_t, sq_tail),  offsetof(rts_control_t, sq_head),
        offsetof(rts_control_t, sq_sleep), offsetof(rts_control_t, sq_room),
        offsetof(rts_control_t, cq_tail),  offsetof(rts_control_t, cq_head),
        offsetof(rts_control_t, cq_sleep), offsetof(rts_control_t, cq_room),
    };
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        CHECK_EQ(offsets[i] % RTS_CACHE_LINE, 0);
        CHECK(offsets[i] >= RTS_CACHE_LINE);
        for (size_t j = 0; j < i; j++) {
            CHECK(offsets[i] != offsets[j]);
        }
    }
}

static void maps_rings_twice(const void *unused)
{
    (void) unused;
    const uint32_t bytes = 8192;
    rts_channel_t *channel = new_channel(bytes, 0);
    rts_view_t view;
    size_t mapped = 0;
    uint32_t sq_offset = 0;
    uint32_t cq_offset = 0;
    uint32_t ring_bytes = 0;
    uint8_t *base = rts_host_memory(channel, &mapped);
    rts_channel_view(channel, &view);
    rts_host_layout(channel, &sq_offset, &cq_offset, &ring_bytes);
    CHECK_EQ(ring_bytes, bytes);
    CHECK_EQ(mapped, RTS_CONTROL_BYTES + 4 * (size_t) bytes);
    CHECK(base + sq_offset == view.sq);
    CHECK(base + cq_offset == view.cq);
    CHECK(base == (uint8_t *) rts_host_control(channel));
    CHECK(sq_offset >= RTS_CONTROL_BYTES && cq_offset >= sq_offset + 2 * bytes);
    CHECK(cq_offset + 2 * (size_t) bytes <= mapped);

    /* Each byte of a ring is the byte one ring further on, and no byte of the other ring. */
    for (uint32_t i = 0; i < 2 * bytes; i++) {
        view.sq[i] = (uint8_t) (i % 251);
    }
    memset(view.cq, 0xcc, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        CHECK_EQ(view.sq[i], (uint8_t) ((i + bytes) % 251));
        CHECK_EQ(view.cq[i + bytes], 0xcc);
    }
    /* A write across the end is at the beginning. */
    memcpy(view.sq + bytes - 3, "across", 6);
    CHECK(memcmp(view.sq, "oss", 3) == 0);
    CHECK(memcmp(view.sq + bytes, "oss", 3) == 0);
    CHECK(memcmp(view.sq + bytes - 3, "acr", 3) == 0);
    rts_channel_destroy(channel);
}

/* The descriptor of a channel is not in its interface; /proc has it. */
static int find_memfd(void)
{
    char name[64];
    char target[256];
    for (int fd = 3; fd < 256; fd++) {
        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        const ssize_t n = readlink(name, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            if (strstr(target, "memfd:resty-ts") != NULL) {
                return fd;
            }
        }
    }
    return -1;
}

static void seals_its_memory(const void *unused)
{
    (void) unused;
    CHECK_EQ(find_memfd(), -1);
    rts_channel_t *channel = new_channel(4096, 0);
    const int fd = find_memfd();
    CHECK(fd >= 0);
    const int seals = fcntl(fd, F_GET_SEALS);
    CHECK(seals & F_SEAL_SHRINK);
    CHECK(seals & F_SEAL_GROW);
    CHECK(seals & F_SEAL_SEAL);
    CHECK_EQ(ftruncate(fd, 0), -1);
    CHECK_EQ(ftruncate(fd, 1 << 20), -1);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(rts_host_bell(channel), F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(rts_host_bell(channel), F_GETFL) & O_NONBLOCK);
    rts_channel_destroy(channel);
    CHECK_EQ(find_memfd(), -1);
}

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

static void leaves_nothing(const void *unused)
{
    (void) unused;
    const int before = count_descriptors();
    for (int i = 0; i < 200; i++) {
        rts_channel_t *channel = new_channel(65536, 0);
        char text[256];
        size_t length = sizeof(text);
        CHECK(rts_bell_pair(channel, text, &length) >= 0);
        CHECK(rts_bell_pair(channel, text, &length) >= 0); /* replaces, closes the first */
        char path[108];
        size_t path_length = sizeof(path);
        CHECK_EQ(rts_bell_listen(channel, NULL, path, &path_length, text, &length), 0);
        rts_channel_destroy(channel);
        path[path_length] = '\0';
        CHECK_EQ(access(path, F_OK), -1);
    }
    CHECK_EQ(count_descriptors(), before);
}

static void says_its_version(const void *unused)
{
    (void) unused;
    CHECK(strcmp(rts_version(), RTS_VERSION) == 0);
    const uint64_t before = rts_now_us();
    usleep(2000);
    CHECK(rts_now_us() - before >= 2000);
}

static int affinity_fails;

/* In the place of libc's, which fails where the kernel knows more cores than a cpu_set_t. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *cores)
{
    if (affinity_fails) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_sched_getaffinity, pid, size, cores) < 0 ? -1 : 0;
}

static void counts_cores(const void *unused)
{
    (void) unused;
    affinity_fails = 1;
    rts_channel_t *channel = new_channel(4096, 0);
    CHECK_EQ(rts_host_cores(channel), sysconf(_SC_NPROCESSORS_ONLN));
    affinity_fails = 0;
    rts_channel_destroy(channel);
}

int main(void)
{
    tap_test("a bad option is refused, and named", refuses_options, NULL);
    tap_test("an error's text is cut to the room there is", cuts_its_text, NULL);
    tap_test("every power of two from 4096 to 2^30 makes a ring", takes_sizes, NULL);
    for (int i = 0; i < FIRST_CURSORS; i++) {
        tap_test("cursors begin where they are told", begins_at_the_cursor, &first_cursors[i]);
    }
    tap_test("every cursor and flag has its own cache lines", keeps_cursors_apart, NULL);
    tap_test("each ring is mapped twice in a row", maps_rings_twice, NULL);
    tap_test("the memory cannot be resized, and is not inherited", seals_its_memory, NULL);
    tap_test("a destroyed channel leaves no descriptor and no file", leaves_nothing, NULL);
    tap_test("the version is the header's, and the clock goes on", says_its_version, NULL);
    tap_test("cores that the kernel does not tell are those of the machine", counts_cores, NULL);
    return tap_done();
}
