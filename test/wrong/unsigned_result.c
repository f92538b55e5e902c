/* expect: must be signed and at least an int */
#include "wrong.h"

struct co {
    takt_frame frame;
    unsigned n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_TRY_AWAIT(my->n, takt_sleep(1)); /* no error would ever be seen */
    TAKT_END;
}
