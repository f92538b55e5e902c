/* expect: empty body */
/* flags: -O0 */
#include "wrong.h"

struct co {
    takt_frame frame;
    int i;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_DEFER;
    {
        my->i = 1;
    }
    TAKT_AWAIT(takt_sleep(1));
    TAKT_END;
}
