/* expect: must be plain data */
#include "wrong.h"

struct co {
    takt_frame frame;
    struct counted {
        ~counted() {}
    } counted;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_END;
}
