/*
 * udp_echo.c - sends datagrams back to where they came from, many at a time.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/udp_echo.c -luring -o udp_echo
 *     ./udp_echo --listen 0.0.0.0:7000
 *     echo hello | socat - UDP:127.0.0.1:7000
 *
 * One request receives them all. What one sender sent in a row may come as one (UDP GRO) and
 * goes back as one (UDP GSO). A reply leaves from the address that was asked. Never more goes
 * out than came in: a forged sender gains nothing.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

#include <signal.h>

enum {
    ROOM = 65536 + 256, /* for 64 KiB of joined datagrams, and what is told of them */
    BUFFERS = 64,
    ITEMS = 32,    /* taken in one go, */
    PACKETS = 1024 /* and the datagrams in them: those beyond wait for the next */
};

struct ctrl_c {
    takt_frame frame;
    int signals;
};

static TAKT_CORO(ctrl_c)
{
    TAKT_BEGIN(ctrl_c, my);
    TAKT_CHECK(my->signals = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->signals)); }
    TAKT_AWAIT(takt_signal(my->signals));
    takt_stop(takt_sched_of(&my->frame), 0);
    TAKT_END;
}

struct echo {
    takt_frame frame;
    const takt_addr *addr; /* in */
    takt_bufs *bufs;       /* in */
    int fd, err, n;
    uint64_t datagrams, refused;
    takt_udp options;
    takt_stream stream;
    takt_item item;
    int items, packets;
    unsigned char *held[ITEMS];
    takt_packet packet[PACKETS];
    struct ctrl_c ctrl_c;
};

/* Notes down what is to go back for a buffer that came. */
static void take(struct echo *my)
{
    const takt_datagram *const d = (const takt_datagram *)(void *)my->item.data;
    const uint32_t size = d->segment ? d->segment : d->len;
    uint32_t at = 0;
    my->held[my->items++] = my->item.data;
    if (takt_addr_port(&d->from) == 0 || d->truncated)
        return; /* there is no answering port 0, and no whole answer to a part */
    do {
        takt_packet *const packet = &my->packet[my->packets++];
        packet->data = d->data + at;
        packet->len = d->len - at < size ? d->len - at : size;
        packet->to = &d->from;
        packet->from = &d->to;
        at += packet->len;
    } while (at < d->len && my->packets < PACKETS);
}

/* True unless `addr` names one address: from there replies leave by themselves. */
static bool is_any(const takt_addr *addr)
{
    takt_addr any[2];
    char text[TAKT_ADDR_TEXT];
    snprintf(text, sizeof text, ":%d", takt_addr_port(addr));
    takt_addr_parse(&any[0], text);
    snprintf(text, sizeof text, "[::]:%d", takt_addr_port(addr));
    takt_addr_parse(&any[1], text);
    return takt_addr_equal(addr, &any[0]) || takt_addr_equal(addr, &any[1]);
}

static TAKT_CORO(echo)
{
    TAKT_BEGIN(echo, my);
    my->options.local_address = is_any(my->addr);
    my->options.gro = true;
    my->options.receive_buffer = my->options.send_buffer = 4 << 20;
    TAKT_CHECK(my->fd = takt_udp_bind(&my->frame, my->addr));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_DEFER
    {
        while (my->items > 0)
            takt_bufs_put(my->bufs, &my->held[--my->items]);
    }
    takt_udp_options(&my->frame, my->fd, &my->options); /* what is not there is done without */
    TAKT_START(my->ctrl_c, ctrl_c);
    TAKT_YIELD; /* by now it listens to signals */
    fputs("udp_echo: ready\n", stderr);

    my->stream.limit = BUFFERS; /* each item holds one */
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->fd, my->bufs));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end)
            break;
        my->packets = 0;
        do
            take(my);
        while (my->items < ITEMS && my->packets + 64 <= PACKETS &&
               takt_stream_take(&my->stream, &my->item));
        TAKT_TRY_AWAIT(my->n, takt_send_burst(my->fd, my->packet, (size_t)my->packets));
        my->datagrams += (uint64_t)my->packets;
        my->refused += (uint64_t)(my->packets - (my->n > 0 ? my->n : 0));
        while (my->items > 0)
            takt_bufs_put(my->bufs, &my->held[--my->items]);
    }
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static const char usage[] =
    "usage: udp_echo --listen ADDRESS [options]\n"
    "  --listen ADDRESS   127.0.0.1:7000, [::1]:7000 or :7000\n"
    "  --backend NAME     auto (io_uring if it works, else epoll), uring or poll\n"
    "SIGTERM or SIGINT: it ends.\n";

int main(int argc, char **argv)
{
    static net loop;
    static takt_bufs bufs;
    static struct echo echo;
    static takt_addr addr;
    net_config config = net_defaults();
    const struct server_option options[] = {
        {"--listen", server_address, &addr, 0},
        {NULL, NULL, NULL, 0},
    };
    int rc;
    server_options("udp_echo", usage, options, &config.backend, argc, argv);
    if (!addr.len)
        server_wrong("udp_echo", "--listen is needed");
    if ((rc = takt_bufs_init(&bufs, BUFFERS, ROOM)) < 0 || (rc = net_init(&loop, &config)) < 0)
        return server_fail("udp_echo", "cannot start", rc);
    if (!TAKT_START_ON(&loop, echo, echo, .addr = &addr, .bufs = &bufs))
        return 1;
    net_run(&loop);
    fprintf(stderr, "udp_echo: %llu datagrams, %llu of them refused\n",
            (unsigned long long)echo.datagrams, (unsigned long long)echo.refused);
    net_free(&loop);
    takt_bufs_free(&bufs);
    return takt_error(&echo.frame) < 0 && takt_error(&echo.frame) != TAKT_ECANCELED;
}
