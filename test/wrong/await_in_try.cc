/* expect: jump to case label|cannot jump from switch statement */
#include "wrong.h"

struct co {
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    try {
        TAKT_AWAIT(takt_sleep(1));
    } catch (...) {
        TAKT_RETURN;
    }
    TAKT_END;
}
