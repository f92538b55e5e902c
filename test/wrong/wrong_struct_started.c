/* expect: incompatible type */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct not_a_coro other;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_START(my->other, kid, .a = 1);
    TAKT_END;
}
