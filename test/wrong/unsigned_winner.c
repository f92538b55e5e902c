/* expect: the winner of TAKT_AWAIT_ANY must be signed */
#include "wrong.h"

struct co {
    takt_frame frame;
    takt_op ops[2];
    size_t winner;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT_ANY(my->winner, my->ops, 2);
    TAKT_END;
}
