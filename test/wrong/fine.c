/* expect: nothing */
#include "wrong.h"

/*
 * No mistake: so that the runner is known to be able to pass. Every word of the language
 * stands here once, and no compiler has anything to say, in C and in C++.
 */
struct co {
    takt_frame frame;
    int n, winner;
    char buf[64];
    takt_op ops[2];
    takt_event event;
    takt_semaphore permits;
    takt_group group;
    takt_idle idle;
    struct kid a, b;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->n)); }
    takt_idle_start(&my->frame, &my->idle, TAKT_SEC);
    TAKT_AWAIT(takt_sleep(TAKT_MS));
    TAKT_AWAIT(my->n, takt_within(TAKT_SEC, takt_recv(0, my->buf, sizeof my->buf)));
    TAKT_TRY_AWAIT(my->n, takt_send(1, my->buf, sizeof my->buf));
    if (my->n < 0)
        TAKT_AWAIT(takt_event_wait(&my->event));
    else
        TAKT_AWAIT(takt_acquire(&my->permits));
    my->ops[0] = takt_nop();
    my->ops[1] = takt_sleep(1);
    TAKT_AWAIT_ALL(my->ops, 2);
    TAKT_YIELD;
    TAKT_CALL(my->a, kid, .a = 1);
    TAKT_TRY_CALL(my->n, my->a, kid, .a = my->a.a);
    TAKT_CALL_WITHIN(TAKT_SEC, my->a, kid);
    TAKT_START(my->a, kid, .a = 1);
    TAKT_START(my->b, kid);
    TAKT_RACE(my->winner, my->a, my->b);
    TAKT_JOIN(my->a, my->b);
    TAKT_JOIN();
    if (!TAKT_SPAWN(kid, .a = 1) || !TAKT_GO(my->group, kid))
        TAKT_THROW(TAKT_ESTRANDS);
    TAKT_JOIN_GROUP(my->group);
    TAKT_CHECK(takt_listen(&my->frame, NULL, 0));
    TAKT_SYS(my->n, -1);
    if (my->n == 0)
        TAKT_RETURN;
    switch (my->n) { /* with no word inside */
    case 1:
        my->n = 2;
        break;
    default:
        my->n = 3;
    }
    {
        const int here = my->n; /* lives between two awaits */
        my->n = here + 1;
    }
    TAKT_CATCH { my->n = my->frame.error; }
    TAKT_END;
}

bool start(net *loop, struct co *object, takt_group *group);
bool start(net *loop, struct co *object, takt_group *group)
{
    net_config config = net_defaults();
    TAKT_POOL(config, kid, 10, .strands = 2);
    return net_init(loop, &config) == 0 && TAKT_START_ON(loop, *object, co, .n = -1) &&
           TAKT_SPAWN_ON(loop, kid) && TAKT_GO_ON(loop, *group, kid, .a = 1) &&
           net_run(loop) == 0;
}
