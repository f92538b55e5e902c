/* expect: a thrown error must be negative */
/* flags: -O2 */
#define TAKT_IMPLEMENTATION
#include "wrong.h"

/* The compiler sees all of the library, and still says it. */
struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    if (my->n == 0)
        TAKT_THROW(EINVAL);
    TAKT_AWAIT(takt_sleep(1));
    TAKT_END;
}
