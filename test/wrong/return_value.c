/* expect: takt_leave_with_TAKT_RETURN */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    if (my->n)
        return my->n;
    TAKT_END;
}
