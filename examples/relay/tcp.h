/*
 * tcp.h - the TCP half of relay.c: connections, and who may make one
 */
#ifndef RELAY_TCP_H
#define RELAY_TCP_H

#include "log.h"
#include "options.h"
#include "sessions.h"
#include "sources.h"

struct tcp {
    const struct options *options; /* in */
    struct counted *n;             /* in */
    struct guests *guests;         /* in: holds the tallies */
    takt_bufs bufs;
    uint32_t connections;
};

/* -- bridge: one TCP connection, both ways --------------------------------------------------- */

struct bridge {
    takt_frame frame;
    struct tcp *tcp;          /* in */
    const struct map *map;    /* in */
    int client;               /* in: connected socket, closed here */
    struct endpoint from, to; /* in: the client, and whom it has asked; or as its proxy says */
    uint64_t host;            /* in: of its tally */
    int server, n, head;      /* bytes of the header */
    uint32_t got;             /* bytes read so far, behind the header too */
    takt_ns deadline;
    bool clean;
    struct iovec pieces[2];
    takt_idle idle;
    takt_relay up, down;
    unsigned char out[PROXY_WRITE_MAX], in[PROXY_READ_MAX];
};

static void bridge_over(struct bridge *my)
{
    my->tcp->n->tcp_bytes += my->up.bytes + my->down.bytes;
    my->tcp->connections--;
    tally_drop(my->tcp->guests, my->host);
    if (!my->clean)
        takt_reset_on_close(&my->frame, my->client);
}

static TAKT_CORO(bridge)
{
    static const takt_tcp no_delay = {true, 0, 0, 0, 0};
    TAKT_BEGIN(bridge, my);
    TAKT_DEFER
    {
        bridge_over(my);
        TAKT_AWAIT(takt_close(my->client));
    }
    my->deadline = takt_after(takt_now(&my->frame), my->tcp->options->header);
    while (my->map->accept &&
           (my->head = proxy_read(my->in, my->got, false, &my->from, &my->to)) == 0) {
        TAKT_AWAIT(my->n, takt_by(my->deadline, takt_recv(my->client, my->in + my->got,
                                                          sizeof my->in - my->got)));
        my->got += (uint32_t)my->n;
        if (my->n == 0)
            TAKT_THROW(TAKT_ETRUNCATED);
    }
    my->tcp->n->malformed += my->head < 0;
    if (my->head < 0)
        TAKT_THROW(-EPROTO);

    TAKT_AWAIT(my->server, takt_within(my->tcp->options->connect,
                                       takt_tcp_connect(&my->map->upstream)));
    TAKT_DEFER
    {
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->server);
        TAKT_AWAIT(takt_close(my->server));
    }
    takt_tcp_options(&my->frame, my->client, &no_delay);
    takt_tcp_options(&my->frame, my->server, &no_delay);

    takt_idle_start(&my->frame, &my->idle, my->tcp->options->idle);
    my->pieces[0].iov_base = my->out;
    if (my->map->send)
        my->pieces[0].iov_len = proxy_write(my->out, my->map->send, false, &my->from, &my->to);
    my->pieces[1].iov_base = my->in + my->head; /* what came behind the header */
    my->pieces[1].iov_len = my->got - (uint32_t)my->head;
    if (my->pieces[0].iov_len + my->pieces[1].iov_len > 0)
        TAKT_AWAIT(takt_sendv(my->server, my->pieces, 2));
    TAKT_START(my->down, takt_relay, .from = my->server, .to = my->client,
               .bufs = &my->tcp->bufs, .idle = &my->idle);
    TAKT_CALL(my->up, takt_relay, .from = my->client, .to = my->server,
              .bufs = &my->tcp->bufs, .idle = &my->idle);
    TAKT_JOIN(my->down);
    my->clean = true;

    TAKT_CATCH
    {
        my->tcp->n->failed++;
        say(my->tcp->n, "a connection has failed: %s", takt_strerror(my->frame.error));
    }
    TAKT_END;
}

/* -- door: a TCP socket that clients connect to ---------------------------------------------- */

struct door {
    takt_frame frame;
    struct tcp *tcp; /* in */
    struct map *map; /* in */
    int listener, client;
    takt_addr peer, hit;
    uint64_t host; /* of its tally */
    bool welcome;
    takt_group bridges;
};

/* Whether it may come in: decided before anything is spent on it. Trusted proxies may as
 * often as they like. */
static bool is_welcome(struct door *my)
{
    const struct endpoint peer = endpoint_of(&my->peer);
    struct tcp *const tcp = my->tcp;
    const bool trusted = my->map->accept && is_trusted(tcp->options, &peer);
    my->host = tally_hash(tcp->guests, TALLY_CONNECTIONS, &peer);
    tcp->n->accepted++;
    if (my->map->accept && !trusted)
        tcp->n->untrusted++;
    else if (takt_sockname(&my->frame, my->client, &my->hit) == 0)
        return tally_add(tcp->guests, my->host, trusted ? UINT32_MAX : tcp->options->per_host);
    return false;
}

static TAKT_CORO(door)
{
    TAKT_BEGIN(door, my);
    TAKT_CHECK(my->listener = takt_listen(&my->frame, &my->map->listen, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_CHECK(takt_sockname(&my->frame, my->listener, &my->map->listen));
    say_listening(my->map);
    for (;;) {
        TAKT_TRY_AWAIT(my->client, takt_accept(my->listener, &my->peer));
        if (my->client == TAKT_ESTOPPING)
            break;
        if (my->client < 0) {
            TAKT_AWAIT(takt_sleep(20 * TAKT_MS)); /* no descriptors? let some close */
            continue;
        }
        my->welcome = is_welcome(my);
        if (my->welcome && TAKT_GO(my->bridges, bridge, .tcp = my->tcp, .map = my->map,
                                   .client = my->client, .server = -1, .host = my->host,
                                   .from = endpoint_of(&my->peer), .to = endpoint_of(&my->hit))) {
            my->tcp->connections++;
            continue;
        }
        if (my->welcome)
            tally_drop(my->tcp->guests, my->host);
        my->tcp->n->refused++;
        takt_reset_on_close(&my->frame, my->client);
        TAKT_AWAIT(takt_close(my->client));
    }
    TAKT_AWAIT(takt_close(my->listener)); /* newcomers are to go elsewhere at once */
    my->listener = -1;
    TAKT_JOIN_GROUP(my->bridges);
    TAKT_END;
}

#endif
