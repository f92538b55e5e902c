/*
 * timer.c - the wheel against a model: a table that is searched
 *
 *     timer [SEED]
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

enum { TIMERS = 64 };

static uint64_t seed;

static uint64_t random_bits(void) /* splitmix64 */
{
    uint64_t z = seed += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* The model: a timer fires at a tick; among those of a tick, the order of arming counts. */
static takt_wheel wheel;
static takt_timer timers[TIMERS];
static uint64_t ticks[TIMERS], order[TIMERS], now_tick, sequence;
static bool armed[TIMERS];
static uint32_t count;
static takt_ns now;

static void begin(takt_ns when)
{
    memset(timers, 0, sizeof timers);
    memset(armed, 0, sizeof armed);
    count = 0;
    now = when;
    now_tick = (uint64_t)now >> 17;
    takt_wheel_init(&wheel, now);
}

static void arm(int i, takt_ns when)
{
    const uint64_t tick = when <= 0 ? 0 : ((uint64_t)when + (uint64_t)TAKT_TICK - 1) >> 17;
    takt_timer_arm(&wheel, &timers[i], when);
    count += !armed[i];
    armed[i] = true;
    ticks[i] = tick > now_tick ? tick : now_tick;
    order[i] = ++sequence;
    EXPECT(takt_timer_armed(&timers[i]));
}

static void disarm(int i)
{
    takt_timer_disarm(&wheel, &timers[i]);
    count -= armed[i];
    armed[i] = false;
    EXPECT(!takt_timer_armed(&timers[i]));
}

/* The next to fire by the model, or -1. */
static int next(void)
{
    int best = -1;
    for (int i = 0; i < TIMERS; i++)
        if (armed[i] && (best < 0 || ticks[i] < ticks[best] ||
                         (ticks[i] == ticks[best] && order[i] < order[best])))
            best = i;
    return best;
}

/* Lets time pass to `when`: those that fire are those of the model, in its order. */
static void pass(takt_ns when)
{
    takt_timer *timer;
    now = when;
    while ((timer = takt_wheel_expire(&wheel, now)) != NULL) {
        const int i = (int)(timer - timers), expected = next();
        EXPECT_EQ(i, expected);
        EXPECT(now >= timer->when); /* never early */
        EXPECT(!takt_timer_armed(timer));
        if (test_failures)
            return;
        count--;
        armed[i] = false;
    }
    now_tick = (uint64_t)now >> 17;
    EXPECT(next() < 0 || ticks[next()] > now_tick); /* never late */
    EXPECT_EQ(wheel.count, count);
}

static void check_deadline(void)
{
    const takt_ns deadline = takt_wheel_deadline(&wheel);
    const int first = next();
    if (first < 0)
        EXPECT_EQ(deadline, TAKT_FOREVER);
    else if (ticks[first] < (uint64_t)1 << 46)
        EXPECT(deadline <= (takt_ns)(ticks[first] << 17));
}

/* A wait of any magnitude: from none at all to for ever. */
static takt_ns some_time(void)
{
    const uint64_t bits = random_bits();
    const int magnitude = (int)(bits % 64);
    if (magnitude == 63)
        return TAKT_FOREVER;
    return (takt_ns)(random_bits() >> 1 >> (63 - magnitude));
}

static void the_wheel_agrees_with_a_table(void)
{
    const uint64_t first = seed;
    for (int round = 0; round < 60 && !test_failures; round++) {
        begin(round % 2 ? (takt_ns)(random_bits() >> 18) : some_time() >> 20);
        for (int step = 0; step < 2000 && !test_failures; step++) {
            const uint64_t what = random_bits() % 16;
            const int i = (int)(random_bits() % TIMERS);
            if (what < 6)
                arm(i, takt_after(now, some_time() >> (random_bits() % 24)));
            else if (what < 8) /* neighbours, so that ticks are shared */
                arm(i, takt_after(now, (takt_ns)(random_bits() % (8 * (uint64_t)TAKT_TICK))));
            else if (what < 9)
                arm(i, now - (takt_ns)(random_bits() % 1000000000));
            else if (what < 11)
                disarm(i);
            else if (what < 15)
                pass(takt_after(now, (takt_ns)(random_bits() % (80 * (uint64_t)TAKT_TICK))));
            else if (takt_wheel_deadline(&wheel) < (takt_ns)1 << 62 && random_bits() % 4 == 0)
                pass(takt_after(now, takt_wheel_deadline(&wheel) - now));
            else if (random_bits() % 64 == 0)
                pass(takt_after(now, some_time() >> 6));
            check_deadline();
        }
    }
    if (test_failures)
        printf("seed: %llu\n", (unsigned long long)first);
}

/* Sleeping until the deadline, and nothing else, gets there, in few steps. */
static void the_deadline_leads_to_every_timer(void)
{
    for (int magnitude = 0; magnitude < 62; magnitude++) {
        int steps = 0;
        begin((takt_ns)(random_bits() >> 20));
        arm(0, takt_after(now, (takt_ns)1 << magnitude));
        arm(1, takt_after(now, ((takt_ns)1 << magnitude) + 1));
        while (armed[0] && steps++ < 20 && !test_failures) {
            const takt_ns deadline = takt_wheel_deadline(&wheel);
            EXPECT(deadline > now);
            pass(deadline);
        }
        EXPECT(!armed[0]);
        EXPECT(now - timers[0].when < TAKT_TICK);
        EXPECT(steps <= 9);
    }
}

static void the_far_future_never_comes(void)
{
    begin(5);
    arm(0, TAKT_FOREVER);
    arm(1, TAKT_FOREVER - 1);
    check_deadline();
    EXPECT(takt_wheel_expire(&wheel, (takt_ns)1 << 61) == NULL);
    EXPECT(takt_wheel_expire(&wheel, TAKT_FOREVER) == NULL || now < TAKT_FOREVER);
    disarm(0);
    disarm(1);
    EXPECT_EQ(wheel.count, 0);
    EXPECT_EQ(takt_wheel_deadline(&wheel), TAKT_FOREVER);
}

static void one_tick_fires_in_the_order_of_arming(void)
{
    begin(1000 * TAKT_TICK);
    arm(0, now + 5000 * TAKT_TICK); /* first on a high level of the wheel ... */
    arm(1, now + 5000 * TAKT_TICK - 7);
    pass(now + 4990 * TAKT_TICK);
    arm(2, 6000 * TAKT_TICK - 9); /* ... and these right at the bottom */
    arm(3, 6000 * TAKT_TICK);
    arm(1, 6000 * TAKT_TICK); /* armed anew: behind the others */
    EXPECT_EQ(ticks[1], ticks[2]);
    pass(6000 * TAKT_TICK - 1);
    EXPECT_EQ(wheel.count, 4);
    EXPECT(takt_wheel_expire(&wheel, 6000 * TAKT_TICK) == &timers[0]);
    EXPECT(takt_wheel_expire(&wheel, 6000 * TAKT_TICK) == &timers[2]);
    EXPECT(takt_wheel_expire(&wheel, 6000 * TAKT_TICK) == &timers[3]);
    EXPECT(takt_wheel_expire(&wheel, 6000 * TAKT_TICK) == &timers[1]);
    EXPECT(takt_wheel_expire(&wheel, 6000 * TAKT_TICK) == NULL);
}

/* One that is due can still be called back, and another be armed, between two. */
static void what_is_due_can_be_disarmed(void)
{
    begin(0);
    for (int i = 0; i < 4; i++)
        arm(i, 1);
    EXPECT(takt_wheel_expire(&wheel, TAKT_TICK) == &timers[0]);
    takt_timer_disarm(&wheel, &timers[2]);
    takt_timer_disarm(&wheel, &timers[2]);
    takt_timer_arm(&wheel, &timers[0], 1); /* in the past by now: due, behind the others */
    EXPECT(takt_wheel_expire(&wheel, TAKT_TICK) == &timers[1]);
    EXPECT(takt_wheel_expire(&wheel, TAKT_TICK) == &timers[3]);
    EXPECT(takt_wheel_expire(&wheel, TAKT_TICK) == &timers[0]);
    EXPECT(takt_wheel_expire(&wheel, TAKT_TICK) == NULL);
    EXPECT_EQ(wheel.count, 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(the_wheel_agrees_with_a_table),
        TEST(the_deadline_leads_to_every_timer),
        TEST(the_far_future_never_comes),
        TEST(one_tick_fires_in_the_order_of_arming),
        TEST(what_is_due_can_be_disarmed),
    };
    seed = 20261121;
    if (argc == 2 && argv[1][0] >= '0' && argv[1][0] <= '9') {
        seed = strtoull(argv[1], NULL, 10);
        argc = 1;
    }
    printf("seed: %llu\n", (unsigned long long)seed);
    return RUN_TESTS(argc, argv, tests);
}
