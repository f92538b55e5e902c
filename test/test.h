/*
 * test.h - what every test uses: EXPECT, traces, tests that are run by name.
 *
 * A test program lists its tests and calls RUN_TESTS. Each runs in the same process;
 * `program NAME...` runs only those named. It prints a line for each that fails, with -v
 * for each that passes too, and closes with "N passed, N failed", or exits 77 if it cannot
 * run here.
 */
#ifndef TEST_H
#define TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* test/coverage.sh counts children too: those that leave by _exit() or abort() are not asked
 * for their counters by libc. */
#ifdef TEST_COVERAGE
#include <signal.h>
#include <unistd.h>
extern void __gcov_dump(void);
#define _exit(status) (__gcov_dump(), (_exit)(status))

static void test_aborts(int number)
{
    (void)number;
    __gcov_dump(); /* abort() goes on when this returns */
}

#ifdef __SANITIZE_ADDRESS__
extern void __sanitizer_set_death_callback(void (*callback)(void));
#endif

__attribute__((constructor)) static void test_counts_aborts(void)
{
    signal(SIGABRT, test_aborts);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(__gcov_dump);
#endif
}
#endif

static int test_failures; /* of the test that runs */
static char test_trace[512];

#define EXPECT(cond)                                                                         \
    do {                                                                                     \
        if (!(cond)) {                                                                       \
            printf("%s:%d: expected %s\n", __FILE__, __LINE__, #cond);                       \
            test_failures++;                                                                 \
        }                                                                                    \
    } while (0)

/* Two integers that must be equal; both are printed. */
#define EXPECT_EQ(a, b)                                                                      \
    do {                                                                                     \
        const long long test_a = (long long)(a), test_b = (long long)(b);                    \
        if (test_a != test_b) {                                                              \
            printf("%s:%d: expected %s == %s, but %lld != %lld\n", __FILE__, __LINE__, #a,   \
                   #b, test_a, test_b);                                                      \
            test_failures++;                                                                 \
        }                                                                                    \
    } while (0)

/* The letters that were noted since the test began. */
#define EXPECT_TRACE(text)                                                                   \
    do {                                                                                     \
        if (strcmp(test_trace, (text)) != 0) {                                               \
            printf("%s:%d: expected the trace \"%s\", got \"%s\"\n", __FILE__, __LINE__,     \
                   (text), test_trace);                                                      \
            test_failures++;                                                                 \
        }                                                                                    \
    } while (0)

static inline void note(const char *text)
{
    const size_t len = strlen(test_trace);
    if (len + strlen(text) < sizeof test_trace)
        strcpy(test_trace + len, text);
}

/* How much slower than others this machine is, as SLOW=10 tells: deadlines are as much longer. */
static inline int test_slow(void)
{
    const char *const text = getenv("SLOW");
    const int slow = text ? atoi(text) : 1;
    return slow > 0 ? slow : 1;
}

/* Turns enough to see that nothing grows with them. Under a sanitizer each costs much more. */
#ifdef __SANITIZE_ADDRESS__
enum { TEST_MANY = 100 * 1000 };
#else
enum { TEST_MANY = 1000 * 1000 };
#endif

typedef struct test {
    const char *name;
    void (*run)(void);
} test;

static int test_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return 1;
    return argc == 1;
}

/* Runs those of the tests that are wanted, and counts them in. `mode`: on which, or NULL. */
static inline void test_run(const test *tests, size_t count, const char *mode, int argc,
                            char **argv, int *passed, int *failed)
{
    const int verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    for (size_t i = 0; i < count; i++) {
        if (!test_wanted(tests[i].name, argc - verbose, argv + verbose))
            continue;
        test_failures = 0;
        test_trace[0] = '\0';
        tests[i].run();
        if (test_failures || verbose)
            printf("%s %s%s%s\n", test_failures ? "FAIL" : "ok", tests[i].name,
                   mode ? " on " : "", mode ? mode : "");
        *failed += test_failures > 0;
        *passed += test_failures == 0;
    }
}

static inline int test_main(const test *tests, size_t count, int argc, char **argv)
{
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_run(tests, count, NULL, argc, argv, &passed, &failed);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

/* All of it on each of `modes`, an array of structs of `size` bytes that begin with a name, in
 * their order: what a mode refuses stays so. */
static inline int test_main_on(const void *modes, size_t size, size_t mode_count,
                               int (*enter)(size_t), const test *tests, size_t count, int argc,
                               char **argv)
{
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t m = 0; m < mode_count; m++) {
        const char *name;
        memcpy(&name, (const char *)modes + m * size, sizeof name);
        if (enter(m))
            test_run(tests, count, name, argc, argv, &passed, &failed);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

#define TEST(name) {#name, name}
#define RUN_TESTS(argc, argv, tests)                                                         \
    test_main((tests), sizeof(tests) / sizeof(tests)[0], (argc), (argv))
/* `enter(i)` prepares for the i-th mode; 0: it cannot be had here. */
#define RUN_MODES(argc, argv, tests, modes, enter)                                           \
    test_main_on((modes), sizeof(modes)[0], sizeof(modes) / sizeof(modes)[0], (enter),       \
                 (tests), sizeof(tests) / sizeof(tests)[0], (argc), (argv))

#endif
