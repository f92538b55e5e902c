/*
 * two_b.c - the half without the implementation: takt.h is only included, and a coroutine is
 * defined for two_a.c to call. What both must know stands first.
 */
#include "../takt_uring.h"

struct doubler {
    takt_frame frame;
    int number; /* in */
    int twice;  /* out */
};

TAKT_CORO(doubler);

/* The address of a function of the implementation, as seen from here. */
const void *strerror_seen_from_b(void);

#ifndef TWO_B_DECLARATIONS

struct waiter {
    takt_frame frame;
    takt_event *event; /* in */
};

static TAKT_CORO(waiter) /* two_a.c has another one of this name */
{
    TAKT_BEGIN(waiter, my);
    TAKT_AWAIT(takt_sleep(1));
    takt_event_set(my->event);
    TAKT_END;
}

TAKT_CORO(doubler)
{
    TAKT_BEGIN(doubler, my);
    TAKT_AWAIT(takt_nop());
    if (my->number < 0)
        TAKT_THROW(-EDOM);
    my->twice = 2 * my->number;
    TAKT_END;
}

const void *strerror_seen_from_b(void)
{
    (void)waiter_coro;
    return takt_strerror(-EDOM);
}

#endif
