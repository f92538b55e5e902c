/* expect: at_most_eight */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct kid a, b, c, d, e, f, g, h, i;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_JOIN(my->a, my->b, my->c, my->d, my->e, my->f, my->g, my->h, my->i);
    TAKT_END;
}
