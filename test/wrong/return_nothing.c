/* expect: with no value|should return a value */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    if (my->n)
        return; /* would skip the defers */
    TAKT_END;
}
