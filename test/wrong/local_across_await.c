/* expect: .n. (may be|is) (used )?uninitialized */
/* flags: -Wall */
/* flags-gcc: -O2 */
#include "wrong.h"

struct co {
    takt_frame frame;
    int kept;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    int n;
    n = my->kept + 1;
    TAKT_AWAIT(takt_sleep(1));
    my->kept = n; /* gone: the function was left and entered again */
    TAKT_END;
}
