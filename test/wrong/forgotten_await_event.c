/* expect: warn_unused_result */
#include "wrong.h"

struct co {
    takt_frame frame;
    takt_event event;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    takt_event_wait(&my->event);
    TAKT_END;
}
