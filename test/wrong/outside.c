/* expect: takt_self */
#include "wrong.h"

/* A plain function cannot suspend: make it a coroutine and TAKT_CALL it. */
takt_status helper(int *n);
takt_status helper(int *n)
{
    TAKT_AWAIT(*n, takt_sleep(1));
}
