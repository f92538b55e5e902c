/* expect: duplicate case value */
#include "wrong.h"

struct co {
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(takt_sleep(1)); TAKT_AWAIT(takt_sleep(1));
    TAKT_END;
}
