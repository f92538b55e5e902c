/* expect: nothing */
/* Others may have included it before: no mistake, and no word. */
#include "../../takt_uring.h"

TAKT_LOOP(net, takt_uring);
int turn(net *loop);

#define TAKT_IMPLEMENTATION
#include "../../takt_uring.h"

int turn(net *loop)
{
    return net_turn(loop, 0, 0);
}
