/*
 * enet.c - ENet on a takt loop: a server that sends every packet back, and one who asks it.
 *
 *     cc -O2 -D_GNU_SOURCE -I. -Iexamples examples/enet.c -luring -lenet -o enet
 *     ./enet --listen 127.0.0.1:7000
 *     ./enet --connect 127.0.0.1:7000
 *
 * takt_enet.h carries the datagrams; all else is ENet as it always was, and the other side may
 * be any ENet program. A signal sees everybody off, and then it ends.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"
#include "server.h"
#include "takt_enet.h"

#include <signal.h>

enum { PEERS = 256, CHANNELS = 4, EVENTS = 64, PACKETS = 200, LONGEST = 30000 };

struct ctrl_c {
    takt_frame frame;
    struct game *game; /* in */
    int fd, number;
};

struct game {
    takt_frame frame;
    takt_addr addr; /* in */
    bool asks;      /* in: it connects, else it listens */
    ENetHost *host;
    takt_enet net;
    takt_channel events;
    ENetEvent line[EVENTS], event;
    unsigned guests, visits, packets;    /* of the server */
    unsigned answers, of[CHANNELS], right; /* of the one who asks */
    bool leaving;
    struct ctrl_c ctrl_c;
};

/* -- plain ENet ------------------------------------------------------------------------- */

static ENetHost *host_at(const takt_addr *addr, bool asks)
{
    ENetAddress at;
    ENetHost *host;
    struct sockaddr_in in;
    memcpy(&in, &addr->sockaddr, sizeof in);
    at.host = in.sin_addr.s_addr;
    at.port = ntohs(in.sin_port);
    host = enet_host_create(asks ? NULL : &at, PEERS, CHANNELS, 0, 0);
    if (host && asks)
        enet_host_connect(host, &at, CHANNELS, 0); /* of its peers the first: there is room */
    return host;
}

/* What packet `i` consists of. The long ones ENet sends in pieces. */
static size_t fill(unsigned char *data, unsigned i)
{
    const size_t size = 1 + i * 9973 % (i % 8 == 7 ? LONGEST : 1200);
    for (size_t at = 0; at < size; at++)
        data[at] = (unsigned char)(i + at * 7 + at / 251);
    return size;
}

static void ask(ENetPeer *peer)
{
    static unsigned char data[LONGEST];
    for (unsigned i = 0; i < PACKETS; i++) {
        const size_t size = fill(data, i);
        enet_peer_send(peer, (enet_uint8)(i % CHANNELS),
                       enet_packet_create(data, size, ENET_PACKET_FLAG_RELIABLE));
    }
}

/* A channel keeps the order of its packets. */
static void hear(struct game *my, const ENetEvent *event)
{
    static unsigned char data[LONGEST];
    const unsigned i = my->of[event->channelID % CHANNELS]++ * CHANNELS + event->channelID;
    my->right += event->packet->dataLength == fill(data, i) &&
                 memcmp(event->packet->data, data, event->packet->dataLength) == 0;
    if (++my->answers == PACKETS)
        enet_peer_disconnect(event->peer, 0);
}

static void happened(struct game *my, ENetEvent *event)
{
    if (event->type == ENET_EVENT_TYPE_CONNECT) {
        my->guests++;
        my->visits++;
        if (my->asks)
            ask(event->peer);
    } else if (event->type == ENET_EVENT_TYPE_DISCONNECT) {
        my->guests -= my->guests > 0; /* or it never got through */
        my->leaving |= my->asks;
    } else if (event->type == ENET_EVENT_TYPE_RECEIVE) {
        my->packets++;
        if (my->asks)
            hear(my, event);
        if (my->asks || enet_peer_send(event->peer, event->channelID, event->packet) < 0)
            enet_packet_destroy(event->packet); /* else ENet does, once it is through */
    }
}

/* -- on a loop of takt's ------------------------------------------------------------------ */

static TAKT_CORO(ctrl_c)
{
    static const ENetEvent nothing = {ENET_EVENT_TYPE_NONE, NULL, 0, 0, NULL};
    TAKT_BEGIN(ctrl_c, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_AWAIT(my->number, takt_signal(my->fd));
    for (size_t i = 0; i < my->game->host->peerCount; i++)
        enet_peer_disconnect_later(&my->game->host->peers[i], 0);
    my->game->leaving = true;
    TAKT_AWAIT(takt_put(&my->game->events, &nothing)); /* for if nobody is there */
    takt_stop(takt_sched_of(&my->frame), 3 * TAKT_SEC);
    TAKT_END;
}

static TAKT_CORO(game)
{
    TAKT_BEGIN(game, my);
    my->host = host_at(&my->addr, my->asks);
    TAKT_CHECK(my->host ? 0 : errno ? -errno : -EIO);
    TAKT_DEFER { enet_host_destroy(my->host); }
    TAKT_CHECK(takt_channel_init(&my->events, my->line, sizeof my->event, EVENTS));
    TAKT_START(my->net, takt_enet, .host = my->host, .events = &my->events);
    TAKT_START(my->ctrl_c, ctrl_c, .game = my);
    TAKT_YIELD; /* by now it listens to signals */
    fprintf(stderr, "enet: port %d\n", my->host->address.port);
    while (!my->leaving || my->guests > 0) {
        TAKT_AWAIT(takt_get(&my->events, &my->event));
        happened(my, &my->event);
        takt_enet_wake(&my->net);
    }
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static const char *take_ipv4(const struct server_option *it, const char *value)
{
    const takt_addr *const addr = (const takt_addr *)it->to;
    return !server_address(it, value) && addr->len == sizeof(struct sockaddr_in)
               ? NULL
               : "an IPv4 address, as 127.0.0.1:7000: ENet has no other";
}

static const char usage[] =
    "usage: enet --listen IPV4:PORT [options]    sends every packet back\n"
    "       enet --connect IPV4:PORT [options]   asks such a server for some\n"
    "  --backend NAME   auto (io_uring if it works, else epoll), uring or poll\n"
    "SIGTERM or SIGINT: guests are seen off, and it ends.\n";

int main(int argc, char **argv)
{
    static net loop;
    static struct game game;
    static takt_addr listen, connect;
    net_config config = net_defaults();
    const struct server_option options[] = {
        {"--listen", take_ipv4, &listen, 0},
        {"--connect", take_ipv4, &connect, 0},
        {NULL, NULL, NULL, 0},
    };
    bool asks;
    int rc = -ENOMEM;
    server_options("enet", usage, options, &config.backend, argc, argv);
    asks = connect.len > 0;
    if ((listen.len == 0) == (connect.len == 0))
        server_wrong("enet", "either --listen or --connect is needed");
    if (enet_initialize() < 0 || (rc = net_init(&loop, &config)) < 0)
        return server_fail("enet", "cannot start", rc);
    if (!TAKT_START_ON(&loop, game, game, .addr = asks ? connect : listen, .asks = asks))
        return 1;
    net_run(&loop);
    fprintf(stderr, "enet: %u visits, %u packets\n", game.visits, game.packets);
    if (asks)
        printf("%u of %d packets came back as they went\n", game.right, PACKETS);
    net_free(&loop);
    enet_deinitialize();
    return (takt_error(&game.frame) < 0 && takt_error(&game.frame) != TAKT_ECANCELED) ||
           (asks && game.right != PACKETS);
}
