/*
 * relay.c - stands in front of game servers, for UDP and TCP.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/relay.c -luring -o relay
 *     ./relay --map udp:0.0.0.0:7000=10.0.0.5:7000,cookie --map tcp:0.0.0.0:7000=10.0.0.5:7000
 *
 * UDP: each source has a session, which is a socket towards the upstream, so that answers
 * find back. What came in a turn goes up in one flush, what is answered in a turn goes out
 * in one burst, from the address that was asked. TCP: connections are relayed both ways, as
 * in proxy.c. All memory is allocated at the start.
 *
 * In here stands the half of UDP. Who may have a session, and what it may be sent, is decided
 * in relay/sessions.h; the half of TCP is relay/tcp.h.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "relay/log.h"
#include "relay/options.h"
#include "relay/sessions.h"
#include "relay/sources.h"
#include "relay/tcp.h"

#include <signal.h>
#include <sys/random.h>

enum { TURN = 256, JOINED = 64, POST = 1024 }; /* datagrams: of a turn, in a buffer, of a burst */
enum { SPARE = 512 }; /* sessions that are on their way out, beside those that live */
enum { MAGIC = 8, COOKIE = MAGIC + 8, TCP_BUFFER = 16 * 1024 };
static const char magic[MAGIC + 1] = "takt-ck1";

TAKT_LOOP(net, takt_uring);

struct app {
    struct options options;
    struct guests guests;
    struct session *sessions, **rest; /* all of them; those that are free, in a ring */
    uint32_t session_count, rest_first, rest_count;
    struct own own;
    takt_bufs datagrams;
    struct tcp tcp;
    struct port *ports; /* one a map, */
    struct door *doors; /* of which either is used */
    struct counted n;
    net *loop;
    bool stopping;
    int exit_code;
    char backend[256];
};

/* -- port: a UDP socket that clients send to; what is answered goes out by its postman ---- */

struct outbox {
    takt_packet packet[POST];
    unsigned char *buffer[POST]; /* in which they stand */
    int packets, buffers;
};

struct postman {
    takt_frame frame;
    struct port *port; /* in */
    struct outbox *box;
    int n;
};

struct port {
    takt_frame frame;
    struct app *app; /* in */
    struct map *map; /* in */
    int fd;
    takt_stream stream;
    takt_item item;
    takt_op up[TURN]; /* what is to be sent up, and the buffers in which that stands */
    unsigned char *held[TURN];
    int ups, holds;
    struct outbox boxes[2], *filling; /* one is filled while the other is sent */
    takt_event mail, room;
    struct postman postman;
};

static bool has_room(const struct port *port)
{
    return port->filling->packets + JOINED <= POST && port->filling->buffers < POST;
}

/* Puts a buffer into the outbox, for where its .from says; of a guest, as much as it may
 * get. There has to be room. */
static void post(struct port *port, unsigned char **data, struct guest *guest)
{
    takt_datagram *const d = (takt_datagram *)(void *)*data;
    struct outbox *const box = port->filling;
    const uint32_t size = d->segment ? d->segment : d->len;
    uint32_t at = 0;
    do {
        takt_packet *const packet = &box->packet[box->packets];
        packet->data = d->data + at;
        packet->len = d->len - at < size ? d->len - at : size;
        packet->to = &d->from;
        packet->from = &d->to;
        if (!guest || guest_may_get(guest, packet->len))
            box->packets++;
        else
            port->app->n.over_limit++;
        at += packet->len;
    } while (at < d->len);
    box->buffer[box->buffers++] = *data;
    *data = NULL;
    takt_event_set(&port->mail);
}

static TAKT_CORO(postman)
{
    TAKT_BEGIN(postman, my);
    for (;;) {
        TAKT_AWAIT(takt_event_wait(&my->port->mail));
        takt_event_reset(&my->port->mail);
        my->box = my->port->filling;
        my->port->filling = &my->port->boxes[my->box == my->port->boxes];
        takt_event_set(&my->port->room);
        takt_event_reset(&my->port->room);
        TAKT_TRY_AWAIT(my->n, takt_send_burst(my->port->fd, my->box->packet,
                                              (size_t)my->box->packets));
        my->n = my->n < 0 ? 0 : my->n;
        my->port->app->n.udp_out += (uint64_t)my->n;
        my->port->app->n.unsent += (uint64_t)(my->box->packets - my->n);
        while (my->box->buffers > 0)
            takt_bufs_put(&my->port->app->datagrams, &my->box->buffer[--my->box->buffers]);
        my->box->packets = 0;
    }
    TAKT_END;
}

/* -- session: from the upstream to its client --------------------------------------------- */

struct session {
    takt_frame frame;
    struct app *app;           /* in */
    struct port *port;         /* in: where its client comes to */
    const takt_addr *upstream; /* in */
    takt_addr client, local;   /* in: where answers go to, and leave from */
    int fd;                    /* connected to the upstream, closed here */
    struct guest guest;        /* what is known of its client */
    unsigned char secret[SESSION_SECRET]; /* that the upstream has told it */
    bool has_secret;
    takt_stream stream;
    takt_item item;
};

/* The upstream has answered. */
static void answer(struct session *my)
{
    takt_datagram *const d = (takt_datagram *)(void *)my->item.data;
    const unsigned at = my->port->map->secret_at;
    const int posted = my->port->filling->packets;
    if (d->truncated) {
        my->app->n.truncated++;
        takt_bufs_put(&my->app->datagrams, &my->item.data);
        return;
    }
    d->from = my->client;
    d->to = my->local;
    post(my->port, &my->item.data, &my->guest);
    if (my->port->map->echo && d->len >= at + SESSION_SECRET &&
        my->port->filling->packets > posted) { /* it gets to see it */
        memcpy(my->secret, d->data + at, SESSION_SECRET);
        my->has_secret = true;
    }
}

static TAKT_CORO(session)
{
    TAKT_BEGIN(session, my);
    TAKT_DEFER
    {
        takt_bufs_put(&my->app->datagrams, &my->item.data);
        TAKT_AWAIT(takt_close(my->fd));
        if (my->guest.listed)
            guest_leave(&my->app->guests, &my->guest);
        my->app->rest[(my->app->rest_first + my->app->rest_count++) % my->app->session_count] = my;
    }
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->fd, &my->app->datagrams));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end)
            break;
        while (!has_room(my->port))
            TAKT_AWAIT(takt_event_wait(&my->port->room));
        answer(my);
    }
    TAKT_CATCH { say(&my->app->n, "a session has failed: %s", takt_strerror(my->frame.error)); }
    TAKT_END;
}

static void put_out(struct session *session, uint64_t *reason)
{
    ++*reason;
    guest_leave(&session->app->guests, &session->guest);
    takt_cancel(&session->frame);
}

/* -- port: from clients to the upstream ---------------------------------------------------- */

/* What came, and what is known about it. */
struct arrival {
    takt_datagram *d;
    unsigned char *data; /* without what stood in front of it */
    uint32_t len;
    struct session_key key;
    struct endpoint hit; /* whom the source has asked */
    const takt_addr *upstream;
    bool validated, stale; /* it has brought a cookie, but an old one */
};

static bool is_cookie(const struct port *my, const struct arrival *a)
{
    const int64_t when = takt_now(&my->frame) / (30 * TAKT_SEC);
    uint64_t cookie;
    memcpy(&cookie, a->data + MAGIC, sizeof cookie);
    return cookie == guests_cookie(&my->app->guests, &a->key, when) ||
           cookie == guests_cookie(&my->app->guests, &a->key, when - 1);
}

/* Answers with a cookie, and forgets about it. Not if that would be more than came. */
static void challenge(struct port *my, const struct arrival *a)
{
    const int64_t when = takt_now(&my->frame) / (30 * TAKT_SEC);
    const uint64_t cookie = guests_cookie(&my->app->guests, &a->key, when);
    if (a->len < COOKIE || !has_room(my))
        return;
    a->d->data = a->data;
    a->d->len = COOKIE;
    memcpy(a->data, magic, MAGIC);
    memcpy(a->data + MAGIC, &cookie, sizeof cookie);
    my->app->n.challenged++;
    post(my, &my->item.data, NULL);
}

/* Reads what stands in front: the header of a trusted proxy, a cookie, a token. False: it is
 * not as it has to be, and nothing more is to be done. */
static bool read_front(struct port *my, struct arrival *a)
{
    struct app *const app = my->app;
    if (my->map->accept) {
        const int n = proxy_read(a->data, a->len, true, &a->key.source, &a->hit);
        if (!is_trusted(&app->options, &a->key.peer)) {
            app->n.untrusted++;
            return false;
        }
        if (n <= 0) {
            app->n.malformed++;
            return false;
        }
        a->data += n;
        a->len -= (uint32_t)n;
    }
    if (my->map->cookie && a->len >= COOKIE && memcmp(a->data, magic, MAGIC) == 0) {
        a->validated = is_cookie(my, a);
        a->stale = !a->validated;
    }
    if (a->validated) {
        a->data += COOKIE;
        a->len -= COOKIE;
    }
    a->upstream = my->map->token ? NULL : &my->map->upstream;
    for (int i = 0; my->map->token && a->len >= TOKEN && i < app->options.route_count; i++)
        if (memcmp(a->data, app->options.routes[i].token, TOKEN) == 0)
            a->upstream = &app->options.routes[i].upstream;
    return true;
}

/* A session for somebody who may have one; NULL if there is no room. */
static struct session *open_session(struct port *my, const struct arrival *a)
{
    static const takt_udp joined = {false, false, true, 0, 0};
    struct app *const app = my->app;
    const takt_ns now = takt_now(&my->frame);
    struct session *const s = app->rest_count ? app->rest[app->rest_first] : NULL;
    if (!s || takt_alive(&s->frame))
        return NULL;
    if (app->guests.live == app->guests.max) {
        struct guest *const victim = guests_victim(&app->guests, now);
        if (!victim)
            return NULL;
        put_out(victim->session, &app->n.evicted);
    }
    if (!TAKT_START_ON(app->loop, *s, session, .app = app, .port = my, .upstream = a->upstream,
                       .client = a->d->from, .local = a->d->to, .fd = -1))
        return NULL;
    app->rest_first = (app->rest_first + 1) % app->session_count;
    app->rest_count--;
    s->guest.session = s;
    s->guest.key = a->key;
    s->guest.validated = a->validated || my->map->open;
    guest_enter(&app->guests, &s->guest, now);
    s->fd = takt_udp_connect(&my->frame, a->upstream);
    if (s->fd < 0) {
        say(&app->n, "no socket for a session: %s", takt_strerror(s->fd));
        put_out(s, &app->n.expired);
        return NULL;
    }
    if (app->options.datagram == UINT16_MAX)
        takt_udp_options(&my->frame, s->fd, &joined);
    return s;
}

/* A session for somebody who has none; or NULL, and why that is so was counted. */
static struct session *admit(struct port *my, const struct arrival *a)
{
    struct app *const app = my->app;
    struct session *session = NULL;
    if (is_unfit(&app->options, &app->own, &a->key.peer, &a->hit))
        app->n.unfit++;
    else if (!a->upstream)
        app->n.unrouted++;
    else if (my->map->cookie && !a->validated)
        challenge(my, a);
    else if (guests_are_full(&app->guests, &a->key.source))
        app->n.full_network++;
    else if (app->stopping || (session = open_session(my, a)) == NULL)
        app->n.full++;
    else
        app->n.opened++;
    app->n.validated += session && session->guest.validated;
    return session;
}

/* Notes down that this is to go up. */
static void send_up(struct port *my, struct session *s, const struct arrival *a,
                    unsigned char *data, uint32_t len)
{
    const struct map *const map = my->map;
    if (!guest_heard(&my->app->guests, &s->guest, len, takt_now(&my->frame))) {
        my->app->n.over_rate++;
        return;
    }
    if (s->has_secret && !s->guest.validated && len >= map->echo_at + SESSION_SECRET &&
        memcmp(data + map->echo_at, s->secret, SESSION_SECRET) == 0) {
        s->guest.validated = true;
        my->app->n.validated++;
    }
    if (map->send) { /* into the end of what was told of the datagram: that has been read */
        unsigned char header[PROXY_WRITE_MAX];
        const size_t n = proxy_write(header, map->send, true, &a->key.source, &a->hit);
        data -= n;
        len += (uint32_t)n;
        memcpy(data, header, n);
    }
    my->up[my->ups++] = takt_within(5 * TAKT_MS, takt_sendto(s->fd, data, len, NULL));
}

/* Sees to one buffer that came. It is held while something of it is to go up. */
static void take(struct port *my)
{
    struct app *const app = my->app;
    struct arrival a;
    struct guest *guest;
    struct session *session;
    memset(&a, 0, sizeof a);
    a.d = (takt_datagram *)(void *)my->item.data;
    a.data = a.d->data;
    a.len = a.d->len;
    a.key.peer = a.key.source = endpoint_of(&a.d->from);
    a.key.map = (uint16_t)(my->map - app->options.maps);
    a.hit = endpoint_of(&a.d->to);
    a.hit.port = (uint16_t)takt_addr_port(&my->map->listen);
    app->n.udp_in++;
    if (a.d->truncated || !read_front(my, &a)) {
        app->n.truncated += a.d->truncated;
        return;
    }
    guest = *guest_place(&app->guests, &a.key);
    if (guest && a.upstream && guest->session->upstream != a.upstream) {
        put_out(guest->session, &app->n.expired); /* it has gone over to another game */
        guest = NULL;
    }
    session = guest && !a.stale ? guest->session : admit(my, &a);
    if (!session || (a.validated && a.len == 0))
        return;
    my->held[my->holds++] = my->item.data;
    my->item.data = NULL;
    for (uint32_t at = 0, size = a.d->segment ? a.d->segment : a.len;;) {
        const uint32_t len = a.len - at < size ? a.len - at : size;
        send_up(my, session, &a, a.data + at, len);
        at += len;
        if (at >= a.len)
            break;
    }
}

static void put_back(struct port *my)
{
    takt_bufs_put(&my->app->datagrams, &my->item.data);
    while (my->holds > 0)
        takt_bufs_put(&my->app->datagrams, &my->held[--my->holds]);
}

/* What belongs in front of each datagram keeps them from coming joined. */
static takt_udp port_options(const struct port *my)
{
    const struct map *const map = my->map;
    const bool plain = !map->cookie && !map->token && !map->accept && !map->send;
    const takt_udp options = {true, false, plain && my->app->options.datagram == UINT16_MAX,
                              4 << 20, 4 << 20};
    return options;
}

static TAKT_CORO(port)
{
    takt_udp options;
    TAKT_BEGIN(port, my);
    TAKT_CHECK(my->fd = takt_udp_bind(&my->frame, &my->map->listen));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_DEFER { put_back(my); }
    options = port_options(my);
    takt_udp_options(&my->frame, my->fd, &options); /* what is not there is done without */
    TAKT_CHECK(takt_sockname(&my->frame, my->fd, &my->map->listen));
    say_listening(my->map);
    my->filling = my->boxes;
    my->stream.limit = JOINED;
    TAKT_START(my->postman, postman, .port = my);
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->fd, &my->app->datagrams));
    for (;;) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end)
            break;
        my->ups = 0;
        do {
            take(my);
            takt_bufs_put(&my->app->datagrams, &my->item.data);
        } while (my->ups + JOINED <= TURN && my->holds < TURN &&
                 takt_stream_take(&my->stream, &my->item));
        TAKT_AWAIT_ALL(my->up, (size_t)my->ups);
        for (int i = 0; i < my->ups; i++)
            ++*(my->up[i].result < 0 ? &my->app->n.unsent : &my->app->n.udp_up);
        put_back(my);
    }
    TAKT_END;
}

/* -- house: what has to be done from time to time, signals, and all that listens ------------- */

struct keeper {
    takt_frame frame;
    struct app *app; /* in */
    takt_stream tenths; /* of a second */
    takt_item item;
    uint64_t count;
    takt_ns stats_due;
};

/* Puts out who has been silent for too long. */
static void expire(struct app *app, takt_ns now)
{
    struct guest *guest;
    while ((guest = guests_silent(&app->guests, now - app->options.idle)) != NULL)
        put_out(guest->session, &app->n.expired);
}

static TAKT_CORO(keeper)
{
    TAKT_BEGIN(keeper, my);
    my->stats_due = takt_after(takt_now(&my->frame), my->app->options.stats);
    TAKT_OPEN(my->tenths, takt_every(100 * TAKT_MS));
    for (;;) {
        TAKT_NEXT(my->item, my->tenths);
        expire(my->app, takt_now(&my->frame));
        if (++my->count % 10 == 0)
            my->app->n.lines = LINES;
        if (my->app->options.stats && takt_now(&my->frame) >= my->stats_due) {
            say_counted(&my->app->n, my->app->guests.live, my->app->tcp.connections);
            my->stats_due += my->app->options.stats;
        }
        if (my->app->stopping && my->app->guests.live + my->app->tcp.connections == 0)
            takt_stop(takt_sched_of(&my->frame), 0); /* all have gone */
    }
    TAKT_END;
}

struct signals {
    takt_frame frame;
    struct app *app; /* in */
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
            say_counted(&my->app->n, my->app->guests.live, my->app->tcp.connections);
        } else {
            takt_stop(takt_sched_of(&my->frame), my->app->stopping ? 0 : my->app->options.drain);
            my->app->stopping = true;
        }
    }
    TAKT_END;
}

struct house {
    takt_frame frame;
    struct app *app; /* in */
    struct signals signals;
    struct keeper keeper;
    int i;
};

static TAKT_CORO(house)
{
    TAKT_BEGIN(house, my);
    TAKT_START(my->signals, signals, .app = my->app);
    TAKT_START(my->keeper, keeper, .app = my->app);
    for (my->i = 0; my->i < my->app->options.map_count; my->i++) {
        if (my->app->options.maps[my->i].udp)
            TAKT_START(my->app->ports[my->i], port, .app = my->app,
                       .map = &my->app->options.maps[my->i], .fd = -1);
        else
            TAKT_START(my->app->doors[my->i], door, .tcp = &my->app->tcp,
                       .map = &my->app->options.maps[my->i]);
    }
    TAKT_YIELD; /* they listen now, or this throws */
    fprintf(stderr, "relay: ready on %s\n", my->app->backend);
    TAKT_JOIN();
    TAKT_CATCH {
        fprintf(stderr, "relay: cannot listen: %s\n", takt_strerror(my->frame.error));
        my->app->exit_code = 1;
    }
    TAKT_END;
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "relay: %s: %s\n", what, takt_strerror(error));
    return 1;
}

/* All memory that there will be, but the loop's. 0 or -ENOMEM. */
static int allocate(struct app *app)
{
    const struct options *const o = &app->options;
    const uint32_t room = (sizeof(takt_datagram) + o->datagram + 7) / 8 * 8;
    app->session_count = o->sessions + SPARE;
    app->sessions = (struct session *)calloc(app->session_count, sizeof *app->sessions);
    app->rest = (struct session **)calloc(app->session_count, sizeof *app->rest);
    app->ports = (struct port *)calloc((size_t)o->map_count, sizeof *app->ports);
    app->doors = (struct door *)calloc((size_t)o->map_count, sizeof *app->doors);
    app->guests.max = o->sessions;
    app->guests.network_max = o->per_network;
    app->guests.rate = o->rate;
    app->guests.protect = o->protect;
    if (!app->sessions || !app->rest || !app->ports || !app->doors ||
        !guests_init(&app->guests, o->connections))
        return -ENOMEM;
    for (; app->rest_count < app->session_count; app->rest_count++)
        app->rest[app->rest_count] = &app->sessions[app->rest_count];
    app->tcp.options = o;
    app->tcp.n = &app->n;
    app->tcp.guests = &app->guests;
    fprintf(stderr, "relay: memory: %u sessions of %u bytes, %u datagrams of %u, %u connections "
            "of %u and 2 buffers of %u; sent where it is needed, and never more\n",
            app->session_count, (unsigned)(sizeof(struct session) + 2 * sizeof(takt_strand)),
            o->buffers, room, o->connections,
            (unsigned)(sizeof(struct bridge) + 2 * sizeof(takt_strand)), TCP_BUFFER);
    return takt_bufs_init(&app->datagrams, o->buffers, room) |
           takt_bufs_init(&app->tcp.bufs, 2 * o->connections, TCP_BUFFER);
}

int main(int argc, char **argv)
{
    static net loop;
    static struct app app;
    net_config config = net_defaults();
    int rc;

    if (takt_uring_config_from_env(&config.backend) < 0)
        return fail("TAKT_BACKEND or TAKT_DISABLE is not understood", -EINVAL);
    app.options.backend = config.backend.mode;
    parse(&app.options, argc, argv);
    config.backend.mode = app.options.backend;
    signal(SIGPIPE, SIG_IGN); /* whoever reads our log may go away */
    own_learn(&app.own);
    if (getrandom(app.guests.secret, sizeof app.guests.secret, 0) != sizeof app.guests.secret)
        return fail("no random numbers", -errno);
    if (allocate(&app) < 0)
        return fail("cannot allocate", -ENOMEM);
    rc = takt_raise_fd_limit();
    if (rc < (int)(app.session_count + 2 * app.options.connections))
        fprintf(stderr, "relay: %d descriptors are few for so many: ulimit -n\n", rc);

    TAKT_POOL(config, house, 1, .strands = 4);
    TAKT_POOL(config, bridge, app.options.connections, .strands = 2);
    config.loop.strands = 2 * app.session_count + TURN + 3 * MAPS;
    config.loop.items = 4 * app.options.buffers;
    rc = net_init(&loop, &config);
    if (rc < 0)
        return fail("cannot start the loop", rc);
    app.loop = &loop;
    takt_uring_describe(&loop.backend, app.backend, sizeof app.backend);
    if (loop.backend.on_ring)
        strcpy(app.backend, takt_uring_name(&loop.backend)); /* without its details */

    if (!TAKT_SPAWN_ON(&loop, house, .app = &app))
        return 1;
    rc = net_run(&loop);
    if (rc < 0)
        return fail("the loop has ended", rc);
    say_counted(&app.n, app.guests.live, app.tcp.connections);
    net_free(&loop);
    return app.exit_code;
}
