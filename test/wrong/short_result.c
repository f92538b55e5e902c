/* expect: must be signed and at least an int */
#include "wrong.h"

struct co {
    takt_frame frame;
    short n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_TRY_AWAIT(my->n, takt_sleep(1)); /* -20001 fits, but 65536 bytes do not */
    TAKT_END;
}
