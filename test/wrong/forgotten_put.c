/* expect: warn_unused_result */
#include "wrong.h"

struct co {
    takt_frame frame;
    takt_channel channel;
    int item;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    takt_put(&my->channel, &my->item);
    TAKT_END;
}
