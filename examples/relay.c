/*
 * relay.c - stands in front of game servers, for UDP and TCP.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/relay.c -luring -o relay
 *     ./relay --map udp:0.0.0.0:7000=10.0.0.5:7000,cookie --map tcp:0.0.0.0:7000=10.0.0.5:7000
 *
 * UDP: each source has a session, which is a socket towards the upstream, so that answers find
 * back. What came in a turn goes up in one flush, what is answered in a turn goes out in one
 * burst, from the address that was asked. A source can be forged: see guests.h. TCP: as
 * proxy.c. All memory is allocated at the start.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "door.h"
#include "guests.h"
#include "proxy_protocol.h"
#include "relay.h"
#include "sandbox.h"

#include <signal.h>

enum { TURN = 64, POST = 1024 }; /* datagrams that go up, and out, in one go */
enum { SPARE = 4 * TURN, TCP_BUFFER = 16 * 1024 }; /* sessions on their way out; bytes */

TAKT_LOOP(net, takt_uring);

static struct app {
    net loop;
    net_config config;
    struct limits limits; /* of connections, and of lines said of them */
    struct guests guests; /* of UDP */
    struct served served; /* as the command line says */
    struct session *sessions, **rest; /* all; a ring of those that are free */
    uint32_t session_count, rest_first, rest_count;
    takt_bufs datagrams, bufs; /* of UDP, of TCP */
    struct counted n;
    takt_event stop; /* no newcomers any more */
    int open_gates, exit_code;
} app;

static void show(void)
{
    app.n.accepted = app.limits.accepted;
    app.n.refused = app.limits.refused;
    counted_show(&app.n, (uint32_t)app.guests.live, limits_open(&app.limits));
}

static void say_failed(const takt_frame *frame, const char *what)
{
    bool last;
    if (limits_line(&app.limits, takt_now(frame), &last))
        fprintf(stderr, "relay: %s: %s\n", what, takt_strerror(frame->error));
}

/* -- session: from the upstream to its client; its postman sends what all have got ----- */

struct postman {
    takt_frame frame;
    int fd; /* in: of its port, borrowed */
    takt_packet packet[POST];
    unsigned char *buffer[POST]; /* of each */
    int count, n;
    bool sends;
    takt_event some, none;
};

struct session {
    takt_frame frame;
    struct postman *postman;   /* in */
    const takt_addr *upstream; /* in */
    takt_addr local;           /* in: the address that its client has asked */
    struct guest guest;        /* its client */
    int fd;                    /* connected to the upstream, closed here */
    takt_stream stream;
    takt_item item;
};

/* Sends the datagram in `*buffer` to where its .from says, at the end of this turn. */
static void post(struct postman *postman, unsigned char **buffer)
{
    takt_datagram *const d = (takt_datagram *)(void *)*buffer;
    takt_packet *const packet = &postman->packet[postman->count];
    packet->data = d->data;
    packet->len = d->len;
    packet->to = &d->from;
    packet->from = &d->to;
    postman->buffer[postman->count++] = *buffer;
    *buffer = NULL;
    takt_event_set(&postman->some);
}

static bool has_room(const struct postman *postman)
{
    return !postman->sends && postman->count < POST;
}

static TAKT_CORO(postman)
{
    TAKT_BEGIN(postman, my);
    for (;;) {
        TAKT_AWAIT(takt_event_wait(&my->some));
        my->sends = true;
        TAKT_TRY_AWAIT(my->n, takt_send_burst(my->fd, my->packet, (size_t)my->count));
        my->sends = false;
        app.n.udp_out += (uint64_t)(my->n > 0 ? my->n : 0);
        app.n.unsent += (uint64_t)(my->count - (my->n > 0 ? my->n : 0));
        while (my->count > 0)
            takt_bufs_put(&app.datagrams, &my->buffer[--my->count]);
        takt_event_reset(&my->some);
        takt_event_set(&my->none);
        takt_event_reset(&my->none);
    }
    TAKT_END;
}

/* The upstream has answered. */
static void answer(struct session *my)
{
    takt_datagram *const d = (takt_datagram *)(void *)my->item.data;
    d->from = my->guest.peer;
    d->to = my->local;
    if (d->truncated)
        app.n.truncated++;
    else if (!guest_may_get(&my->guest, d->len))
        app.n.over_limit++;
    else
        post(my->postman, &my->item.data);
    takt_bufs_put(&app.datagrams, &my->item.data);
}

static TAKT_CORO(session)
{
    TAKT_BEGIN(session, my);
    TAKT_DEFER
    {
        takt_bufs_put(&app.datagrams, &my->item.data);
        if (my->guest.listed) /* first: nobody is to send on a descriptor that may be another's */
            guest_leave(&app.guests, &my->guest);
        TAKT_AWAIT(takt_close(my->fd));
        app.rest[(app.rest_first + app.rest_count++) % app.session_count] = my;
    }
    TAKT_CHECK(my->fd);
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->fd, &app.datagrams));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        while (!has_room(my->postman))
            TAKT_AWAIT(takt_event_wait(&my->postman->none));
        if (my->item.end)
            break;
        answer(my);
    }
    TAKT_CATCH { say_failed(&my->frame, "a session has failed"); }
    TAKT_END;
}

static void put_out(struct guest *guest, uint64_t *reason)
{
    ++*reason;
    guest_leave(&app.guests, guest);
    takt_cancel(&guest->session->frame);
}

/* -- port: from clients to the upstream ------------------------------------------- */

struct port {
    takt_frame frame;
    struct map *map; /* in */
    int fd;
    takt_stream stream;
    takt_item item;
    takt_op up[TURN]; /* what is to be sent, and the buffers in which it stands */
    unsigned char *held[TURN];
    int ups;
    struct postman postman;
};

/* What came, and what is known about it. */
struct arrival {
    takt_datagram *d; /* .data and .len: without what stood in front of the payload */
    takt_addr source, hit;
    const takt_addr *upstream;
    bool validated, stale; /* it brought a cookie that is good, or one that is not */
};

/* What a cookie is good for beside its address: this map, and on whose behalf a proxy sends. */
static uint64_t salt(const struct port *my, const struct arrival *a)
{
    return (uintptr_t)my->map ^ takt_addr_hash(&a->source, app.guests.key[1]);
}

/* Answers with a cookie, and keeps nothing. Not if that would be more than came. */
static void challenge(struct port *my, const struct arrival *a)
{
    if (a->d->len < GUEST_COOKIE || !has_room(&my->postman))
        return;
    guests_bake(&app.guests, &a->d->from, salt(my, a), takt_now(&my->frame), a->d->data);
    a->d->len = GUEST_COOKIE;
    app.n.challenged++;
    post(&my->postman, &my->item.data);
}

/* Reads what stands in front: a trusted proxy's header, a cookie, a token. False: that is not
 * as it has to be, and nothing more is to be done. */
static bool read_front(struct port *my, struct arrival *a)
{
    takt_datagram *const d = a->d;
    if (my->map->accept) {
        const int n = proxy_read(d->data, d->len, true, &a->source, &a->hit);
        const bool trusted = is_trusted(&app.served, &d->from);
        app.n.untrusted += !trusted;
        app.n.malformed += trusted && n <= 0;
        if (!trusted || n <= 0)
            return false;
        d->data += n;
        d->len -= (uint32_t)n;
    }
    if (my->map->cookie && d->len >= GUEST_COOKIE && memcmp(d->data, guest_magic, 8) == 0) {
        a->validated =
            guests_know(&app.guests, &d->from, salt(my, a), takt_now(&my->frame), d->data);
        a->stale = !a->validated;
        d->data += a->validated ? GUEST_COOKIE : 0;
        d->len -= a->validated ? GUEST_COOKIE : 0;
    }
    a->upstream = my->map->token ? NULL : &my->map->upstream;
    for (int i = 0; my->map->token && d->len >= TOKEN && i < app.served.route_count; i++)
        if (memcmp(d->data, app.served.routes[i].token, TOKEN) == 0)
            a->upstream = &app.served.routes[i].upstream;
    return true;
}

/* A session for somebody who may have one; NULL if there is no room. */
static struct session *open_session(struct port *my, const struct arrival *a)
{
    const takt_ns now = takt_now(&my->frame);
    struct session *const s = app.rest_count ? app.rest[app.rest_first] : NULL;
    if (!s || takt_alive(&s->frame))
        return NULL;
    if (app.guests.live == app.guests.max) {
        struct guest *const victim = guests_victim(&app.guests, now);
        if (!victim)
            return NULL;
        put_out(victim, &app.n.evicted);
    }
    if (!TAKT_START_ON(&app.loop, *s, session, .postman = &my->postman, .upstream = a->upstream,
                       .local = a->d->to))
        return NULL;
    app.rest_first = (app.rest_first + 1) % app.session_count;
    app.rest_count--;
    s->fd = takt_udp_connect(&my->frame, a->upstream); /* if it fails, that ends it */
    s->guest.session = s;
    s->guest.map = my->map;
    s->guest.peer = a->d->from;
    s->guest.source = a->source;
    s->guest.validated = a->validated || my->map->open;
    guest_enter(&app.guests, &s->guest, now);
    return s;
}

/* A session for somebody who has none; or NULL, and why that is so was counted. */
static struct session *admit(struct port *my, const struct arrival *a)
{
    const takt_addr peer = host_plain(&a->d->from), hit = host_plain(&a->d->to);
    struct session *session = NULL;
    if (is_unfit(&app.served, &peer, &hit))
        app.n.unfit++;
    else if (!a->upstream)
        app.n.unrouted++;
    else if (my->map->cookie && !a->validated)
        challenge(my, a);
    else if (*guests_network(&app.guests, &a->source) >= app.guests.network_max)
        app.n.full_network++;
    else if (app.stop.set || (session = open_session(my, a)) == NULL)
        app.n.full++;
    else
        app.n.opened++;
    return session;
}

/* Notes down one that came, if it is to go up: then its buffer is held. */
static void take(struct port *my)
{
    struct arrival a;
    struct guest *guest;
    struct session *s;
    takt_datagram *const d = (takt_datagram *)(void *)my->item.data;
    memset(&a, 0, sizeof a);
    a.d = d;
    a.source = host_plain(&d->from);
    a.hit = host_plain(&d->to);
    memcpy(a.hit.sockaddr.bytes + HOST_PORT_AT, my->map->listen.sockaddr.bytes + HOST_PORT_AT, 2);
    app.n.udp_in++;
    app.n.truncated += d->truncated;
    if (d->truncated || !read_front(my, &a))
        return;
    guest = *guests_find(&app.guests, my->map, &d->from, &a.source);
    if (guest && a.upstream && guest->session->upstream != a.upstream) {
        put_out(guest, &app.n.expired); /* it has gone over to another game */
        guest = NULL;
    }
    s = guest && !a.stale ? guest->session : admit(my, &a);
    if (!s || (a.validated && d->len == 0))
        return;
    if (!guests_pass(&app.guests, &a.source, takt_now(&my->frame))) {
        app.n.over_rate++;
        return;
    }
    guest_heard(&app.guests, &s->guest, d->len, takt_now(&my->frame));
    if (my->map->send) { /* over the end of what was told of the datagram: that has been read */
        unsigned char header[PROXY_WRITE_MAX];
        const size_t n = proxy_write(header, my->map->send, true, &a.source, &a.hit);
        d->len += (uint32_t)n;
        memcpy(d->data -= n, header, n);
    }
    /* at once or never: one that is full is to hold up nobody */
    my->up[my->ups] = takt_by(takt_now(&my->frame), takt_sendto(s->fd, d->data, d->len, NULL));
    my->held[my->ups++] = my->item.data;
    my->item.data = NULL;
}

static void put_back(struct port *my)
{
    takt_bufs_put(&app.datagrams, &my->item.data);
    while (my->ups > 0)
        takt_bufs_put(&app.datagrams, &my->held[--my->ups]);
}

static TAKT_CORO(port)
{
    static const takt_udp options = {true, false, false, 4 << 20, 4 << 20};
    TAKT_BEGIN(port, my);
    my->fd = map_opened(my->map, takt_udp_bind(&my->frame, &my->map->listen));
    TAKT_CHECK(my->fd);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_DEFER { put_back(my); }
    takt_udp_options(&my->frame, my->fd, &options); /* what is not there is done without */
    TAKT_CHECK(takt_sockname(&my->frame, my->fd, &my->map->listen));
    map_show(my->map);
    my->stream.limit = TURN;
    TAKT_START(my->postman, postman, .fd = my->fd);
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->fd, &app.datagrams));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        do {
            take(my);
            takt_bufs_put(&app.datagrams, &my->item.data);
        } while (my->ups < TURN && takt_stream_take(&my->stream, &my->item));
        TAKT_AWAIT_ALL(my->up, (size_t)my->ups);
        for (int i = 0; i < my->ups; i++)
            ++*(my->up[i].result < 0 ? &app.n.unsent : &app.n.udp_up);
        put_back(my);
    }
    TAKT_END;
}

/* -- bridge: one TCP connection, both ways ---------------------------------------- */

struct bridge {
    takt_frame frame;
    const struct map *map; /* in */
    int client;            /* in: connected socket, closed here */
    uint32_t *source;      /* in: where its connections are counted */
    takt_addr from, to;    /* in: who came, and where to; or what its proxy says */
    int server, n, head;   /* bytes of its header */
    size_t got;            /* bytes of that and of what came with it */
    takt_ns deadline;
    bool clean;
    struct iovec pieces[2];
    takt_idle idle;
    takt_relay up, down;
    unsigned char out[PROXY_WRITE_MAX], in[PROXY_READ_MAX];
};

static TAKT_CORO(bridge)
{
    static const takt_tcp no_delay = {true, 0, 0, 0, 0};
    TAKT_BEGIN(bridge, my);
    TAKT_DEFER
    {
        app.n.tcp_bytes += my->up.bytes + my->down.bytes;
        app.n.failed += !my->clean;
        limits_leave(&app.limits, my->source);
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->client);
        TAKT_AWAIT(takt_close(my->client));
    }
    my->deadline = takt_after(takt_now(&my->frame), app.served.header);
    while (my->map->accept &&
           (my->head = proxy_read(my->in, my->got, false, &my->from, &my->to)) == 0) {
        TAKT_AWAIT(my->n, takt_by(my->deadline, takt_recv(my->client, my->in + my->got,
                                                          sizeof my->in - my->got)));
        TAKT_CHECK(my->n == 0 ? TAKT_ETRUNCATED : 0);
        my->got += (size_t)my->n;
    }
    app.n.malformed += my->head < 0;
    TAKT_CHECK(my->head < 0 ? -EPROTO : 0);

    TAKT_AWAIT(my->server, takt_within(app.served.connect, takt_tcp_connect(&my->map->upstream)));
    TAKT_DEFER
    {
        if (!my->clean)
            takt_reset_on_close(&my->frame, my->server);
        TAKT_AWAIT(takt_close(my->server));
    }
    takt_tcp_options(&my->frame, my->client, &no_delay);
    takt_tcp_options(&my->frame, my->server, &no_delay);
    takt_idle_start(&my->frame, &my->idle, app.served.idle);

    my->pieces[0].iov_base = my->out;
    if (my->map->send)
        my->pieces[0].iov_len = proxy_write(my->out, my->map->send, false, &my->from, &my->to);
    my->pieces[1].iov_base = my->in + my->head; /* what came behind the header */
    my->pieces[1].iov_len = my->got - (size_t)my->head;
    if (my->pieces[0].iov_len + my->pieces[1].iov_len > 0)
        TAKT_AWAIT(takt_sendv(my->server, my->pieces, 2));
    TAKT_START(my->down, takt_relay, .from = my->server, .to = my->client, .bufs = &app.bufs,
               .idle = &my->idle);
    TAKT_CALL(my->up, takt_relay, .from = my->client, .to = my->server, .bufs = &app.bufs,
              .idle = &my->idle);
    TAKT_JOIN(my->down);
    my->clean = true;

    TAKT_CATCH { say_failed(&my->frame, "a connection has failed"); }
    TAKT_END;
}

/* Those who are there may end in time: once nobody can come in any more. */
static void stop_the_rest(takt_sched *sched)
{
    if (app.stop.set && app.open_gates == 0)
        takt_stop(sched, app.served.drain);
}

/* -- gate: lets connections in until it is told to stop --------------------------- */

struct gate {
    takt_frame frame;
    struct map *map; /* in */
    int listener;
    takt_addr to;
    struct door door;
    takt_group bridges;
};

static bool let_in(struct door *door)
{
    struct gate *const my = (struct gate *)door->user;
    const bool trusted = !my->map->accept || is_trusted(&app.served, &door->from);
    app.n.untrusted += !trusted;
    return trusted && takt_sockname(&door->frame, door->client, &my->to) == 0 &&
           TAKT_GO_ON(&app.loop, my->bridges, bridge, .map = my->map, .client = door->client,
                      .source = door->source, .from = host_plain(&door->from),
                      .to = host_plain(&my->to), .server = -1);
}

static TAKT_CORO(gate)
{
    TAKT_BEGIN(gate, my);
    my->listener = map_opened(my->map, takt_listen(&my->frame, &my->map->listen, 0));
    TAKT_CHECK(my->listener);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_CHECK(takt_sockname(&my->frame, my->listener, &my->map->listen));
    map_show(my->map);
    TAKT_CALL(my->door, door, .program = "relay", .listener = my->listener, .stop = &app.stop,
              .limits = &app.limits, .let_in = let_in, .user = my);
    TAKT_AWAIT(takt_close(my->listener)); /* newcomers are to go elsewhere */
    my->listener = -1;
    app.open_gates--;
    stop_the_rest(takt_sched_of(&my->frame));
    TAKT_JOIN_GROUP(my->bridges);
    TAKT_END;
}

/* -- house: all that listens; what is to be done from time to time; signals ------- */

struct signals {
    takt_frame frame;
    int fd, number;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM | 1u << SIGUSR1));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (;;) {
        TAKT_AWAIT(my->number, takt_signal(my->fd));
        if (my->number == SIGUSR1) {
            show();
        } else if (app.stop.set) {
            takt_stop(takt_sched_of(&my->frame), 0);
        } else {
            takt_event_set(&app.stop);
            stop_the_rest(takt_sched_of(&my->frame));
        }
    }
    TAKT_END;
}

struct house {
    takt_frame frame;
    struct port ports[MAPS]; /* for each map one of these, */
    struct gate gates[MAPS]; /* or one of those */
    struct signals signals;
    takt_stream ticks;
    takt_item tick;
    takt_ns now, stats_due;
    struct guest *silent;
    const char *step;
    int i;
};

static TAKT_CORO(house)
{
    TAKT_BEGIN(house, my);
    my->step = "go on";
    TAKT_START(my->signals, signals);
    for (my->i = 0; my->i < app.served.map_count; my->i++) {
        if (app.served.maps[my->i].udp)
            TAKT_START(my->ports[my->i], port, .map = &app.served.maps[my->i], .fd = -1);
        else
            TAKT_START(my->gates[my->i], gate, .map = &app.served.maps[my->i], .listener = -1);
        app.open_gates += !app.served.maps[my->i].udp;
    }
    TAKT_YIELD; /* they listen now, */
    TAKT_YIELD; /* or this throws */
    if (app.served.sandbox)
        TAKT_CHECK(sandbox_enter(SANDBOX_STREAMS, 0, &my->step));
    fprintf(stderr, "relay: ready on %s\n", takt_uring_name(&app.loop.backend));
    my->stats_due = takt_after(takt_now(&my->frame), app.served.stats);
    TAKT_OPEN(my->ticks, takt_every(50 * TAKT_MS));
    while (!app.stop.set || app.guests.live > 0 || limits_open(&app.limits) > 0) {
        TAKT_NEXT(my->tick, my->ticks);
        my->now = takt_now(&my->frame);
        while ((my->silent = guests_silent(&app.guests, my->now - app.served.idle)) != NULL)
            put_out(my->silent, &app.n.expired);
        if (app.served.stats && my->now >= my->stats_due) {
            show();
            my->stats_due += app.served.stats;
        }
    }
    TAKT_CATCH
    {
        fprintf(stderr, "relay: cannot %s: %s\n", my->step, takt_strerror(my->frame.error));
        app.exit_code = 1;
        takt_stop(takt_sched_of(&my->frame), 0); /* nobody would end the sessions */
    }
    TAKT_END;
}

/* -- all memory, and the start ---------------------------------------------------- */

/* All memory that there will be, but the loop's. 0 or an error. */
static int allocate(const struct served *o)
{
    const uint32_t room = (256 + (uint32_t)o->datagram + 7) / 8 * 8;
    int rc;
    app.session_count = (uint32_t)o->sessions + SPARE;
    app.sessions = (struct session *)calloc(app.session_count, sizeof *app.sessions);
    app.rest = (struct session **)calloc(app.session_count, sizeof *app.rest);
    if (!app.sessions || !app.rest ||
        takt_bufs_init(&app.datagrams, (uint32_t)o->buffers, room) < 0 ||
        takt_bufs_init(&app.bufs, 2 * (uint32_t)o->connections, TCP_BUFFER) < 0)
        return -ENOMEM;
    for (; app.rest_count < app.session_count; app.rest_count++)
        app.rest[app.rest_count] = &app.sessions[app.rest_count];
    fprintf(stderr, "relay: memory: sessions %u x %zu, datagrams %d x %u, connections %d x %zu\n",
            app.session_count, sizeof *app.sessions + 2 * sizeof(takt_strand), o->buffers, room,
            o->connections, sizeof(struct bridge) + 2 * sizeof(takt_strand) + 2 * TCP_BUFFER);
    app.limits.connections = o->connections;
    app.limits.per_source = o->per_source;
    rc = limits_init(&app.limits);
    return rc < 0 ? rc : guests_init(&app.guests, o->sessions, o->per_network, o->rate);
}

int main(int argc, char **argv)
{
    int rc;
    app.config = net_defaults();
    served_options(&app.served, &app.config.backend, argc, argv);
    signal(SIGPIPE, SIG_IGN); /* whoever reads our log may go away */
    takt_raise_fd_limit();
    served_learn_own(&app.served);
    if ((rc = allocate(&app.served)) < 0)
        return server_fail("relay", "cannot allocate", rc);
    TAKT_POOL(app.config, house, 1, .strands = 3);
    TAKT_POOL(app.config, bridge, (uint32_t)app.limits.connections, .strands = 2);
    app.config.loop.strands = 2 * app.session_count + MAPS * (TURN + 4);
    app.config.loop.items = 2 * (uint32_t)app.served.buffers;
    if ((rc = net_init(&app.loop, &app.config)) < 0 || !TAKT_SPAWN_ON(&app.loop, house))
        return server_fail("relay", "cannot start the loop", rc);
    if ((rc = net_run(&app.loop)) < 0)
        return server_fail("relay", "the loop has ended", rc);
    show();
    net_free(&app.loop);
    return app.exit_code;
}
