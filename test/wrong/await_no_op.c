/* expect: incompatible type|takt_op */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(my->n, my->n + 1);
    TAKT_END;
}
