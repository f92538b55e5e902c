/* expect: no member named .b */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct kid kid;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_CALL(my->kid, kid, .b = 1);
    TAKT_END;
}
