/*
 * bots.h - players for game.c who judge what they are told: every tick, the sum of the world, and
 * whether each has moved as it asked to. Two do not behave: one falls silent, one cheats.
 */
#ifndef BOTS_H
#define BOTS_H

#include "server.h"
#include "world.h"

struct crowd {
    takt_addr any, server;
    takt_ns half, end; /* when some misbehave, when the rest leave */
    uint64_t joined, ended[REASONS], snapshots, lost, wrong, surprises;
};

struct bot {
    takt_frame frame;
    struct crowd *crowd; /* in */
    int expected;        /* in: how it is going to end */
    int end, fd, slot, silent, n;
    struct note out; /* what it has to say */
    union {
        struct note note;
        struct snapshot snapshot;
    } in[2 * PARTS]; /* the system may join what comes in a row (UDP GRO) */
    uint32_t tick, missing, sum; /* of the snapshot that is coming in */
    uint32_t seen;               /* the tick in which it stood */
    struct cell at;              /* there */
};

/* An input goes by its number: the first stands still. */
static uint8_t way_of(int number)
{
    return (uint8_t)(((number & NUMBER) + STAND) % WAYS);
}

/* It has moved by one step, the way that it asked to. */
static void judge(struct bot *my, struct cell now)
{
    const bool knows = my->seen && my->seen + 1 == my->tick; /* where it stood before */
    cell_move(&my->at, way_of(now.input));
    if (knows && (!now.input || now.x != my->at.x || now.y != my->at.y))
        my->crowd->wrong++;
    my->at = now;
    my->seen = my->tick;
}

/* True once all parts of a tick are there. */
static bool look(struct bot *my, const struct snapshot *s, int length)
{
    const int cells = (length - SNAPSHOT_HEAD) / (int)sizeof(struct cell);
    const int at = my->slot - s->part * PART;
    if (s->tick != my->tick) {
        my->crowd->lost += (my->missing != 0) + (my->tick ? s->tick - my->tick - 1 : 0);
        my->tick = s->tick;
        my->missing = (1u << s->parts) - 1;
        my->sum = 0;
    }
    my->missing &= ~(1u << s->part);
    my->sum += sum_of(s->at, cells, s->part);
    if (at >= 0 && at < cells)
        judge(my, s->at[at]);
    if (my->missing)
        return false;
    my->crowd->snapshots++;
    my->crowd->wrong += my->sum != s->sum;
    return true;
}

/* Its next input, or its way to misbehave. True: it is to be said. */
static bool move(struct bot *my)
{
    const bool late = takt_now(&my->frame) >= my->crowd->half;
    if (late && my->expected == TIMED_OUT)
        return false;
    my->out.number++;
    my->out.way = way_of(my->out.number);
    if (late && my->expected == KICKED)
        my->out.way = WAYS; /* no such way */
    if (takt_now(&my->frame) >= my->crowd->end)
        my->out.kind = LEAVE;
    return true;
}

/* True: it has something to say. */
static bool answer(struct bot *my, const struct snapshot *s, int length)
{
    const struct note *const note = (const struct note *)(const void *)s;
    if (s->kind == SNAPSHOT)
        return my->out.kind != HELLO && look(my, s, length) && move(my);
    if (s->kind == COOKIE) {
        my->out.cookie = note->cookie;
    } else if (s->kind == WELCOME && my->out.kind == HELLO) {
        my->slot = (int)note->slot;
        my->out.kind = INPUT;
        my->crowd->joined++;
    } else if (s->kind == BYE) {
        my->end = note->reason % REASONS;
        my->out.kind = THANKS;
    }
    return true;
}

/* All but the last of what came joined is as long as can be. */
static bool answer_all(struct bot *my)
{
    bool speaks = false;
    for (int i = 0, left = my->n; left > 0; i++, left -= (int)sizeof my->in[0])
        speaks |= answer(my, &my->in[i].snapshot,
                         left < (int)sizeof my->in[0] ? left : (int)sizeof my->in[0]);
    return speaks;
}

static TAKT_CORO(bot)
{
    static const takt_udp options = {false, false, true, 0, 0};
    TAKT_BEGIN(bot, my);
    my->end = NO_ANSWER;
    TAKT_DEFER
    {
        my->crowd->ended[my->end]++;
        my->crowd->surprises += my->end != my->expected;
    }
    TAKT_CHECK(my->fd = takt_udp_bind(&my->frame, &my->crowd->any));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    takt_udp_options(&my->frame, my->fd, &options); /* what is not there is done without */
    TAKT_AWAIT(takt_connect(my->fd, &my->crowd->server));
    TAKT_TRY_AWAIT(my->n, takt_send(my->fd, &my->out, sizeof my->out)); /* hello */
    while (my->end == NO_ANSWER && my->silent < 50) {
        TAKT_TRY_AWAIT(my->n, takt_within(100 * TAKT_MS,
                                          takt_recv(my->fd, my->in, sizeof my->in)));
        my->silent = my->n < 0 ? my->silent + 1 : 0;
        if (my->n < 0 ? my->tick == 0 || my->out.kind == LEAVE : answer_all(my))
            TAKT_TRY_AWAIT(my->n, takt_send(my->fd, &my->out, sizeof my->out));
    }
    TAKT_END;
}

static int play(const takt_addr *server, int players, takt_ns time, net_config config)
{
    static net loop;
    static struct crowd crowd;
    int rc;
    crowd.server = *server;
    takt_addr_parse(&crowd.any, server->len > 16 ? "[::]:0" : ":0"); /* IPv6 is longer */
    takt_raise_fd_limit();
    TAKT_POOL(config, bot, (uint32_t)players);
    if ((rc = net_init(&loop, &config)) < 0)
        return server_fail("game", "cannot start", rc);
    crowd.end = net_now(&loop) + time;
    crowd.half = crowd.end - time / 2;
    for (int i = 0; i < players; i++)
        if (!TAKT_SPAWN_ON(&loop, bot, .crowd = &crowd,
                           .expected = i < 2 && players > 3 ? TIMED_OUT + i : LEFT))
            return 1;
    net_run(&loop);
    print_ends(crowd.joined, crowd.ended);
    fprintf(stderr, "\ngame: snapshots %" PRIu64 ", lost %" PRIu64 ", wrong %" PRIu64
            ", surprises %" PRIu64 "\n", crowd.snapshots, crowd.lost, crowd.wrong,
            crowd.surprises);
    net_free(&loop);
    return crowd.wrong > 0 || crowd.surprises > 0;
}

#endif
