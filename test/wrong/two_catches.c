/* expect: duplicate case value */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(takt_sleep(1));
    TAKT_CATCH { my->n = 1; }
    TAKT_CATCH { my->n = 2; }
    TAKT_END;
}
