/* expect: takt_self */
#include "wrong.h"

void helper(void);
void helper(void)
{
    TAKT_AWAIT(takt_sleep(1));
}
