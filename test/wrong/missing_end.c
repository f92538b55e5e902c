/* expect: expected|takt__unwind */
#include "wrong.h"

struct co {
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(takt_sleep(1));
}
