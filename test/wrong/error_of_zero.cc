/* expect: a thrown error must be negative */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(takt_sleep(1));
    if (my->n)
        TAKT_THROW(0); /* nothing failed, and yet it should be caught? */
    TAKT_END;
}
