/* expect: no match for .operator=|no viable overloaded */
#include "wrong.h"

struct co {
    takt_frame frame;
    takt_addr addr;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_CALL(my->addr, kid, .a = 1);
    TAKT_END;
}
