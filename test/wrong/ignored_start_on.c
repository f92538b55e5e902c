/* expect: warn_unused_result */
#include "wrong.h"

void start(net *loop, struct kid *kid);
void start(net *loop, struct kid *kid)
{
    TAKT_START_ON(loop, *kid, kid, .a = 1); /* may be refused */
}
