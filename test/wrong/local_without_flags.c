/* expect-gcc: switch jumps over variable initialization */
/* flags: */
#include "wrong.h"

/* gcc says it without a single -W, because the header asks for it. clang looks for it only
 * under -Wall: see local_initialised.c. */
struct co {
    takt_frame frame;
    int kept;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    const int n = my->kept + 1;
    TAKT_AWAIT(takt_sleep(1));
    my->kept = n;
    TAKT_END;
}
