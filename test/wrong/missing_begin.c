/* expect: takt__unwind|case label not within a switch|.case. statement not in switch */
#include "wrong.h"

struct co {
    takt_frame frame;
};

TAKT_CORO(co)
{
    TAKT_AWAIT(takt_sleep(1));
    TAKT_END;
}
