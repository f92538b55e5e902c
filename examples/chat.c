/*
 * chat.c - a room for fifty guests, line by line.
 *
 *     cc -D_GNU_SOURCE -I. examples/chat.c -luring -o chat && ./chat --listen 127.0.0.1:7000
 *     nc 127.0.0.1 7000
 *
 * Each line goes to all others, in order; /nick NAME, /who and /quit are for the server.
 * Nobody waits for anybody: each guest has an outbox, and who reads so slowly that it is
 * full is put out. A line that is too long is dropped, and its author is told.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

enum { GUESTS = 50, DOOR = 8, OUTBOX = 256 }; /* DOOR more may hear that all is taken */
enum { NAME = 15, LINE = 256, LETTER = 32768 }; /* bytes, at most */

struct line {
    size_t length;
    char text[LINE + NAME + 8];
};

struct room {
    struct guest *guests[GUESTS];
    int count, visits;
    takt_ns idle; /* how long a guest may be silent */
};

struct ear { /* reads what one guest types */
    takt_frame frame;
    struct guest *guest; /* in */
    int n, at;
    size_t length; /* of the line so far, with what did not fit */
    char line[LINE + 1];
    char buf[1024];
};

struct guest { /* writes what the others say */
    takt_frame frame;
    int fd;            /* in: connected socket, closed here */
    struct room *room; /* in */
    char name[NAME + 1];
    int n;
    takt_channel outbox;
    struct line lines[OUTBOX]; /* those in it */
    struct line line;          /* fresh from it */
    char letter[LETTER];       /* many lines, on their way */
    struct ear ear;
    takt_idle farewell;
};

/* -- the room: plain functions, nobody waits in here ------------------------------ */

static struct line print(const char *format, ...)
{
    struct line line;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line.text, sizeof line.text - 1, format, arguments);
    va_end(arguments);
    line.length = strlen(line.text);
    line.text[line.length++] = '\n';
    return line;
}

static void tell(struct guest *to, struct line line)
{
    if (takt_try_put(&to->outbox, &line) == TAKT_EWOULDBLOCK)
        takt_cancel(&to->frame); /* full: it reads too slowly */
}

static void tell_others(struct guest *from, struct line line)
{
    for (int i = 0; i < from->room->count; i++)
        if (from->room->guests[i] != from)
            tell(from->room->guests[i], line);
}

/* The last that it hears: its outbox takes no more, and once that is empty it goes. */
static void dismiss(struct guest *guest, const char *why)
{
    tell(guest, print("* %s: goodbye", why));
    takt_channel_close(&guest->outbox);
}

static bool is_taken(const struct room *room, const char *name)
{
    for (int i = 0; i < room->count; i++)
        if (strcmp(room->guests[i]->name, name) == 0)
            return true;
    return false;
}

static void enter(struct room *room, struct guest *guest)
{
    if (room->count == GUESTS || takt_stopping(&guest->frame)) {
        dismiss(guest, room->count == GUESTS ? "all places are taken" : "the server closes");
        return;
    }
    do
        snprintf(guest->name, sizeof guest->name, "guest%d", ++room->visits % 1000000);
    while (is_taken(room, guest->name));
    room->guests[room->count++] = guest;
    tell(guest, print("* welcome, %s; there are /nick NAME, /who and /quit", guest->name));
    tell_others(guest, print("* %s has come", guest->name));
}

static void leave(struct room *room, struct guest *guest)
{
    for (int i = 0; i < room->count; i++)
        if (room->guests[i] == guest) {
            room->guests[i] = room->guests[--room->count];
            tell_others(guest, print("* %s has left", guest->name));
        }
}

static void nick(struct guest *me, const char *name)
{
    const size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    if (n == 0 || n > NAME || name[n] != '\0') {
        tell(me, print("* a name is 1 to %d letters and digits", NAME));
    } else if (is_taken(me->room, name)) {
        tell(me, print("* %s is taken", name));
    } else {
        tell_others(me, print("* %s is now %s", me->name, name));
        memcpy(me->name, name, n + 1);
        tell(me, print("* you are now %s", name));
    }
}

static void hear(struct guest *me, const char *line, size_t length)
{
    if (me->outbox.closed)
        return; /* it is leaving */
    if (length > LINE)
        tell(me, print("* at most %d bytes a line: yours was dropped", LINE));
    else if (line[0] != '/')
        tell_others(me, print("%s: %s", me->name, line));
    else if (strncmp(line, "/nick ", 6) == 0)
        nick(me, line + 6);
    else if (strcmp(line, "/who") == 0)
        for (int i = 0; i < me->room->count; i++)
            tell(me, print("* %s is here", me->room->guests[i]->name));
    else if (strcmp(line, "/quit") == 0)
        dismiss(me, "as you wish");
    else
        tell(me, print("* there are /nick NAME, /who and /quit"));
}

/* -- one guest: the ear reads, and the guest itself writes -------------------------- */

/* Adds a byte to the line; true once it is whole. Control characters are passed over. */
static bool spell(struct ear *my, char c)
{
    if ((unsigned char)c >= ' ' && my->length++ < LINE)
        my->line[my->length - 1] = c;
    if (my->length <= LINE)
        my->line[my->length] = '\0';
    return c == '\n' && my->length > 0;
}

static TAKT_CORO(ear)
{
    TAKT_BEGIN(ear, my);
    do {
        TAKT_AWAIT(my->n, takt_within(my->guest->room->idle,
                                      takt_recv(my->guest->fd, my->buf, sizeof my->buf)));
        for (my->at = 0; my->at < my->n; my->at++)
            if (spell(my, my->buf[my->at])) {
                hear(my->guest, my->line, my->length);
                my->length = 0;
                TAKT_YIELD; /* a line a turn, so that the outboxes of the others can empty */
            }
    } while (my->n > 0);
    dismiss(my->guest, "you have hung up"); /* its other half may still be listening */
    TAKT_CATCH { dismiss(my->guest, takt_strerror(my->frame.error)); }
    TAKT_END;
}

/* Puts the line, and those that wait behind it, into the letter. Returns its length. */
static size_t gather(struct guest *my)
{
    size_t n = 0;
    do {
        memcpy(my->letter + n, my->line.text, my->line.length);
        n += my->line.length;
    } while (n + sizeof my->line.text <= sizeof my->letter &&
             takt_try_get(&my->outbox, &my->line) == 1);
    return n;
}

static TAKT_CORO(guest)
{
    TAKT_BEGIN(guest, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_CHECK(takt_channel_init(&my->outbox, my->lines, sizeof my->lines[0], OUTBOX));
    enter(my->room, my);
    TAKT_DEFER { leave(my->room, my); }
    TAKT_START(my->ear, ear, .guest = my);
    for (;;) {
        TAKT_AWAIT(my->n, takt_get(&my->outbox, &my->line));
        if (my->n == 0)
            break; /* closed, and all is said: so every visit ends */
        TAKT_AWAIT(takt_within(10 * TAKT_SEC, takt_send(my->fd, my->letter, gather(my))));
    }
    leave(my->room, my);
    TAKT_AWAIT(takt_shutdown(my->fd, TAKT_SHUT_WRITE));
    takt_idle_start(&my->frame, &my->farewell, 1 * TAKT_SEC);
    TAKT_JOIN(my->ear); /* closed with something unread, TCP would take back our last words */
    TAKT_CATCH { fprintf(stderr, "chat: fd %d: %s\n", my->fd, takt_strerror(my->frame.error)); }
    TAKT_END;
}

/* -- the house ---------------------------------------------------------------------- */

struct ctrl_c {
    takt_frame frame;
    struct room *room; /* in */
    int signals;
};

static TAKT_CORO(ctrl_c)
{
    TAKT_BEGIN(ctrl_c, my);
    TAKT_CHECK(my->signals = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->signals)); }
    TAKT_AWAIT(takt_signal(my->signals));
    for (int i = 0; i < my->room->count; i++)
        dismiss(my->room->guests[i], "the server closes");
    takt_stop(takt_sched_of(&my->frame), 5 * TAKT_SEC); /* so long may the last words take */
    TAKT_END;
}

struct server {
    takt_frame frame;
    takt_addr addr;    /* in */
    struct room *room; /* in */
    int listener, fd;
    takt_group guests;
    struct ctrl_c ctrl_c;
};

static void say_ready(const struct server *my)
{
    char text[TAKT_ADDR_TEXT];
    fprintf(stderr, "chat: listening on %s\n", takt_addr_format(&my->addr, text, sizeof text));
}

static TAKT_CORO(server)
{
    TAKT_BEGIN(server, my);
    TAKT_CHECK(my->listener = takt_listen(&my->frame, &my->addr, 0));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->listener)); }
    TAKT_CHECK(takt_sockname(&my->frame, my->listener, &my->addr));
    TAKT_START(my->ctrl_c, ctrl_c, .room = my->room);
    TAKT_YIELD; /* by now it listens to signals */
    say_ready(my);
    while (!takt_stopping(&my->frame)) {
        TAKT_TRY_AWAIT(my->fd, takt_accept(my->listener, NULL));
        if (my->fd < 0)
            TAKT_AWAIT(takt_sleep(10 * TAKT_MS)); /* no descriptors? let some close */
        else if (!TAKT_GO(my->guests, guest, .fd = my->fd, .room = my->room))
            TAKT_AWAIT(takt_close(my->fd)); /* there is a crowd even at the door */
    }
    TAKT_JOIN_GROUP(my->guests);
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static const char usage[] =
    "usage: chat --listen ADDRESS [options]\n"
    "  --listen ADDRESS   127.0.0.1:7000, [::1]:7000, :7000 or unix:/path; port 0 picks one\n"
    "  --idle TIME        how long a guest may be silent: a number with ms, s, m or h  (10m)\n"
    "  --backend NAME     auto (io_uring if it works, else epoll), uring or poll\n"
    "SIGTERM or SIGINT: all are told, and have 5 s to hear it.\n";

int main(int argc, char **argv)
{
    static net loop;
    static struct server server;
    static struct room room;
    static takt_addr addr;
    net_config config = net_defaults();
    const struct server_option options[] = {
        {"--listen", server_address, &addr, 0},
        {"--idle", server_time, &room.idle, 0},
        {NULL, NULL, NULL, 0},
    };
    int rc;
    room.idle = 600 * TAKT_SEC;
    server_options("chat", usage, options, &config.backend, argc, argv);
    if (!addr.len)
        server_wrong("chat", "--listen is needed");
    TAKT_POOL(config, guest, GUESTS + DOOR, .strands = 2); /* itself and its ear */
    if ((rc = net_init(&loop, &config)) < 0)
        return server_fail("chat", "cannot start", rc);
    if (!TAKT_START_ON(&loop, server, server, .addr = addr, .room = &room))
        return 1;
    return net_run(&loop) < 0 || net_free(&loop) < 0;
}
