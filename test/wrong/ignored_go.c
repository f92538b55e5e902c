/* expect: warn_unused_result */
#include "wrong.h"

struct co {
    takt_frame frame;
    takt_group group;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_GO(my->group, kid, .a = 1); /* may be refused */
    TAKT_JOIN_GROUP(my->group);
    TAKT_END;
}
