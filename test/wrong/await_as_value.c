/* expect: expected expression */
/* shown-gcc: a statement, no value: the result goes into its first argument */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    my->n = TAKT_AWAIT(takt_sleep(1));
    TAKT_END;
}
