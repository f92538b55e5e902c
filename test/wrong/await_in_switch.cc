/* expect: narrowing|cannot be narrowed|overflow */
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
        TAKT_AWAIT(takt_sleep(1)); /* its label would belong to this switch */
        break;
    }
    TAKT_END;
}
