/*
 * game_tick.c - a snapshot to many players, as takt sends it and as loops by hand do.
 *
 *     game_tick lo|gro|device DATAGRAMS TICKS [PLAYERS]
 *
 * lo: the players are sockets of this process; what they are sent is delivered within the send,
 * and taken between two ticks, untimed. gro: the same, and they take what came joined (UDP_GRO).
 * device: they are addresses of a loopback that swallows all, which run.py makes: what is left is
 * the sender's own. Everybody sends in turn, tick by tick. Prints CPU ns a tick: a loop of
 * sendto(2), one of sendmmsg(2), takt, takt without segmentation.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "bench.h"

enum { PLAYERS_MAX = 4096, DATAGRAMS_MAX = 8, SIZE = 1152, LAST = 900, BATCH = 64, WAYS = 4 };

TAKT_LOOP(net, takt_uring);

static struct {
    net loop;
    int players, datagrams, socket;
    int theirs[PLAYERS_MAX]; /* on loopback */
    struct sockaddr_in to[PLAYERS_MAX];
    takt_addr addr[PLAYERS_MAX];
    unsigned char snapshot[DATAGRAMS_MAX][SIZE];
    takt_packet packets[PLAYERS_MAX * DATAGRAMS_MAX];
} game;

static struct keeper {
    takt_frame frame;
} keeper;

/* takt_try_send_burst() wants a frame that is alive, as a server has one. */
static TAKT_CORO(keeper)
{
    TAKT_BEGIN(keeper, my);
    TAKT_AWAIT(takt_sleep(3600 * TAKT_SEC));
    TAKT_END;
}

static size_t length(int datagram)
{
    return datagram + 1 < game.datagrams ? SIZE : LAST;
}

static void by_sendto(void)
{
    for (int i = 0; i < game.players; i++)
        for (int k = 0; k < game.datagrams; k++)
            if (sendto(game.socket, game.snapshot[k], length(k), MSG_DONTWAIT,
                       (struct sockaddr *)&game.to[i], sizeof game.to[i]) < 0)
                bench_die("sendto");
}

static void by_sendmmsg(void)
{
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    const int count = game.players * game.datagrams;
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < count; at += BATCH) {
        int n = 0;
        for (; n < BATCH && at + n < count; n++) {
            const int k = (at + n) % game.datagrams;
            pieces[n].iov_base = game.snapshot[k];
            pieces[n].iov_len = length(k);
            messages[n].msg_hdr.msg_iov = &pieces[n];
            messages[n].msg_hdr.msg_iovlen = 1;
            messages[n].msg_hdr.msg_name = &game.to[(at + n) / game.datagrams];
            messages[n].msg_hdr.msg_namelen = sizeof game.to[0];
        }
        if (sendmmsg(game.socket, messages, (unsigned)n, MSG_DONTWAIT) != n)
            bench_die("sendmmsg");
    }
}

static void by_takt(void)
{
    int count = 0;
    for (int i = 0; i < game.players; i++)
        for (int k = 0; k < game.datagrams; k++) {
            const takt_packet packet = {game.snapshot[k], (uint32_t)length(k), 0, &game.addr[i],
                                        NULL};
            game.packets[count++] = packet;
        }
    if (takt_try_send_burst(&keeper.frame, game.socket, game.packets, (size_t)count) != count)
        bench_die("takt_try_send_burst");
}

static void by_takt_one_by_one(void)
{
    game.loop.backend.posix.no_segments = -ENOTSUP;
    by_takt();
    game.loop.backend.posix.no_segments = 0;
}

/* The players hear what they were sent; all of it. */
static void take(void)
{
    static char bytes[DATAGRAMS_MAX * SIZE];
    const size_t want = (size_t)(game.datagrams - 1) * SIZE + LAST;
    for (int i = 0; i < game.players; i++) {
        size_t got = 0;
        ssize_t n;
        while (got < want && (n = recv(game.theirs[i], bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
            got += (size_t)n;
        if (got != want) {
            errno = EIO;
            bench_die("a player missed something");
        }
    }
}

static void open_players(bool device, int gro)
{
    for (int i = 0; i < game.players; i++) {
        struct sockaddr_in *const to = &game.to[i];
        socklen_t len = sizeof *to;
        to->sin_family = AF_INET;
        to->sin_addr.s_addr = htonl(device ? 0x7f010000 + (uint32_t)i + 1 : INADDR_LOOPBACK);
        to->sin_port = htons(device ? 7000 : 0);
        if (!device) {
            const int fd = game.theirs[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
            if (fd < 0 || bind(fd, (struct sockaddr *)to, sizeof *to) < 0 ||
                getsockname(fd, (struct sockaddr *)to, &len) < 0 ||
                (gro && setsockopt(fd, IPPROTO_UDP, 104, &gro, sizeof gro) < 0))
                bench_die("a player's socket");
        }
        memcpy(&game.addr[i].sockaddr, to, sizeof *to);
        game.addr[i].len = sizeof *to;
    }
}

int main(int argc, char **argv)
{
    static void (*const ways[WAYS])(void) = {by_sendto, by_sendmmsg, by_takt, by_takt_one_by_one};
    const bool device = argc > 1 && strcmp(argv[1], "device") == 0;
    const int ticks = (int)bench_number(argc, argv, 3, 50);
    const int room = 8 << 20;
    uint64_t cpu[WAYS] = {0};
    net_config config = net_defaults();
    bench_bound();
    bench_more_descriptors();
    game.datagrams = (int)bench_number(argc, argv, 2, 3);
    game.players = (int)bench_number(argc, argv, 4, 1000);
    if (game.datagrams > DATAGRAMS_MAX || game.players > PLAYERS_MAX)
        return 2;
    open_players(device, argc > 1 && strcmp(argv[1], "gro") == 0);
    game.socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(game.socket, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (game.socket < 0 || net_init(&game.loop, &config) < 0 ||
        !TAKT_START_ON(&game.loop, keeper, keeper) || net_turn(&game.loop, 0, 0) < 0)
        bench_die("the server");
    for (int tick = -2 * WAYS; tick < ticks * WAYS; tick++) {
        const int way = (tick + 2 * WAYS) % WAYS;
        const uint64_t begin = bench_cpu();
        ways[way]();
        if (tick >= 0)
            cpu[way] += bench_cpu() - begin;
        if (!device)
            take();
    }
    for (int way = 0; way < WAYS; way++)
        printf("%.0f ", (double)cpu[way] / ticks);
    printf("\n");
    return 0;
}
