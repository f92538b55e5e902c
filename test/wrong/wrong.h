/*
 * wrong.h - what the mistakes in this folder have in common: a coroutine to call, a
 * loop, and something that is not a coroutine.
 */
#include "../../takt.h"

TAKT_LOOP(net, takt_posix);

struct kid {
    takt_frame frame;
    int a; /* in */
};

TAKT_CORO(kid);

struct not_a_coro {
    takt_frame frame;
};
