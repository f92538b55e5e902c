/*
 * peer.c - a program that uses ENet, and nothing else: the other side of test/enet/enet.py.
 *
 *     peer serve                      prints its port; sends back whatever comes, until a signal
 *     peer ask PORT PEERS ROUNDS      PEERS connections at a time, in ROUNDS: everything that
 *                                     ENet can send goes to an echo, and is compared
 *     peer stay PORT                  connects, and stays until it is seen off
 *
 * Reliable packets have to come back all, in order, exact; others exact, and in order where that
 * is promised. The last line is "N reliable, N others back, N wrong".
 */
#include <enet/enet.h>
#include <enet/time.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 4, PACKETS = 120, LONGEST = 100000, PEERS_MAX = 64, PATIENCE_MS = 20000 };

struct header { /* of each packet */
    uint32_t number, size;
};

struct connection {
    unsigned next[CHANNELS]; /* the number from which on packets may come back */
    unsigned reliable;       /* that are back */
};

static struct connection connections[PEERS_MAX];
static unsigned reliable, others, wrong;
static volatile sig_atomic_t stop;

static void stopped(int number)
{
    (void)number;
    stop = 1;
}

/* Channel 0 and 1: reliable, 2: unreliable in order, 3: out of order. */
static enet_uint32 flags_of(unsigned number)
{
    switch (number % CHANNELS) {
    case 2: return number % 16 == 2 ? ENET_PACKET_FLAG_UNRELIABLE_FRAGMENT : 0;
    case 3: return ENET_PACKET_FLAG_UNSEQUENCED;
    default: return ENET_PACKET_FLAG_RELIABLE;
    }
}

static size_t fill(unsigned char *data, unsigned number)
{
    struct header header = {number, 0};
    if (flags_of(number) == ENET_PACKET_FLAG_RELIABLE)
        header.size = number % 20 == 0 ? LONGEST - number : number * 97 % 3000;
    else
        header.size = number % 16 == 2 ? 5000 + number : number * 13 % 1200;
    header.size += (uint32_t)sizeof header;
    for (uint32_t at = sizeof header; at < header.size; at++)
        data[at] = (unsigned char)(number * 3 + at + at / 253);
    memcpy(data, &header, sizeof header);
    return header.size;
}

static void ask(ENetPeer *peer)
{
    static unsigned char data[LONGEST + sizeof(struct header)];
    for (unsigned i = 0; i < PACKETS; i++) {
        ENetPacket *const packet = enet_packet_create(data, fill(data, i), flags_of(i));
        if (enet_peer_send(peer, (enet_uint8)(i % CHANNELS), packet) < 0)
            wrong++;
    }
}

static void hear(struct connection *my, const ENetEvent *event)
{
    static unsigned char data[LONGEST + sizeof(struct header)];
    struct header header = {UINT32_MAX, 0};
    const unsigned channel = event->channelID;
    if (event->packet->dataLength >= sizeof header)
        memcpy(&header, event->packet->data, sizeof header);
    if (header.number >= PACKETS || header.number % CHANNELS != channel ||
        event->packet->dataLength != fill(data, header.number) ||
        memcmp(data, event->packet->data, event->packet->dataLength) != 0) {
        wrong++;
        return;
    }
    if (channel == 3) {
        others++;
        return;
    }
    if (header.number < my->next[channel] || (channel < 2 && header.number != my->next[channel]))
        wrong++;
    my->next[channel] = header.number + CHANNELS;
    others += channel == 2;
    reliable += channel < 2;
    my->reliable += channel < 2;
    if (my->reliable == PACKETS / 2)
        enet_peer_disconnect(event->peer, 7);
}

static int round_of(enet_uint16 port, unsigned peers)
{
    ENetAddress address;
    ENetHost *const host = enet_host_create(NULL, peers, CHANNELS, 0, 0);
    const enet_uint32 until = enet_time_get() + PATIENCE_MS;
    unsigned left = peers;
    if (!host || enet_address_set_host_ip(&address, "127.0.0.1") < 0)
        return -1;
    address.port = port;
    memset(connections, 0, sizeof connections);
    for (unsigned i = 0; i < peers; i++) {
        for (unsigned channel = 0; channel < CHANNELS; channel++)
            connections[i].next[channel] = channel;
        enet_host_connect(host, &address, CHANNELS, i)->data = &connections[i];
    }
    while (left > 0 && ENET_TIME_LESS(enet_time_get(), until)) {
        ENetEvent event;
        if (enet_host_service(host, &event, 50) <= 0)
            continue;
        if (event.type == ENET_EVENT_TYPE_CONNECT)
            ask(event.peer);
        if (event.type == ENET_EVENT_TYPE_RECEIVE) {
            hear((struct connection *)event.peer->data, &event);
            enet_packet_destroy(event.packet);
        }
        if (event.type == ENET_EVENT_TYPE_DISCONNECT) {
            left--;
            wrong += ((struct connection *)event.peer->data)->reliable != PACKETS / 2;
        }
    }
    enet_host_destroy(host);
    return left > 0 ? -1 : 0;
}

static int serve(void)
{
    const ENetAddress address = {ENET_HOST_ANY, ENET_PORT_ANY};
    ENetHost *const host = enet_host_create(&address, PEERS_MAX, CHANNELS, 0, 0);
    if (!host)
        return 1;
    printf("%d\n", host->address.port);
    fflush(stdout);
    while (!stop) {
        ENetEvent event;
        if (enet_host_service(host, &event, 20) > 0 && event.type == ENET_EVENT_TYPE_RECEIVE)
            if (enet_peer_send(event.peer, event.channelID, event.packet) < 0)
                enet_packet_destroy(event.packet);
    }
    enet_host_destroy(host);
    return 0;
}

/* Stays connected until the other side sees it off: status 0, or it does not in time: 1. */
static int stay(enet_uint16 port)
{
    ENetAddress address;
    ENetHost *const host = enet_host_create(NULL, 1, CHANNELS, 0, 0);
    ENetEvent event;
    if (!host || enet_address_set_host_ip(&address, "127.0.0.1") < 0)
        return 1;
    address.port = port;
    enet_host_connect(host, &address, CHANNELS, 0);
    if (enet_host_service(host, &event, PATIENCE_MS) <= 0 || event.type != ENET_EVENT_TYPE_CONNECT)
        return 1;
    puts("connected");
    fflush(stdout);
    if (enet_host_service(host, &event, PATIENCE_MS) <= 0)
        return 1;
    enet_host_flush(host); /* the acknowledgement */
    enet_host_destroy(host);
    return event.type != ENET_EVENT_TYPE_DISCONNECT;
}

int main(int argc, char **argv)
{
    int rc = 0;
    if (argc < 2 || enet_initialize() < 0)
        return 2;
    signal(SIGTERM, stopped);
    if (strcmp(argv[1], "serve") == 0)
        return serve();
    if (strcmp(argv[1], "stay") == 0)
        return stay((enet_uint16)atoi(argv[2]));
    for (int i = 0; i < atoi(argv[4]) && rc == 0; i++)
        rc = round_of((enet_uint16)atoi(argv[2]), (unsigned)atoi(argv[3]));
    printf("%u reliable, %u others back, %u wrong\n", reliable, others, wrong);
    return rc < 0 || wrong > 0;
}
