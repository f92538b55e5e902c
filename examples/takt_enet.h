/*
 * takt_enet.h - lets a program that uses ENet (libenet) send and receive through a takt loop.
 *
 * Include it behind the implementation of takt, in one file; examples/enet.c shows it. ENet is
 * used as ever, but its events come out of a channel, and what it sends in one go, to however many
 * peers, leaves by one takt_send_burst(). It is not patched: what it exports, and sends and
 * receives by, a shared library finds in the program first: see below. Where it does not, as
 * these are hidden from it (-fvisibility=hidden), takt_enet fails with -ENOTSUP.
 */
#include <dlfcn.h>
#include <enet/enet.h>

#define TAKT_ENET_TICK (10 * TAKT_MS) /* how often ENet sees to pings, repeats and timeouts */
enum { TAKT_ENET_ITEMS = 64, TAKT_ENET_QUEUE = 1024 }; /* in, and out; more leave one by one */

/* A datagram on its way out. */
struct takt_enet_out {
    takt_addr to;
    unsigned char data[ENET_PROTOCOL_MAXIMUM_MTU];
};

/* Receives them. */
struct takt_enet_reader {
    takt_frame frame;
    struct takt_enet *net; /* in */
    takt_stream stream;
    takt_item item;
};

/* Runs a host until it is cancelled; takes three strands. Whoever lets events stand holds ENet
 * up, as one who does not call enet_host_service(). */
typedef struct takt_enet {
    takt_frame frame;
    ENetHost *host;       /* in: to be destroyed once this has ended */
    takt_channel *events; /* in: of ENetEvents, whose packets the taker destroys */
    /* The adapter's: */
    struct takt_enet_reader reader;
    takt_bufs bufs;
    takt_channel incoming;
    takt_item items[TAKT_ENET_ITEMS], item; /* without data: takt_enet_wake() */
    struct takt_enet_out *out;
    takt_packet packets[TAKT_ENET_QUEUE];
    uint32_t queued; /* of them */
    int n, rc, asked; /* by ENet, for a datagram */
    ENetEvent event;
} takt_enet;

static __thread takt_enet *takt_enet_serving; /* while ENet is asked to serve it */
#define TAKT_ENET_OWN(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

/* In place of ENet's: queues a datagram. */
int enet_socket_send(ENetSocket socket, const ENetAddress *to, const ENetBuffer *part, size_t parts)
{
    takt_enet *const net = takt_enet_serving;
    const struct sockaddr_in addr = {AF_INET, htons(to->port), {to->host}, {0}};
    struct takt_enet_out *out;
    takt_packet *packet;
    if (!net || net->host->socket != socket || net->queued == TAKT_ENET_QUEUE)
        return TAKT_ENET_OWN(enet_socket_send)(socket, to, part, parts);
    out = &net->out[net->queued];
    packet = &net->packets[net->queued++];
    memcpy(&out->to.sockaddr, &addr, out->to.len = sizeof addr);
    packet->to = &out->to;
    packet->data = out->data;
    packet->len = 0;
    for (size_t i = 0; i < parts; packet->len += (uint32_t)part[i++].dataLength)
        memcpy(out->data + packet->len, part[i].data, part[i].dataLength);
    return (int)packet->len;
}

/* In place of ENet's: the next datagram that has come, or 0. */
int enet_socket_receive(ENetSocket socket, ENetAddress *from, ENetBuffer *part, size_t parts)
{
    takt_enet *const net = takt_enet_serving;
    struct sockaddr_in addr;
    int len = 0;
    if (!net || net->host->socket != socket)
        return TAKT_ENET_OWN(enet_socket_receive)(socket, from, part, parts);
    net->asked = 1;
    while (len == 0 && (net->item.data || takt_try_get(&net->incoming, &net->item) == 1)) {
        const takt_datagram *const d = (const takt_datagram *)(void *)net->item.data;
        if (d && !d->truncated && d->len <= part->dataLength) {
            memcpy(&addr, &d->from.sockaddr, sizeof addr);
            from->host = addr.sin_addr.s_addr;
            from->port = ntohs(addr.sin_port);
            memcpy(part->data, d->data, d->len);
            len = (int)d->len;
        }
        takt_bufs_put(&net->bufs, &net->item.data);
    }
    return len;
}

/* Has ENet send what it was given in this turn, and not with the next tick. */
static inline void takt_enet_wake(takt_enet *net)
{
    const takt_item nothing = {0, NULL, false};
    (void)!takt_try_put(&net->incoming, &nothing); /* full: it is awake already */
}

static TAKT_CORO(takt_enet_reader)
{
    TAKT_BEGIN(takt_enet_reader, my);
    TAKT_DEFER { takt_bufs_put(&my->net->bufs, &my->item.data); }
    my->stream.limit = TAKT_ENET_ITEMS;
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->net->host->socket, &my->net->bufs));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        TAKT_AWAIT(takt_put(&my->net->incoming, &my->item));
        my->item.data = NULL;
    }
    TAKT_END;
}

static TAKT_CORO(takt_enet)
{
    TAKT_BEGIN(takt_enet, my);
    TAKT_DEFER
    {
        if (my->event.packet)
            enet_packet_destroy(my->event.packet); /* nobody took it */
        do
            takt_bufs_put(&my->bufs, &my->item.data);
        while (takt_try_get(&my->incoming, &my->item) == 1);
        takt_bufs_free(&my->bufs);
        free(my->out);
    }
    TAKT_CHECK(takt_channel_init(&my->incoming, my->items, sizeof my->item, TAKT_ENET_ITEMS));
    TAKT_CHECK(takt_bufs_init(&my->bufs, 4 * TAKT_ENET_ITEMS, 256 + ENET_PROTOCOL_MAXIMUM_MTU));
    my->out = (struct takt_enet_out *)calloc(TAKT_ENET_QUEUE, sizeof *my->out);
    TAKT_CHECK(my->out ? 0 : -ENOMEM);
    TAKT_START(my->reader, takt_enet_reader, .net = my);
    for (;;) {
        takt_enet_serving = my;
        my->n = enet_host_service(my->host, &my->event, 0);
        takt_enet_serving = NULL;
        TAKT_CHECK(my->n < 0 ? -EIO : my->n > 0 || my->asked ? 0 : -ENOTSUP);
        if (my->queued > 0)
            TAKT_TRY_AWAIT(my->rc, takt_send_burst(my->host->socket, my->packets, my->queued));
        my->queued = 0;
        if (my->n > 0)
            TAKT_AWAIT(takt_put(my->events, &my->event));
        else
            TAKT_TRY_AWAIT(my->rc, takt_within(TAKT_ENET_TICK, takt_get(&my->incoming, &my->item)));
        my->event.packet = NULL; /* who took it has it */
    }
    TAKT_END;
}
