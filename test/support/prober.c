/*
 * prober EVERY_MS PORT WORKERS [PORT WORKERS]...: asks a plain location of each of so many workers
 * of nginx, one thread a worker, until its standard input ends. Prints
 *
 *     wait PORT WORKER FROM TO MS         an answer that took more than SHORT_MS
 *     total PORT LONGEST_MS REQUESTS CONNECTIONS      at the end, once for each thread
 *
 * FROM and TO are CLOCK_MONOTONIC's, in ms. MS is without what other processes took of the cores:
 * how long the worker was ready to run meanwhile and had none, and so for the thread itself, which
 * sleeps but for this.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PROBES = 32, ANSWER_BYTES = 4096, RETRY_MS = 50, SHORT_MS = 10 };

static const char REQUEST[] = "GET /_up HTTP/1.1\r\nHost: a\r\n\r\n";

typedef struct {
    int port;
    long worker;
    double since; /* when it has asked what is not answered yet */
    double longest_ms;
    long requests;
    long connections;
} probe_t;

static probe_t probes[MOST_PROBES];
static int probe_count;
static int every_ms;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* How long a thread has been ready to run, and had no core; negative: it has ended. */
static double delayed_ms(int schedstat)
{
    char text[128] = "";
    unsigned long long waited = 0;
    if (pread(schedstat, text, sizeof(text) - 1, 0) <= 0 ||
        sscanf(text, "%*u %llu", &waited) != 1) {
        return -1;
    }
    return (double) waited / 1e6;
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
    const int on = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Returns the worker that has answered; 0: the connection is closed. */
static long ask(int fd)
{
    char answer[ANSWER_BYTES];
    if (send(fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL) < 0) {
        return 0;
    }
    const ssize_t length = recv(fd, answer, sizeof(answer) - 1, 0);
    if (length <= 0) {
        return 0;
    }
    answer[length] = '\0';
    const char *field = strstr(answer, "x-worker: ");
    return field == NULL ? 0 : strtol(field + strlen("x-worker: "), NULL, 10);
}

/* Whether nobody else has this worker. */
static int take(probe_t *probe, long worker)
{
    int is_free = 1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < probe_count; i++) {
        is_free = is_free && probes[i].worker != worker;
    }
    if (is_free) {
        probe->worker = worker;
        probe->connections++;
    }
    pthread_mutex_unlock(&lock);
    return is_free;
}

/* Until the connection is closed, or the worker is gone. */
static void ask_all_the_time(probe_t *probe, int fd, int own, int theirs)
{
    for (;; sleep_ms(every_ms)) {
        const double own_before = delayed_ms(own);
        const double their_before = delayed_ms(theirs);
        const double from = now_ms();
        pthread_mutex_lock(&lock);
        probe->since = from;
        pthread_mutex_unlock(&lock);
        if (ask(fd) == 0) {
            return;
        }
        const double to = now_ms();
        const double their_after = delayed_ms(theirs);
        if (their_before < 0 || their_after < 0) {
            return;
        }
        const double ms = to - from - (their_after - their_before) - (delayed_ms(own) - own_before);
        pthread_mutex_lock(&lock);
        probe->since = 0;
        probe->requests++;
        probe->longest_ms = ms > probe->longest_ms ? ms : probe->longest_ms;
        if (ms > SHORT_MS) {
            printf("wait %d %ld %.1f %.1f %.1f\n", probe->port, probe->worker, from, to, ms);
        }
        pthread_mutex_unlock(&lock);
    }
}

static void *run(void *of)
{
    probe_t *probe = of;
    const int own = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    for (;; sleep_ms(RETRY_MS)) {
        const int fd = connect_to(probe->port);
        const long worker = fd < 0 ? 0 : ask(fd);
        if (worker != 0 && take(probe, worker)) {
            char path[64];
            snprintf(path, sizeof(path), "/proc/%ld/task/%ld/schedstat", worker, worker);
            const int theirs = open(path, O_RDONLY | O_CLOEXEC);
            ask_all_the_time(probe, fd, own, theirs);
            close(theirs);
            pthread_mutex_lock(&lock);
            probe->worker = 0;
            probe->since = 0;
            pthread_mutex_unlock(&lock);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    char byte;
    setvbuf(stdout, NULL, _IOLBF, 0);
    every_ms = argc > 1 ? atoi(argv[1]) : 0;
    for (int i = 2; i + 1 < argc; i += 2) {
        for (int n = atoi(argv[i + 1]); n > 0 && probe_count < MOST_PROBES; n--) {
            probes[probe_count++].port = atoi(argv[i]);
        }
    }
    for (int i = 0; i < probe_count; i++) {
        pthread_create(&thread, NULL, run, &probes[i]);
    }
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < probe_count; i++) {
        const probe_t *one = &probes[i];
        const double waits_ms = one->since > 0 ? now_ms() - one->since : 0;
        printf("total %d %.1f %ld %ld\n", one->port,
               waits_ms > one->longest_ms ? waits_ms : one->longest_ms, one->requests,
               one->connections);
    }
    return 0;
}
