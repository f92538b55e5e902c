/* expect: expected .;. */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    if (my->n)
        TAKT_AWAIT(takt_sleep(1)) /* a word is one statement, and wants its semicolon */
    else
        my->n = 1;
    TAKT_END;
}
