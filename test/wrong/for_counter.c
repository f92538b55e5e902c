/* expect: switch jumps over variable init|.i. (may be|is) (used )?uninitialized */
/* flags-clang: -Wall */
#include "wrong.h"

struct co {
    takt_frame frame;
    int fd;
    char buf[64];
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    for (int i = 0; i < 3; i++) /* it begins with anything after every await */
        TAKT_AWAIT(takt_send(my->fd, my->buf, sizeof my->buf));
    TAKT_END;
}
