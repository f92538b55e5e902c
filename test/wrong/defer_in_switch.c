/* expect: overflow.* (to|converting case value to) */
#include "wrong.h"

struct co {
    takt_frame frame;
    int n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    switch (my->n) {
    case 1:
        TAKT_DEFER { my->n = 0; }
        break;
    }
    TAKT_END;
}
