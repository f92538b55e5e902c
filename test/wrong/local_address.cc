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
    takt_addr peer;
    TAKT_TRY_AWAIT(my->n, takt_accept(my->fd, &peer));
    TAKT_END;
}
