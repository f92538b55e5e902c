/* expect: not_a_coro_coro */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct not_a_coro other;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_CALL(my->other, not_a_coro);
    TAKT_END;
}
