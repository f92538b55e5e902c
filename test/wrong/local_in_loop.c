/* expect: switch jumps over variable init|.n. (may be|is) (used )?uninitialized */
/* flags-clang: -Wall */
#include "wrong.h"

struct co {
    takt_frame frame;
    int kept;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    int n = 0;
    for (;;) {
        n++;
        my->kept = n;
        if (my->kept > 3)
            TAKT_AWAIT(takt_sleep(1)); /* n is gone, and counted on all the same */
    }
    TAKT_END;
}
