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
 * The world and what is said of it stand in world.h; bots.h has the players to try it with.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

TAKT_LOOP(net, takt_uring); /* of the server; the bots run one, too */

#include "bots.h"
#include "server.h"
#include "world.h"

#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>

#define TICK (TAKT_SEC / 60)
#define SLICE (TAKT_MS)    /* the longest turn of takt, */
#define BUDGET (TICK / 4) /* and all that a frame takes, before it looks at its clock */

enum { PLACES = 4096, BATCH = 256, BUFFERS = 2 * BATCH, ROOM = 256 + 64 };

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
