/* expect: read-only|const-qualified */
#include "wrong.h"

struct co {
    takt_frame frame;
    const int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(my->n, takt_sleep(1));
    TAKT_END;
}
