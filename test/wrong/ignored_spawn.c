/* expect: warn_unused_result */
#include "wrong.h"

struct co {
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_SPAWN(kid, .a = 1); /* may be refused */
    TAKT_END;
}
