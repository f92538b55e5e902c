/* expect-gcc: switch jumps over variable initialization|may be used uninitialized */
/* flags-clang: -Wall */
/* expect-clang: .n. is uninitialized when used here */
#include "wrong.h"

struct co {
    takt_frame frame;
    int kept;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    const int n = my->kept + 1;
    TAKT_AWAIT(takt_sleep(1));
    my->kept = n; /* gone: the function was left and entered again */
    TAKT_END;
}
