/* expect: frame */
#include "wrong.h"

struct co {
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    my->n = 1;
    TAKT_END;
}
