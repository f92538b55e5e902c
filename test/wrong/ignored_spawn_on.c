/* expect: warn_unused_result */
#include "wrong.h"

void start(net *loop);
void start(net *loop)
{
    TAKT_SPAWN_ON(loop, kid, .a = 1); /* may be refused */
}
