/* expect: must be signed and at least an int */
#include "wrong.h"

struct co {
    takt_frame frame;
    size_t n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_TRY_AWAIT(my->n, takt_recv(0, &my->n, 1));
    TAKT_END;
}
