/* Lua's doorbell: a socket pair, or a socket that only this process can connect to. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

typedef struct {
    char path[108];
    char text[256];
    size_t length;
} bell_t;

static bell_t listen_on(rts_channel_t *channel, const char *dir)
{
    bell_t bell = {.length = sizeof(bell.text)};
    size_t path_length = sizeof(bell.path);
    CHECK_EQ(rts_bell_listen(channel, dir, bell.path, &path_length, bell.text, &bell.length), 0);
    CHECK(path_length < sizeof(bell.path));
    bell.path[path_length] = '\0';
    return bell;
}

static int accept_bell(rts_channel_t *channel, bell_t *bell)
{
    bell->length = sizeof(bell->text);
    return rts_bell_accept(channel, bell->text, &bell->length);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int readable(int fd, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, timeout_ms) == 1 && (pollfd.revents & POLLIN) != 0;
}

static int is_gone(const char *path)
{
    char folder[108];
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = '\0';
    return access(path, F_OK) != 0 && access(folder, F_OK) != 0;
}

static void pair_rings(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = {.length = sizeof(bell.text)};
    uint64_t count = 0;
    rts_bell_ring(channel); /* before there is one */
    rts_bell_ring(channel);
    const int fd = rts_bell_pair(channel, bell.text, &bell.length);
    CHECK(fd >= 0);
    CHECK_EQ(read(fd, &count, sizeof(count)), 8);
    CHECK_EQ(read(fd, &count, sizeof(count)), -1); /* kept, once */
    CHECK_EQ(errno, EAGAIN);
    rts_bell_ring(channel);
    CHECK_EQ(read(fd, &count, sizeof(count)), 8);
    for (int i = 0; i < 100000; i++) {
        rts_bell_ring(channel); /* a full one does not block */
    }
    rts_channel_t *next = new_channel(4096, 0);
    rts_bell_move(channel, next);
    rts_channel_destroy(channel);
    CHECK_EQ(read(fd, &count, sizeof(count)), 8); /* it is the next one's */
    rts_channel_destroy(next);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
}

static void socket_is_private(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = listen_on(channel, NULL);
    char folder[108];
    struct stat stat_;
    CHECK(strncmp(bell.path, "/tmp/resty-ts-", 14) == 0);
    CHECK_EQ(stat(bell.path, &stat_), 0);
    CHECK(S_ISSOCK(stat_.st_mode));
    snprintf(folder, sizeof(folder), "%s", bell.path);
    *strrchr(folder, '/') = '\0';
    CHECK_EQ(stat(folder, &stat_), 0);
    CHECK_EQ(stat_.st_mode & 07777, 0700);
    CHECK_EQ(stat_.st_uid, getuid());

    const bell_t second = listen_on(channel, NULL); /* takes the first away */
    CHECK(is_gone(bell.path));
    CHECK(strcmp(bell.path, second.path) != 0);
    rts_bell_unlisten(channel);
    CHECK(is_gone(second.path));
    rts_bell_unlisten(channel);
    rts_channel_destroy(channel);
}

static void folder_can_be_chosen(const void *unused)
{
    (void) unused;
    char folder[] = "/tmp/rts-bell-test-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = listen_on(channel, folder);
    CHECK(strncmp(bell.path, folder, strlen(folder)) == 0);
    rts_channel_destroy(channel);
    CHECK(is_gone(bell.path));
    CHECK_EQ(rmdir(folder), 0);
}

static void listen_fails_in_words(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    char path[108];
    char text[256];
    char too_long[200];
    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[0] = '/';
    too_long[sizeof(too_long) - 1] = '\0';
    const char *const folders[] = {"/nonexistent-folder", "/proc", too_long};
    for (size_t i = 0; i < 3; i++) {
        size_t path_length = sizeof(path);
        size_t length = sizeof(text);
        CHECK_EQ(rts_bell_listen(channel, folders[i], path, &path_length, text, &length),
                 -RTS_E_SYSTEM);
        CHECK(length > 10);
    }
    size_t short_path = 10;
    size_t length = sizeof(text);
    CHECK_EQ(rts_bell_listen(channel, NULL, path, &short_path, text, &length), -RTS_E_SYSTEM);
    rts_channel_destroy(channel);
}

static void accepted_rings(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = listen_on(channel, NULL);
    const int fd = connect_to(bell.path);
    CHECK(fd >= 0);
    CHECK_EQ(accept_bell(channel, &bell), 0);
    CHECK(is_gone(bell.path)); /* nobody else can come any more */
    CHECK(!readable(fd, 0));

    char bytes[64];
    rts_bell_ring(channel);
    CHECK(readable(fd, 5000));
    CHECK(read(fd, bytes, sizeof(bytes)) >= 1);

    /* And through the flag. */
    CHECK_EQ(rts_cq_arm(channel, 0), 1);
    host_publish(channel, 24);
    CHECK(readable(fd, 5000));
    close(fd);
    rts_bell_ring(channel); /* a peer that is gone: no SIGPIPE */
    rts_channel_destroy(channel);
}

static void missed_ring_is_kept(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    char bytes[64];
    rts_bell_ring(channel);
    bell_t bell = listen_on(channel, NULL);
    rts_bell_ring(channel);
    const int fd = connect_to(bell.path);
    CHECK(!readable(fd, 0));
    CHECK_EQ(accept_bell(channel, &bell), 0);
    CHECK(readable(fd, 5000));
    CHECK_EQ(read(fd, bytes, sizeof(bytes)), 8); /* one ring */

    /* The next connection replaces this one, which sees its end. */
    bell = listen_on(channel, NULL);
    const int second = connect_to(bell.path);
    CHECK_EQ(accept_bell(channel, &bell), 0);
    CHECK_EQ(read(fd, bytes, sizeof(bytes)), 0);
    CHECK(!readable(second, 0));
    rts_bell_ring(channel);
    CHECK(readable(second, 5000));
    close(fd);
    close(second);
    rts_channel_destroy(channel);
}

static void full_socket_does_not_block(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = listen_on(channel, NULL);
    const int fd = connect_to(bell.path);
    CHECK_EQ(accept_bell(channel, &bell), 0);
    for (int i = 0; i < 200000; i++) {
        rts_bell_ring(channel);
    }
    CHECK(readable(fd, 0));
    close(fd);
    rts_channel_destroy(channel);
}

static void nobody_connected(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = listen_on(channel, NULL);
    CHECK_EQ(accept_bell(channel, &bell), -RTS_E_SYSTEM);
    CHECK(memmem(bell.text, bell.length, "accept", 6) != NULL);
    CHECK(is_gone(bell.path));
    rts_channel_destroy(channel);
}

static void other_process_is_refused(const void *unused)
{
    (void) unused;
    rts_channel_t *channel = new_channel(4096, 0);
    bell_t bell = listen_on(channel, NULL);
    int done[2];
    CHECK_EQ(pipe(done), 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const int fd = connect_to(bell.path);
        char byte = fd >= 0 ? 'c' : 'x';
        if (write(done[1], &byte, 1) != 1) {
            _exit(2);
        }
        /* Refused: we see the end of it, and no ring. */
        _exit(read(fd, &byte, 1) == 0 ? 0 : 1);
    }
    char byte = 0;
    CHECK_EQ(read(done[0], &byte, 1), 1);
    CHECK_EQ(byte, 'c');
    CHECK_EQ(accept_bell(channel, &bell), -RTS_E_SYSTEM);
    CHECK(memmem(bell.text, bell.length, "another process", 15) != NULL);
    CHECK(is_gone(bell.path));
    rts_bell_ring(channel);
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    /* And the channel is of use still. */
    bell = listen_on(channel, NULL);
    const int fd = connect_to(bell.path);
    CHECK_EQ(accept_bell(channel, &bell), 0);
    CHECK(readable(fd, 5000));
    close(fd);
    close(done[0]);
    close(done[1]);
    rts_channel_destroy(channel);
}

typedef struct {
    rts_channel_t *channel;
    _Atomic int stop;
} ringer_t;

static void *rings_on(void *argument)
{
    ringer_t *ringer = argument;
    while (!atomic_load(&ringer->stop)) {
        rts_bell_ring(ringer->channel);
    }
    return NULL;
}

/* The numbers of a doorbell that is replaced are taken by others at once. */
static void never_writes_to_others(const void *unused)
{
    (void) unused;
    bell_t bell = {.length = sizeof(bell.text)};
    ringer_t ringer = {.channel = new_channel(4096, 0)};
    rts_channel_t *next = new_channel(4096, 0);
    pthread_t thread;
    int strays = 0;
    CHECK(rts_bell_pair(ringer.channel, bell.text, &bell.length) >= 0);
    CHECK_EQ(pthread_create(&thread, NULL, rings_on, &ringer), 0);
    for (int i = 0; i < 50000; i++) {
        int others[2];
        if (i % 2 == 0) {
            rts_bell_pair(ringer.channel, bell.text, &bell.length);
        } else {
            rts_bell_move(ringer.channel, next);
            rts_bell_pair(next, bell.text, &bell.length);
        }
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, others), 0);
        sched_yield();
        strays += readable(others[0], 0) || readable(others[1], 0);
        close(others[0]);
        close(others[1]);
    }
    atomic_store(&ringer.stop, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(strays, 0);
    rts_channel_destroy(next);
    rts_channel_destroy(ringer.channel);
}

int main(void)
{
    tap_test("a pair rings, has what was rung before it, and never blocks", pair_rings, NULL);
    tap_test("the socket lies in a folder that is its owner's alone", socket_is_private, NULL);
    tap_test("the folder is made where it is wanted", folder_can_be_chosen, NULL);
    tap_test("a folder that cannot be made is an error in words", listen_fails_in_words, NULL);
    tap_test("the accepted connection is the doorbell, and its path is gone", accepted_rings, NULL);
    tap_test("a ring before the connection is kept", missed_ring_is_kept, NULL);
    tap_test("a doorbell that nobody reads does not block", full_socket_does_not_block, NULL);
    tap_test("accepting when nobody connected is an error", nobody_connected, NULL);
    tap_test("a connection of another process is refused", other_process_is_refused, NULL);
    tap_test("a ring while the doorbell is replaced reaches no other descriptor",
             never_writes_to_others, NULL);
    return tap_done();
}
