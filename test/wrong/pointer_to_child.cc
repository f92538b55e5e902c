/* expect: the child is a struct kid of yours, by its name: no pointer, no & */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct kid kid;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_START(&my->kid, kid, .a = 1);
    TAKT_END;
}
