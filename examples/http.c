/*
 * http.c - answers GET /N with N bytes.
 *
 *     cc -D_GNU_SOURCE -I. examples/http.c -luring -o http && ./http --listen 127.0.0.1:9000
 *     curl -s http://127.0.0.1:9000/1000000 | wc -c
 *
 * Byte i of every body is the top byte of n * n * 2654435761 modulo 2^32, n = i % 65521. The
 * period is prime: a piece that was lost, doubled or moved by a round number of bytes shows.
 *
 * A connection is a loop of two calls. What is wrong with a request is its status; what is
 * wrong with the connection is thrown, and caught in one place.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

#include <sys/socket.h>
#include <sys/uio.h>

#define CONNECTIONS_MAX 10000
#define HEAD_MAX        8192            /* bytes, also of a buffer */
#define IDLE_LIMIT      (60 * TAKT_SEC) /* between requests, and for a block to be sent */
#define HEAD_LIMIT      (10 * TAKT_SEC) /* from the first byte of a head to its last */
#define PERIOD          65521

static int exit_code;
static int quiet;                        /* no line for connections that fail */
static takt_bufs bufs;                   /* for heads */
static unsigned char block[16 * PERIOD]; /* bodies are sent from here, never copied */

static unsigned char pattern(uint64_t i)
{
    const uint32_t n = (uint32_t)(i % PERIOD);
    return (unsigned char)((n * n * 2654435761u) >> 24);
}

/* -- parsing: plain C, knows nothing of coroutines ------------------------ */

struct wish {           /* what a request asks for */
    const char *status; /* of the response; NULL: the peer is done, there is no request */
    long long length;   /* of its body */
    size_t left;        /* of that, to be sent: nothing, if only the head was asked for */
    bool keep_alive;
};

/* Cuts off what stands before the first `mark`, which is dropped; NULL if there is none. */
static char *cut(char **rest, const char *mark)
{
    char *const piece = *rest, *const end = strstr(piece, mark);
    if (!end)
        return NULL;
    *end = '\0';
    *rest = end + strlen(mark);
    return piece;
}

/* `head`: the lines of a request, each with its end. Returns the status. */
static const char *parse(struct wish *wish, char *head)
{
    char *line = cut(&head, "\r\n");
    const char *const method = cut(&line, " ");
    const char *const path = method ? cut(&line, " ") : NULL;
    bool keep_alive = strcmp(line, "HTTP/1.1") == 0;
    if (!path || !*path || !*method || (!keep_alive && strcmp(line, "HTTP/1.0") != 0))
        return "400 Bad Request";
    while (*head) {
        char *value = cut(&head, "\r\n");
        const char *const name = cut(&value, ":");
        if (!name || !*name || strpbrk(name, " \t\r\n") || strpbrk(value, "\r\n"))
            return "400 Bad Request";
        value += strspn(value, " \t");
        if (strcasecmp(name, "Transfer-Encoding") == 0 ||
            (strcasecmp(name, "Content-Length") == 0 && strcmp(value, "0") != 0))
            return "400 Bad Request"; /* a body, and we take none */
        if (strcasecmp(name, "Connection") == 0 && strcasestr(value, "close"))
            keep_alive = false;
    }
    wish->keep_alive = keep_alive; /* else we would not know where the next request begins */
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return "405 Method Not Allowed\r\nAllow: GET, HEAD";
    if (*path != '/' || !path[1] || path[1 + strspn(path + 1, "0123456789")] ||
        strlen(path) > 11 || atoll(path + 1) > 1 << 30)
        return "404 Not Found";
    wish->length = atoll(path + 1);
    wish->left = *method == 'G' ? (size_t)wish->length : 0;
    return "200 OK";
}

/* -- request: reads one head ---------------------------------------------- */

struct input { /* what has arrived and is not used up */
    int fd;
    unsigned char *data; /* of bufs; NULL while the peer is silent */
    size_t n;
};

static takt_op receive(struct input *in) /* whoever waits in silence holds no buffer */
{
    return in->data ? takt_recv(in->fd, in->data + in->n, HEAD_MAX - in->n)
                    : takt_recv_lease(in->fd, &bufs, &in->data);
}

/* Drops the first `used` bytes. The buffer goes back unless something is left. */
static void use_up(struct input *in, size_t used)
{
    in->n -= used;
    if (in->n == 0)
        takt_bufs_put(&bufs, &in->data);
    else
        memmove(in->data, in->data + used, in->n);
}

/* False while the head is not all there. */
static bool take_head(struct input *in, struct wish *wish)
{
    char *const head = (char *)in->data;
    char *const end = (char *)memmem(head, in->n, "\r\n\r\n", 4);
    if (!end)
        return false;
    end[2] = '\0'; /* in place of the empty line */
    wish->status = head + strlen(head) == end + 2 ? parse(wish, head) : "400 Bad Request";
    use_up(in, (size_t)(end + 4 - head));
    return true;
}

struct request {
    takt_frame frame;
    struct input *in; /* in */
    struct wish wish; /* out */
    takt_ns deadline;
    int n;
};

static TAKT_CORO(request)
{
    TAKT_BEGIN(request, my);
    if (!my->in->data) { /* else the peer did not wait for the last response */
        TAKT_AWAIT(my->n, takt_within(IDLE_LIMIT, receive(my->in)));
        my->in->n = (size_t)my->n;
        if (my->n == 0)
            TAKT_RETURN; /* and no wish */
    }
    my->deadline = takt_now(&my->frame) + HEAD_LIMIT;
    while (!take_head(my->in, &my->wish)) {
        my->wish.status = "431 Request Header Fields Too Large";
        if (my->in->n == HEAD_MAX)
            TAKT_RETURN;
        TAKT_AWAIT(my->n, takt_by(my->deadline, receive(my->in)));
        my->in->n += (size_t)my->n;
        my->wish.status = "400 Bad Request";
        if (my->n == 0)
            TAKT_RETURN;
    }
    TAKT_END;
}

/* -- response: writes head and body --------------------------------------- */

struct response {
    takt_frame frame;
    int fd;           /* in */
    struct wish wish; /* in */
    struct iovec parts[2]; /* of what is sent: head, body */
    char head[160];
};

static TAKT_CORO(response)
{
    TAKT_BEGIN(response, my);
    my->parts[0].iov_base = my->head;
    my->parts[0].iov_len = (size_t)snprintf(
        my->head, sizeof my->head, "HTTP/1.1 %s\r\nContent-Length: %lld\r\nConnection: %s\r\n\r\n",
        my->wish.status, my->wish.length, my->wish.keep_alive ? "keep-alive" : "close");
    my->parts[1].iov_base = block;
    do {
        my->parts[1].iov_len = my->wish.left < sizeof block ? my->wish.left : sizeof block;
        TAKT_AWAIT(takt_within(IDLE_LIMIT, takt_sendv(my->fd, my->parts, 2)));
        my->wish.left -= my->parts[1].iov_len;
        my->parts[0].iov_len = 0;
    } while (my->wish.left > 0);
    TAKT_END;
}

/* -- connection: requests and responses in turn --------------------------- */

struct connection {
    takt_frame frame;
    struct input in; /* in: .fd, connected socket, closed here */
    int n;
    takt_ns deadline;
    struct request request;
    struct response response;
};

static TAKT_CORO(connection)
{
    static const takt_tcp options = {true, 0, 0, 0, 0}; /* do not delay the end of a response */
    TAKT_BEGIN(connection, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->in.fd)); }
    TAKT_DEFER { use_up(&my->in, my->in.n); }
    TAKT_CHECK(takt_tcp_options(&my->frame, my->in.fd, &options));
    do {
        TAKT_CALL(my->request, request, .in = &my->in);
        if (!my->request.wish.status)
            TAKT_RETURN;
        TAKT_CALL(my->response, response, .fd = my->in.fd, .wish = my->request.wish);
    } while (my->request.wish.keep_alive && !takt_stopping(&my->frame));
    /* If a socket is closed with something unread, the peer may lose the response. */
    TAKT_AWAIT(takt_shutdown(my->in.fd, SHUT_WR));
    my->deadline = takt_now(&my->frame) + TAKT_SEC;
    do {
        use_up(&my->in, my->in.n);
        TAKT_TRY_AWAIT(my->n, takt_by(my->deadline, receive(&my->in)));
    } while (my->n > 0);
    TAKT_CATCH {
        if (!quiet)
            fprintf(stderr, "http: a connection failed: %s\n", takt_strerror(my->frame.error));
    }
    TAKT_END;
}

/* -- server: accepts until it is told to stop ----------------------------- */

struct stopper {
    takt_frame frame;
    int signals;
};

static TAKT_CORO(stopper)
{
    TAKT_BEGIN(stopper, my);
    TAKT_CHECK(my->signals = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->signals)); }
    TAKT_AWAIT(takt_signal(my->signals));
    takt_stop(takt_sched_of(&my->frame), 2 * TAKT_SEC);
    TAKT_END;
}

struct server {
    takt_frame frame;
    takt_addr *addr; /* in: where to listen */
    int listener, fd;
    char where[TAKT_ADDR_TEXT];
    takt_group connections;
    struct stopper stopper;
};

static TAKT_CORO(server)
{
    TAKT_BEGIN(server, my);
    takt_addr_format(my->addr, my->where, sizeof my->where);
    TAKT_CHECK(my->listener = takt_listen(&my->frame, my->addr, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_START(my->stopper, stopper);
    TAKT_YIELD; /* by now it listens to signals */
    takt_sockname(&my->frame, my->listener, my->addr); /* the port may have been 0 */
    takt_addr_format(my->addr, my->where, sizeof my->where);
    fprintf(stderr, "http: listening on %s\n", my->where);
    for (;;) {
        TAKT_TRY_AWAIT(my->fd, takt_accept(my->listener, NULL));
        if (my->fd == TAKT_ESTOPPING)
            break;
        if (my->fd < 0)
            TAKT_AWAIT(takt_sleep(10 * TAKT_MS)); /* no descriptors: let some close */
        else if (!TAKT_GO(my->connections, connection, .in.fd = my->fd))
            TAKT_AWAIT(takt_close(my->fd)); /* full: turn the guest away */
    }
    TAKT_JOIN_GROUP(my->connections);
    TAKT_CATCH {
        fprintf(stderr, "http: cannot serve %s: %s\n", my->where, takt_strerror(my->frame.error));
        exit_code = 1;
    }
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static const char usage[] =
    "usage: http --listen ADDRESS [options]\n"
    "  --listen ADDRESS   127.0.0.1:9000, [::1]:9000, :9000 or unix:/path; port 0 picks one\n"
    "  --backend NAME     auto (io_uring if it works, else epoll), uring or poll\n"
    "  --quiet            no line for connections that fail\n"
    "GET /N is answered by N bytes, up to 1 GiB: byte i is the top byte of n * n * 2654435761\n"
    "modulo 2^32, n = i % 65521. SIGTERM or SIGINT: responses have 2 s to end.\n";

int main(int argc, char **argv)
{
    static net loop;
    static takt_addr addr;
    net_config config = net_defaults();
    const struct server_option options[] = {
        {"--listen", server_address, &addr, 0},
        {"--quiet", server_flag, &quiet, 0},
        {NULL, NULL, NULL, 0},
    };
    int rc;
    server_options("http", usage, options, &config.backend, argc, argv);
    if (!addr.len)
        server_wrong("http", "--listen is needed");
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = pattern(i);
    TAKT_POOL(config, connection, CONNECTIONS_MAX);
    TAKT_POOL(config, server, 1, .strands = 2);
    takt_raise_fd_limit();
    if ((rc = takt_bufs_init(&bufs, CONNECTIONS_MAX, HEAD_MAX)) < 0 ||
        (rc = net_init(&loop, &config)) < 0)
        return server_fail("http", "cannot start", rc);
    return !TAKT_SPAWN_ON(&loop, server, .addr = &addr) || net_run(&loop) < 0 || exit_code;
}
