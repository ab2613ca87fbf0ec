/*
 * A small TAP producer: one line a test, exit status 0, 1 or 77 (skipped, with the reason).
 *
 * Threads: the main one only; a test's other threads report to it by what they leave behind.
 * Invariant: a test ends at its first failed CHECK.
 */
#ifndef RTS_TEST_TAP_H
#define RTS_TEST_TAP_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    int count;
    int failed;
    jmp_buf end;
} tap;

__attribute__((format(printf, 3, 4), noreturn)) static inline void
tap_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    printf("# %s:%d: ", file, line);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    longjmp(tap.end, 1);
}

/* Ends the running test unless the condition holds. */
#define CHECK(condition)                                            \
    do {                                                            \
        if (!(condition)) {                                         \
            tap_fail(__FILE__, __LINE__, "not so: %s", #condition); \
        }                                                           \
    } while (0)

/* The same, and shows both numbers. */
#define CHECK_EQ(got, want)                                                                 \
    do {                                                                                    \
        const long long tap_got = (long long) (got);                                        \
        const long long tap_want = (long long) (want);                                      \
        if (tap_got != tap_want) {                                                          \
            tap_fail(__FILE__, __LINE__, "%s is %lld, want %lld", #got, tap_got, tap_want); \
        }                                                                                   \
    } while (0)

/* Runs one test; the sentence must hold. */
static inline void tap_test(const char *sentence, void (*body)(const void *), const void *argument)
{
    tap.count++;
    if (setjmp(tap.end) == 0) {
        body(argument);
        printf("ok %d - %s\n", tap.count, sentence);
    } else {
        tap.failed++;
        printf("not ok %d - %s\n", tap.count, sentence);
    }
    fflush(stdout);
}

/* Ends the program. */
static inline int tap_done(void)
{
    printf("1..%d\n", tap.count);
    fflush(stdout);
    return tap.failed == 0 ? 0 : 1;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

/* The same sequence in every run: xorshift64*. */
typedef struct {
    uint64_t state;
} tap_random_t;

static inline uint64_t tap_random(tap_random_t *random)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * 0x2545F4914F6CDD1Du;
}

#endif
