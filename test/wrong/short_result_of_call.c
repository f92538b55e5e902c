/* expect: must be signed and at least an int */
#include "wrong.h"

struct sub {
    takt_frame frame;
};
TAKT_CORO(sub);

struct co {
    takt_frame frame;
    short n;
    struct sub sub;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_TRY_CALL(my->n, my->sub, sub);
    TAKT_END;
}
