/* expect: struct (poll_it|kid_coro)|poll_it_coro */
#include "wrong.h"

struct co {
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    if (!TAKT_SPAWN(poll_it))
        TAKT_RETURN;
    TAKT_END;
}
