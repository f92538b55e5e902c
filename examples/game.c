/*
 * game.c - an authoritative game server at 60 ticks a second, and players to try it with.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/game.c -luring -o game
 *     ./game --listen 127.0.0.1:7000
 *     ./game --client 127.0.0.1:7000 --players 1000 --seconds 5
 *
 * The game owns the thread. Its frame loop gives takt a turn that never waits, takes what has
 * arrived, steps the world when a tick is due, and sleeps until the next or until something
 * comes. One request receives every datagram. A snapshot goes to all players in one flush; what
 * the socket has no room for is dropped, as the next says it all again. So no peer holds the
 * tick, and no flood does: a frame takes so much and no more.
 *
 * A player is a coroutine, from the join to the goodbye. To join he must return a cookie, which
 * only he gets who receives at the address that he claims.
 *
 * The client plays as many, and judges what it is told: every tick, the sum of the world, and
 * whether each has moved as it asked to. Two do not behave: one falls silent, one cheats.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>

#define TICK (TAKT_SEC / 60)
#define SLICE (TAKT_MS)    /* the longest turn of takt, */
#define BUDGET (TICK / 4) /* and all that a frame takes, before it looks at its clock */

enum { PARTS = 3, PART = 380, PLAYERS = PARTS * PART, PLACES = 4096 };
enum { BATCH = 256, BUFFERS = 2 * BATCH, ROOM = 256 + 64 };

TAKT_LOOP(net, takt_uring);

/* -- what is said: both ends are of one kind, so bytes go as they lie in memory ------ */

enum { HELLO, COOKIE, WELCOME, INPUT, SNAPSHOT, LEAVE, BYE, THANKS };
enum { LEFT, TIMED_OUT, KICKED, CLOSING, FULL, NO_ANSWER, REASONS };
static const char *const reasons[REASONS] = {"left",   "timed out", "kicked",
                                             "closed", "full",      "no answer"};

struct note { /* all but snapshots: so an answer is never longer than what it answers */
    uint8_t kind;
    uint8_t number, way; /* of an input */
    uint8_t reason;      /* of a goodbye */
    uint32_t slot;       /* of a welcome */
    uint64_t cookie;     /* of whoever speaks to the server */
};

enum { WAYS = 9, STAND = 4 }; /* way % 3 - 1, way / 3 - 1 */
enum { HERE = 128, NUMBER = 127 };

struct cell {
    uint8_t input; /* HERE, and 7 bits of the number of the last input; 0: nobody */
    uint8_t x, y;  /* beyond 255 comes 0 */
};

struct snapshot { /* a part of one */
    uint8_t kind, part, parts, reserved;
    uint32_t tick;
    uint32_t sum;         /* of all parts */
    struct cell at[PART]; /* in the last fewer */
};

enum { SNAPSHOT_HEAD = offsetof(struct snapshot, at) };

static uint32_t sum_of(const struct cell *at, int count, int part)
{
    uint32_t a = (uint32_t)part, b = 0;
    for (int i = 0; i < count; i++) {
        a += (uint32_t)at[i].input << 16 | (uint32_t)at[i].x << 8 | at[i].y;
        b += a;
    }
    return a ^ b << 7;
}

/* -- the world: no takt in here ------------------------------------------------------ */

struct world {
    uint32_t tick;
    struct cell at[PLAYERS];
    uint8_t way[PLAYERS]; /* by the last input */
};

static void world_enter(struct world *world, int slot)
{
    const struct cell cell = {HERE, (uint8_t)(slot * 7), (uint8_t)(slot / 4)};
    world->at[slot] = cell;
    world->way[slot] = STAND;
}

/* What was overtaken is passed over. */
static void world_input(struct world *world, int slot, int number, uint8_t way)
{
    struct cell *const cell = &world->at[slot];
    if ((int8_t)(uint8_t)((unsigned)(number - cell->input) << 1) <= 0)
        return;
    cell->input = (uint8_t)(HERE | (number & NUMBER));
    world->way[slot] = way;
}

static void cell_move(struct cell *cell, int way)
{
    cell->x = (uint8_t)(cell->x + way % 3 - 1);
    cell->y = (uint8_t)(cell->y + way / 3 - 1);
}

static void world_step(struct world *world)
{
    world->tick++;
    for (int i = 0; i < PLAYERS; i++)
        if (world->at[i].input)
            cell_move(&world->at[i], world->way[i]);
}

/* Returns how many parts; sets the length of each. */
static int world_snapshot(const struct world *world, struct snapshot *parts, uint32_t *lengths)
{
    uint32_t sum = 0;
    int top = PLAYERS, count = 0;
    while (top > 0 && !world->at[top - 1].input)
        top--;
    for (int at = 0; at < top; at += PART, count++) {
        const int cells = top - at < PART ? top - at : PART;
        memcpy(parts[count].at, world->at + at, (size_t)cells * sizeof(struct cell));
        lengths[count] = (uint32_t)(SNAPSHOT_HEAD + (size_t)cells * sizeof(struct cell));
        sum += sum_of(world->at + at, cells, count);
    }
    for (int i = 0; i < count; i++) {
        parts[i].kind = SNAPSHOT;
        parts[i].part = (uint8_t)i;
        parts[i].parts = (uint8_t)count;
        parts[i].tick = world->tick;
        parts[i].sum = sum;
    }
    return count;
}

/* -- a player ------------------------------------------------------------------------ */

struct player {
    takt_frame frame;
    struct game *game; /* in, as what follows up to the empty line */
    int slot;
    takt_addr from, to; /* his address, and the one of ours that he speaks to */
    uint64_t cookie;
    struct player *next; /* in the same place of the table */

    bool playing;
    uint8_t reason; /* to go */
    takt_event leaves, thanks;
    takt_idle silence;
    struct note note;
    takt_packet goodbye;
    int tries, n;
};

struct gate {
    takt_frame frame;
    struct game *game; /* in */
    int fd, signals;
    takt_stream arrivals;
};

struct game {
    net loop;
    takt_addr addr;
    takt_bufs bufs;
    struct gate gate;
    struct world world;
    struct player players[PLAYERS], *places[PLACES];
    int count;
    bool closing;
    takt_ns patience; /* with the silent */
    uint64_t secret[2], seed[2]; /* of cookies, of the table */
    struct snapshot parts[PARTS];
    takt_packet packets[PLAYERS * PARTS];
    uint64_t joined, ended[REASONS], inputs, strange, sent, dropped, late, missed;
    takt_ns cpu, cpu_most; /* of ticks */
};

/* Where the player with this address stands in the table, or would. */
static struct player **find(struct game *game, const takt_addr *from)
{
    struct player **at = &game->places[takt_addr_hash(from, game->seed) % PLACES];
    while (*at && !takt_addr_equal(&(*at)->from, from))
        at = &(*at)->next;
    return at;
}

static TAKT_CORO(player)
{
    TAKT_BEGIN(player, my);
    TAKT_DEFER
    {
        *find(my->game, &my->from) = my->next;
        my->game->ended[my->reason]++;
        my->game->count--;
    }
    TAKT_DEFER
    {
        my->playing = false;
        memset(&my->game->world.at[my->slot], 0, sizeof(struct cell));
        my->note.reason = my->reason;
        for (my->tries = 0; my->tries < 10 && !my->thanks.set; my->tries++) {
            TAKT_TRY_AWAIT(my->n, takt_send_burst(my->game->gate.fd, &my->goodbye, 1));
            TAKT_TRY_AWAIT(my->n, takt_within(100 * TAKT_MS, takt_event_wait(&my->thanks)));
        }
    }
    my->note.kind = BYE;
    my->goodbye.data = &my->note;
    my->goodbye.len = sizeof my->note;
    my->goodbye.to = &my->from;
    my->goodbye.from = &my->to;
    my->playing = true;
    my->reason = KICKED; /* if it is cancelled, and for no other */
    world_enter(&my->game->world, my->slot);
    takt_idle_start(&my->frame, &my->silence, my->game->patience);
    TAKT_AWAIT(takt_event_wait(&my->leaves));
    my->reason = LEFT;
    TAKT_CATCH { my->reason = TIMED_OUT; }
    TAKT_END;
}

/* -- what arrives -------------------------------------------------------------------- */

/* The player at this address, new or not; NULL: there is no room. */
static struct player *admit(struct game *game, const takt_datagram *d, uint64_t cookie)
{
    struct player **const at = find(game, &d->from);
    int slot = 0;
    if (*at || game->count == PLAYERS || game->closing)
        return *at;
    while (takt_alive(&game->players[slot].frame))
        slot++;
    if (!TAKT_START_ON(&game->loop, game->players[slot], player, .game = game, .slot = slot,
                       .from = d->from, .to = d->to, .cookie = cookie))
        return NULL;
    game->count++;
    game->joined++;
    return *at = &game->players[slot];
}

/* Who returns no cookie gets one, and is forgotten. */
static void welcome(struct game *game, const takt_datagram *d, struct note *note)
{
    const uint64_t cookie = takt_addr_hash(&d->from, game->secret);
    const struct player *player;
    if (note->cookie != cookie) {
        note->kind = COOKIE;
        note->cookie = cookie;
    } else if ((player = admit(game, d, cookie)) != NULL) {
        note->kind = WELCOME;
        note->slot = (uint32_t)player->slot;
    } else {
        note->kind = BYE;
        note->reason = game->closing ? CLOSING : FULL;
        game->ended[note->reason]++;
    }
}

/* True: `note` is the answer now. */
static bool hear(struct game *game, const takt_datagram *d, struct note *note)
{
    struct player *player = NULL;
    if (d->len == sizeof *note && takt_addr_port(&d->from) != 0) {
        if (note->kind == HELLO) {
            welcome(game, d, note);
            return true;
        }
        player = *find(game, &d->from);
    }
    if (!player || player->cookie != note->cookie) {
        game->strange++;
    } else if (note->kind == THANKS) {
        takt_event_set(&player->thanks);
    } else if (note->kind == LEAVE) {
        takt_event_set(&player->leaves);
    } else if (note->kind == INPUT && player->playing) {
        game->inputs++;
        takt_idle_touch(&player->silence);
        if (note->way < WAYS)
            world_input(&game->world, player->slot, note->number, note->way);
        else
            takt_cancel(&player->frame); /* he cheats: kicked */
    }
    return false;
}

/* Answers go in the buffers that brought the questions. Returns how many it took. */
static int take_batch(struct game *game)
{
    takt_packet answers[BATCH];
    unsigned char *held[BATCH];
    takt_item item;
    int count = 0, answered = 0;
    while (count < BATCH && takt_stream_take(&game->gate.arrivals, &item)) {
        takt_datagram *const d = (takt_datagram *)(void *)item.data;
        const takt_packet answer = {d->data, sizeof(struct note), 0, &d->from, &d->to};
        held[count++] = item.data;
        if (hear(game, d, (struct note *)(void *)d->data))
            answers[answered++] = answer;
    }
    if (answered)
        takt_try_send_burst(&game->gate.frame, game->gate.fd, answers, (size_t)answered);
    for (int i = 0; i < count; i++)
        takt_bufs_put(&game->bufs, &held[i]);
    return count;
}

/* -- the frame loop ------------------------------------------------------------------ */

/* To all players, in one flush; it never waits. Each time another is the first, so that it is
 * not always the same who go without when there is no room. */
static void send_snapshots(struct game *game)
{
    uint32_t lengths[PARTS];
    const int parts = world_snapshot(&game->world, game->parts, lengths);
    size_t count = 0;
    int sent;
    for (uint32_t i = 0; i < PLAYERS; i++) {
        const struct player *const to = &game->players[(game->world.tick * 61 + i) % PLAYERS];
        for (int part = 0; to->playing && part < parts; part++) {
            const takt_packet packet = {&game->parts[part], lengths[part], 0, &to->from, &to->to};
            game->packets[count++] = packet;
        }
    }
    sent = takt_try_send_burst(&game->gate.frame, game->gate.fd, game->packets, count);
    game->sent += (uint64_t)(sent > 0 ? sent : 0);
    game->dropped += count - (uint64_t)(sent > 0 ? sent : 0);
}

static takt_ns cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * TAKT_SEC + t.tv_nsec;
}

/* When the next is due. A tick that cannot be kept is left out: time goes slower then. */
static takt_ns tick(struct game *game, takt_ns due)
{
    const takt_ns late = net_now(&game->loop) - due;
    takt_ns cpu = cpu_time();
    game->late += late > TICK / 2;
    game->missed += (uint64_t)(late / TICK);
    world_step(&game->world);
    send_snapshots(game);
    cpu = cpu_time() - cpu;
    game->cpu += cpu;
    game->cpu_most = cpu > game->cpu_most ? cpu : game->cpu_most;
    return due + (late / TICK + 1) * TICK;
}

/* Sleeps until `due`, or until takt has something to do. */
static void rest(struct game *game, takt_ns due)
{
    const takt_ns deadline = net_deadline(&game->loop);
    const takt_ns left = (deadline < due ? deadline : due) - net_now(&game->loop);
    struct pollfd watched = {net_fd(&game->loop), POLLIN, 0};
    const struct timespec ts = {0, (long)left}; /* less than a second */
    if (left > 0)
        ppoll(&watched, 1, &ts, NULL);
}

/* Turns of takt, which do not wait, and what they bring: all there is within the budget; or as
 * much as all players say in a tick, as else their inputs would starve on a busy machine. */
static int take_arrivals(struct game *game)
{
    const takt_ns until = net_now(&game->loop) + BUDGET;
    int rc, count, taken = 0;
    do {
        rc = net_turn(&game->loop, 0, BATCH);
        taken += count = take_batch(game);
    } while (rc >= 0 && count > 0 && (taken < PLAYERS || net_now(&game->loop) < until));
    return rc;
}

static int frames(struct game *game)
{
    takt_ns due = net_now(&game->loop) + TICK;
    int rc;
    while ((rc = take_arrivals(game)) >= 0 && takt_alive(&game->gate.frame)) {
        if (net_now(&game->loop) >= due)
            due = tick(game, due);
        rest(game, due);
    }
    return rc;
}

/* Opens and closes the house; the frame loop takes what arrives. */
static TAKT_CORO(gate)
{
    static const takt_udp options = {true, false, false, 1 << 20, 4 << 20};
    TAKT_BEGIN(gate, my);
    TAKT_CHECK(my->fd = takt_udp_bind(&my->frame, &my->game->addr));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_CHECK(my->signals = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->signals)); }
    takt_udp_options(&my->frame, my->fd, &options); /* a longer queue holds older news */
    my->arrivals.limit = BATCH;
    TAKT_OPEN(my->arrivals, takt_recvmsg_multishot(my->fd, &my->game->bufs));
    fputs("game: ready\n", stderr);
    TAKT_AWAIT(takt_signal(my->signals));
    my->game->closing = true;
    for (int i = 0; i < PLAYERS; i++)
        if (my->game->players[i].playing) {
            my->game->players[i].reason = CLOSING;
            takt_cancel(&my->game->players[i].frame);
        }
    while (my->game->count > 0)
        TAKT_AWAIT(takt_sleep(TICK));
    TAKT_END;
}

static void print_ends(uint64_t joined, const uint64_t *ended)
{
    fprintf(stderr, "game: joined %" PRIu64, joined);
    for (int i = 0; i < REASONS; i++)
        fprintf(stderr, ", %s %" PRIu64, reasons[i], ended[i]);
}

static int serve(const takt_addr *addr, takt_ns patience, net_config config)
{
    static struct game game;
    struct game *const my = &game;
    int rc;
    my->addr = *addr;
    my->patience = patience;
    config.loop.strands = PLAYERS + 8;
    config.loop.slice = SLICE;
    if (getrandom(my->secret, 16, 0) < 0 || getrandom(my->seed, 16, 0) < 0 ||
        takt_bufs_init(&my->bufs, BUFFERS, ROOM) < 0)
        return server_fail("game", "cannot start", -ENOMEM);
    if ((rc = net_init(&my->loop, &config)) < 0)
        return server_fail("game", "cannot start", rc);
    if (!TAKT_START_ON(&my->loop, my->gate, gate, .game = my))
        return 1;
    rc = frames(my);
    print_ends(my->joined, my->ended);
    fprintf(stderr, "\ngame: ticks %" PRIu32 ", late %" PRIu64 ", missed %" PRIu64
            ", CPU us a tick %.0f, at most %.0f\n", my->world.tick, my->late, my->missed,
            (double)my->cpu / 1e3 / (my->world.tick + 1), (double)my->cpu_most / 1e3);
    fprintf(stderr, "game: inputs %" PRIu64 ", strange %" PRIu64 ", datagrams %" PRIu64
            ", dropped %" PRIu64 "\n", my->inputs, my->strange, my->sent, my->dropped);
    net_free(&my->loop);
    takt_bufs_free(&my->bufs);
    return rc < 0 || takt_error(&my->gate.frame) < 0;
}

/* -- the client ---------------------------------------------------------------------- */

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
    my->crowd->ended[my->end]++;
    my->crowd->surprises += my->end != my->expected;
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

/* -- main ---------------------------------------------------------------------------- */

static const char usage[] =
    "usage: game --listen ADDRESS [options]   serves\n"
    "       game --client ADDRESS [options]   plays, and judges what it is told by its exit\n"
    "  ADDRESS          127.0.0.1:7000, [::1]:7000 or :7000\n"
    "  --timeout TIME   serving: how long a player may be silent     (5s)\n"
    "  --players N      playing: so many at a time; a server seats 1140  (8)\n"
    "  --seconds N      playing: so long                             (5)\n"
    "  --backend NAME   auto (io_uring if it works, else epoll), uring or poll\n"
    "  TIME             a number with ms, s, m or h\n"
    "SIGTERM or SIGINT: the server says goodbye to all, and ends.\n";

int main(int argc, char **argv)
{
    static takt_addr listen, server;
    takt_ns timeout = 5 * TAKT_SEC;
    int players = 8, seconds = 5;
    net_config config = net_defaults();
    const struct server_option options[] = {
        {"--listen", server_address, &listen, 0},
        {"--client", server_address, &server, 0},
        {"--timeout", server_time, &timeout, 0},
        {"--players", server_count, &players, 60000},
        {"--seconds", server_count, &seconds, 1000000},
        {NULL, NULL, NULL, 0},
    };
    server_options("game", usage, options, &config.backend, argc, argv);
    if ((listen.len == 0) == (server.len == 0))
        server_wrong("game", "either --listen or --client is needed");
    return listen.len ? serve(&listen, timeout, config)
                      : play(&server, players, seconds * TAKT_SEC, config);
}
