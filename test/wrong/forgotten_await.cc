/* expect: warn_unused_result */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    takt_recv(my->n, &my->n, sizeof my->n);
    TAKT_END;
}
