/* expect: nothing */
/* flags: -fsyntax-only */
/* What a program has named above TAKT_LOOP and TAKT_STREAM does not meet what is in them. */
#define TAKT_IMPLEMENTATION
#include "../../takt.h"

int config, count, event, i, limit, loop, max, op, rc, results, sched, user, frame, wait, go;
void done(void);
void body(void);

TAKT_LOOP(net, takt_posix);
TAKT_STREAM(feed, takt_posix, int);

struct own {
    takt_frame frame;
};

static TAKT_CORO(own)
{
    TAKT_BEGIN(own, my);
    TAKT_AWAIT(takt_nop());
    TAKT_END;
}

TAKT_LOOP_OF(owns, takt_posix, own);

int main(void)
{
    static net it;
    static struct own one;
    const net_config how = net_defaults();
    count = net_init(&it, &how);
    return count < 0 || !TAKT_START_ON(&it, one, own) || net_run(&it) < 0 || net_free(&it) < 0;
}
