/* expect: use TAKT_RETURN */
#include "wrong.h"

struct co {
    takt_frame frame;
    int fd, n;
    char buf[64];
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    TAKT_AWAIT(my->n, takt_recv(my->fd, my->buf, sizeof my->buf));
    if (my->n == 0)
        break; /* out of the body, not out of a loop */
    TAKT_AWAIT(takt_close(my->fd));
    TAKT_END;
}
