/*
 * embed.c - takt in a loop of somebody else's: which of these ports are open?
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/embed.c -luring -o embed
 *     printf '127.0.0.1:22\n127.0.0.1:1\n' | ./embed
 *
 * The host owns the thread: a loop around poll(2), as a window system has one, that reads what
 * is typed. To it takt is one more descriptor, and a deadline:
 *
 *     before it sleeps   it watches net_fd(), and sleeps until net_deadline() at the latest
 *     when it wakes      net_turn(&loop, 0, MOST): so much and no more, and it never waits
 *
 * Its callbacks start coroutines, or single operations that end in a callback. All of that moves
 * the deadline: so this is asked for last, and no wake-up is lost.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

enum { PROBES = 64, MOST = 32 };

TAKT_LOOP(net, takt_uring);
static net loop;

/* -- several in a row: a coroutine ---------------------------------------------------- */

struct probe {
    takt_frame frame;
    takt_addr addr; /* in */
    int fd, n;
    char greeting[64];
};

static int probes; /* under way */

static void report(const struct probe *my, const char *what)
{
    char text[TAKT_ADDR_TEXT];
    printf("%s %s\n", takt_addr_format(&my->addr, text, sizeof text), what);
    fflush(stdout);
}

static TAKT_CORO(probe)
{
    TAKT_BEGIN(probe, my);
    TAKT_DEFER { probes--; }
    TAKT_AWAIT(my->fd, takt_within(2 * TAKT_SEC, takt_tcp_connect(&my->addr)));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_TRY_AWAIT(my->n, takt_within(200 * TAKT_MS,
                                      takt_recv(my->fd, my->greeting, sizeof my->greeting - 1)));
    my->greeting[strcspn(my->greeting, "\r\n")] = '\0';
    report(my, my->n > 0 ? my->greeting : "is open");
    TAKT_CATCH { report(my, takt_strerror(my->frame.error)); }
    TAKT_END;
}

/* -- the host ------------------------------------------------------------------------- */

static struct {
    char typed[4096]; /* and not yet seen to */
    size_t length;
    bool ended; /* nothing more is typed */
    bool over;
} host;

static void probe_line(const char *line)
{
    takt_addr addr;
    if (takt_addr_parse(&addr, line) < 0)
        printf("%s is no ADDRESS:PORT\n", line);
    else if (TAKT_SPAWN_ON(&loop, probe, .addr = addr))
        probes++;
}

/* As many lines as there are probes for. */
static void take_lines(void)
{
    char *end;
    while (probes < PROBES && (end = (char *)memchr(host.typed, '\n', host.length)) != NULL) {
        const size_t size = (size_t)(end + 1 - host.typed);
        *end = '\0';
        probe_line(host.typed);
        host.length -= size;
        memmove(host.typed, host.typed + size, host.length);
    }
    if (host.length + 1 == sizeof host.typed && !memchr(host.typed, '\n', host.length))
        host.length = 0; /* no address is that long */
}

static void read_keyboard(void)
{
    const ssize_t n = read(STDIN_FILENO, host.typed + host.length,
                           sizeof host.typed - 1 - host.length);
    if (n <= 0) {
        if (host.length > 0)
            host.typed[host.length++] = '\n'; /* the last line may lack it */
        host.ended = true;
    } else {
        host.length += (size_t)n;
    }
}

/* A single operation needs no coroutine: each tick submits the next. */
static void tick(void *user, int64_t result)
{
    int *const seconds = (int *)user;
    if (result < 0)
        return; /* TAKT_ECANCELED: the loop has ended */
    fprintf(stderr, "embed: %d s, %d under way\n", ++*seconds, probes);
    (void)!net_submit_op(&loop, takt_sleep(TAKT_SEC), tick, user); /* there is room for more */
}

struct ctrl_c {
    takt_frame frame;
    int fd;
};

static TAKT_CORO(ctrl_c)
{
    TAKT_BEGIN(ctrl_c, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_AWAIT(takt_signal(my->fd));
    host.over = true;
    TAKT_END;
}

/* How long the host may sleep, in the milliseconds of poll(2). */
static int patience(void)
{
    const takt_ns deadline = net_deadline(&loop), left = deadline - net_now(&loop);
    if (left <= 0)
        return 0;
    if (net_fd(&loop) < 0)
        return 1; /* a system that has only poll(2): takt must look for itself */
    return left > 60 * TAKT_SEC ? 60000 : (int)(left / TAKT_MS) + 1;
}

static int host_run(void)
{
    struct pollfd watched[2];
    int rc = net_turn(&loop, 0, MOST);
    while (rc >= 0 && !host.over && !(host.ended && host.length == 0 && probes == 0)) {
        watched[0].fd = host.ended || host.length + 1 == sizeof host.typed ? -1 : STDIN_FILENO;
        watched[1].fd = net_fd(&loop);
        watched[0].events = watched[1].events = POLLIN;
        if (poll(watched, 2, patience()) > 0 && watched[0].revents)
            read_keyboard();
        take_lines();
        rc = net_turn(&loop, 0, MOST); /* whatever it was that woke us */
    }
    return rc;
}

static const char usage[] =
    "usage: embed [options] < LINES\n"
    "  LINES            ADDRESS:PORT each, as 127.0.0.1:22 or [::1]:22\n"
    "  --backend NAME   auto (io_uring if it works, else epoll), uring or poll\n"
    "SIGTERM or SIGINT: it ends.\n";

int main(int argc, char **argv)
{
    static const struct server_option none = {NULL, NULL, NULL, 0};
    net_config config = net_defaults();
    int seconds = 0, rc;
    server_options("embed", usage, &none, &config.backend, argc, argv);
    TAKT_POOL(config, probe, PROBES);
    TAKT_POOL(config, takt_request, 8);
    TAKT_POOL(config, ctrl_c, 1);
    if ((rc = net_init(&loop, &config)) < 0)
        return server_fail("embed", "cannot start", rc);
    if (!TAKT_SPAWN_ON(&loop, ctrl_c) ||
        !net_submit_op(&loop, takt_sleep(TAKT_SEC), tick, &seconds))
        return 1;
    rc = host_run();
    return net_free(&loop) < 0 || rc < 0; /* what is under way is cancelled */
}
