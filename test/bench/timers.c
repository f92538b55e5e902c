/*
 * timers.c - a million timers: armed, armed anew, cancelled.
 *
 *     timers takt|libuv|libev [COUNT]
 *
 * COUNT timers are armed for a random time in the next minute, then one of them at random
 * is armed anew COUNT times, then all are cancelled in another order: the same sequence
 * for everyone. None fires. Each timer stands in an object as its library's users have it:
 * takt's in a strand's 128 bytes.
 *
 * Prints nanoseconds of CPU time an operation: arm, re-arm, cancel.
 */
#define TAKT_IMPLEMENTATION
#include "takt.h"

#include "bench.h"

#include <ev.h>
#include <uv.h>

enum { MS_MIN = 1000, MS_RANGE = 60000 };

struct ours {
    takt_timer timer;
    unsigned char rest[sizeof(takt_strand) - sizeof(takt_timer)];
};

static takt_wheel wheel;
static struct ours *takt_timers;
static takt_ns start;

static uv_loop_t *uv;
static uv_timer_t *uv_timers;

static struct ev_loop *ev;
static ev_timer *ev_timers;

static void fired(void)
{
    errno = ETIME; /* the machine stood still for a second: the figures are worth nothing */
    bench_die("a timer fired");
}

/* Zeroed objects whose pages are there already: page faults are not what is measured. */
static void *make_objects(size_t count, size_t size)
{
    volatile unsigned char *const memory = (volatile unsigned char *)calloc(count, size);
    if (!memory)
        bench_die("calloc");
    for (size_t i = 0; i < count * size; i += 4096)
        memory[i] = 0;
    return (void *)(uintptr_t)memory;
}

/* -- takt ----------------------------------------------------------------- */

static void takt_setup(size_t count)
{
    takt_timers = (struct ours *)make_objects(count, sizeof *takt_timers);
    start = (takt_ns)bench_now();
    takt_wheel_init(&wheel, start);
}

static void takt_arm(size_t i, uint64_t ms)
{
    takt_timer_arm(&wheel, &takt_timers[i].timer, start + (takt_ns)ms * TAKT_MS);
}

static void takt_cancel_one(size_t i)
{
    takt_timer_disarm(&wheel, &takt_timers[i].timer);
}

/* -- libuv ---------------------------------------------------------------- */

static void on_uv_timer(uv_timer_t *timer)
{
    (void)timer;
    fired();
}

static void uv_setup(size_t count)
{
    uv = uv_default_loop();
    uv_timers = (uv_timer_t *)make_objects(count, sizeof *uv_timers);
    for (size_t i = 0; i < count; i++)
        uv_timer_init(uv, &uv_timers[i]);
}

static void uv_arm(size_t i, uint64_t ms)
{
    uv_timer_start(&uv_timers[i], on_uv_timer, ms, 0);
}

static void uv_cancel_one(size_t i)
{
    uv_timer_stop(&uv_timers[i]);
}

/* -- libev ---------------------------------------------------------------- */

static void on_ev_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)timer;
    (void)events;
    fired();
}

static void ev_setup(size_t count)
{
    ev = ev_default_loop(0);
    ev_timers = (ev_timer *)make_objects(count, sizeof *ev_timers);
    for (size_t i = 0; i < count; i++)
        ev_init(&ev_timers[i], on_ev_timer);
}

/* ev_timer_again() is libev's fast way to arm a timer anew. */
static void ev_arm(size_t i, uint64_t ms)
{
    ev_timers[i].repeat = (double)ms / 1e3;
    ev_timer_again(ev, &ev_timers[i]);
}

static void ev_cancel_one(size_t i)
{
    ev_timer_stop(ev, &ev_timers[i]);
}

/* -- the sequence ----------------------------------------------------------- */

struct step {
    uint32_t timer;
    uint32_t ms;
};

static struct step *make_steps(size_t count, bool each_once)
{
    struct step *const steps = (struct step *)malloc(count * sizeof *steps);
    static uint64_t seed = 88172645463325252u;
    if (!steps)
        bench_die("malloc");
    for (size_t i = 0; i < count; i++) {
        steps[i].timer = (uint32_t)(each_once ? i : bench_random(&seed) % count);
        steps[i].ms = (uint32_t)(MS_MIN + bench_random(&seed) % MS_RANGE);
    }
    for (size_t i = count - 1; each_once && i > 0; i--) {
        const size_t other = bench_random(&seed) % (i + 1);
        const uint32_t timer = steps[i].timer;
        steps[i].timer = steps[other].timer;
        steps[other].timer = timer;
    }
    return steps;
}

/* One function for each library, so that its calls are direct. */
#define RUN(who)                                                                                \
    static void run_##who(size_t count, struct step *const steps[3], uint64_t cpu[4])           \
    {                                                                                           \
        who##_setup(count);                                                                     \
        cpu[0] = bench_cpu();                                                                   \
        for (size_t i = 0; i < count; i++)                                                      \
            who##_arm(steps[0][i].timer, steps[0][i].ms);                                       \
        cpu[1] = bench_cpu();                                                                   \
        for (size_t i = 0; i < count; i++)                                                      \
            who##_arm(steps[1][i].timer, steps[1][i].ms);                                       \
        cpu[2] = bench_cpu();                                                                   \
        for (size_t i = 0; i < count; i++)                                                      \
            who##_cancel_one(steps[2][i].timer);                                                \
        cpu[3] = bench_cpu();                                                                   \
    }

RUN(takt)
RUN(uv)
RUN(ev)

int main(int argc, char **argv)
{
    const char *const who = argc > 1 ? argv[1] : "takt";
    const size_t count = bench_number(argc, argv, 2, 1000000);
    struct step *const steps[3] = {make_steps(count, true), make_steps(count, false),
                                   make_steps(count, true)};
    uint64_t cpu[4];
    bench_bound();
    if (strcmp(who, "libuv") == 0)
        run_uv(count, steps, cpu);
    else if (strcmp(who, "libev") == 0)
        run_ev(count, steps, cpu);
    else
        run_takt(count, steps, cpu);
    for (int i = 0; i < 3; i++)
        printf("%.2f ", (double)(cpu[i + 1] - cpu[i]) / (double)count);
    putchar('\n');
    return 0;
}
