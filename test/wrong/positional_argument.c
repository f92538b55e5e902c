/* expect: expected */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct kid kid;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_CALL(my->kid, kid, 1); /* arguments are named: .a = 1 */
    TAKT_END;
}
