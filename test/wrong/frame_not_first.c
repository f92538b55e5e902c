/* expect: the first member of struct co must be */
#include "wrong.h"

struct co {
    int n;
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    my->n = 1;
    TAKT_END;
}
