/* expect-clang: address of stack memory associated with local variable */
#include "wrong.h"

/* In C, and with g++, this is refused when it runs: TAKT_ESTACK. */
struct co {
    takt_frame frame;
    int fd, n;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    char buf[64];
    TAKT_AWAIT(my->n, takt_within(TAKT_SEC, takt_recv(my->fd, buf, sizeof buf)));
    TAKT_END;
}
