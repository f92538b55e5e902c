/* expect: TAKT_AWAIT_takes_one_or_two_arguments */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(my->n, takt_sleep(1), 3);
    TAKT_END;
}
