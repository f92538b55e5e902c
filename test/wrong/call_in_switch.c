/* expect: overflow.* (to|converting case value to) */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
    struct kid kid;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    switch (my->n) {
    case 1:
        TAKT_CALL(my->kid, kid, .a = 1);
        break;
    }
    TAKT_END;
}
