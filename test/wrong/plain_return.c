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
        return 0; /* would skip the defers */
    TAKT_END;
}
