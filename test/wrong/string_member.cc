/* expect: must be plain data */
#include <string>
#include "wrong.h"

struct co {
    takt_frame frame;
    std::string name;
};

TAKT_CORO(co)
{
    TAKT_BEGIN(co, my);
    my->name = "x";
    TAKT_END;
}
