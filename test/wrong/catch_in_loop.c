/* expect: TAKT_CATCH_stands_at_the_end|shadows a typedef */
/* flags: -O0 */
#include "wrong.h"

struct co {
    takt_frame frame;
    int i;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    for (my->i = 0; my->i < 3; my->i++) {
        TAKT_AWAIT(takt_sleep(1));
        TAKT_CATCH { my->i = 7; }
    }
    TAKT_END;
}
