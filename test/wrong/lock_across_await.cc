/* expect: jump to case label|cannot jump from switch statement */
#include <mutex>
#include "wrong.h"

struct co {
    takt_frame frame;
    std::mutex *mutex;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    std::lock_guard<std::mutex> lock(*my->mutex);
    TAKT_AWAIT(takt_sleep(1)); /* would unlock here, and never lock again */
    TAKT_END;
}
