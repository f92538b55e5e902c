/*
 * two_a.c - the half with the implementation: a coroutine of two_b.c is called, started and
 * spawned from here. Linked with two_b.c into one program.
 */
#include "../takt_uring.h" /* somebody else's header has included it before */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"
#include "../takt_uring.h" /* once more: nothing is there twice */

#define TWO_B_DECLARATIONS
#include "two_b.c"

#include <stdio.h>

struct waiter {
    takt_frame frame;
    takt_event event;
    int called, error;
    struct doubler one, other;
};

static TAKT_CORO(waiter)
{
    TAKT_BEGIN(waiter, my);
    TAKT_CALL(my->one, doubler, .number = 21);
    my->called = my->one.twice;
    TAKT_TRY_CALL(my->error, my->one, doubler, .number = -1);
    TAKT_START(my->other, doubler, .number = my->called);
    TAKT_JOIN(my->other);
    if (!TAKT_SPAWN(doubler, .number = 1))
        TAKT_THROW(TAKT_ESTRANDS);
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

int main(void)
{
    static net loop;
    static struct waiter waiter;
    net_config config = net_defaults();
    bool good;

    config.loop.strands = 4;
    TAKT_POOL(config, doubler, 1);
    good = net_init(&loop, &config) == 0 && TAKT_START_ON(&loop, waiter, waiter, .error = 1) &&
           net_run(&loop) == 0;
    good = net_free(&loop) == 0 && good;
    good = good && waiter.called == 42 && waiter.error == -EDOM && waiter.other.twice == 84 &&
           loop.sched.stats.spawned > 0;
    good = good && strerror_seen_from_b() == takt_strerror(-EDOM);
    printf("%d passed, %d failed\n", good, !good);
    return !good;
}
