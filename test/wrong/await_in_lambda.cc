/* expect: case label|.case. statement not in switch|takt__unwind */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    const auto helper = [=] { TAKT_AWAIT(my->n, takt_sleep(1)); };
    helper();
    TAKT_END;
}
