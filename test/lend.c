/*
 * lend.c - memory that is lent to a backend, as sanitizers and takt itself watch it
 *
 * In a build with AddressSanitizer what the backend may write is poisoned, and the tests
 * look; in others it is not. The sums over what it reads are in every build. One backend
 * here holds what it is given until the test lets go; the others are the real ones.
 */
static void panicked(const char *text);
#define TAKT_PANIC(text) panicked(text)
#define TAKT_DEBUG 1
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "test.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(TAKT__MSAN)
void __msan_poison(const volatile void *at, size_t size);
#endif

static char said[400];
static int panics;

static void panicked(const char *text)
{
    panics++;
    snprintf(said, sizeof said, "%s", text);
}

/* As malloc() would have left it. */
static void undefine(void *at, size_t len)
{
    (void)at;
    (void)len;
#if defined(TAKT__MSAN)
    __msan_poison(at, len);
#elif defined(TAKT_VALGRIND)
    VALGRIND_MAKE_MEM_UNDEFINED(at, len);
#endif
}

#if defined(TAKT__ASAN)
TAKT__EXTERN_C_BEGIN
int __asan_address_is_poisoned(void const volatile *addr);
TAKT__EXTERN_C_END
static const bool asan = true;
static bool poisoned(const void *at)
{
    return __asan_address_is_poisoned(at);
}
#else
static const bool asan = false;
static bool poisoned(const void *at)
{
    (void)at;
    return false;
}
#endif

/* Whether the whole granules of 8 bytes in there are poisoned, and nothing beside them. */
static bool closed(const char *at, size_t len)
{
    return poisoned(at) && poisoned(at + len - 1) && poisoned(at + len / 2);
}

static bool is_open(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (poisoned(at + i))
            return false;
    return true;
}

/* -- held: a backend that completes what the test says ------------------------ */

typedef struct held_config {
    int unused;
} held_config;

typedef struct held {
    const takt_slots *slots;
    takt_op *ops[8]; /* submitted and not complete */
    int64_t results[8];
    bool over[8];
    int count, cancels;
    int poll_error;
    bool writes; /* into the memory, while polled */
    bool early;  /* and while it is submitted */
} held;

static int held_init(held *h, const held_config *config, const takt_slots *slots)
{
    (void)config;
    memset(h, 0, sizeof *h);
    h->slots = slots;
    return 0;
}

static void held_free(held *h)
{
    (void)h;
}

static takt_ns held_now(held *h)
{
    (void)h;
    return 1;
}

static int held_submit(held *h, takt_op *op, takt_token *token)
{
    (void)token;
    h->over[h->count] = false;
    h->ops[h->count++] = op;
    if (op->kind == TAKT_OP_RECV && h->count == 1 && h->early)
        memset(op->buf, 's', 1); /* its own: it may */
    return 0;
}

static void held_cancel(held *h, takt_op *op)
{
    h->cancels++;
    memset(op->buf, 'c', 1);
}

static int held_poll(held *h, takt_completion *out, int max, takt_ns wait)
{
    int count = 0;
    (void)wait;
    (void)max;
    if (h->poll_error)
        return h->poll_error;
    for (int i = 0; i < h->count; i++) {
        if (h->writes)
            memset(h->ops[i]->buf, 'w', h->ops[i]->len);
        if (!h->over[i])
            continue;
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_of(h->ops[i]);
        out[count].value = h->results[i] < 0 ? 0 : h->results[i];
        out[count++].error = h->results[i] < 0 ? (int32_t)h->results[i] : 0;
        h->count--;
        for (int k = i; k < h->count; k++) {
            h->ops[k] = h->ops[k + 1];
            h->results[k] = h->results[k + 1];
            h->over[k] = h->over[k + 1];
        }
        i--;
    }
    return count ? count : TAKT_EWOULDBLOCK;
}

static void held_flush(held *h)
{
    for (int i = 0; h->writes && i < h->count; i++)
        memset(h->ops[i]->buf, 'f', 1);
}

static bool held_busy(held *h)
{
    (void)h;
    return false;
}

static int held_fd(held *h)
{
    (void)h;
    return -1;
}

static int64_t held_call(held *h, takt_op *op)
{
    (void)h;
    (void)op;
    return -ENOTSUP;
}

static void held_end(held *h, int index, int64_t result)
{
    h->over[index] = true;
    h->results[index] = result;
}

TAKT_LOOP(world, held);
TAKT_LOOP(net, takt_uring);
static world loop;

static void setup(void)
{
    world_config config = world_defaults();
    said[0] = '\0';
    panics = 0;
    EXPECT_EQ(world_init(&loop, &config), 0);
}

static void turn(void)
{
    EXPECT(world_turn(&loop, 0, 0) >= 0);
}

static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(world_free(&loop), 0);
}

/* Receives, or sends, `len` bytes of `at`. */
struct user {
    takt_frame frame;
    char *at;
    size_t len;
    int sends, shared;
    int n;
    uint64_t aligned;
    char buf[64];
    char beside[8];
};

static TAKT_CORO(user)
{
    TAKT_BEGIN(user, my);
    TAKT_DEFER { note("~"); }
    if (my->sends)
        TAKT_TRY_AWAIT(my->n, takt_send(3, my->at, my->len));
    else
        TAKT_TRY_AWAIT(my->n, takt_recv(4, my->at, my->len));
    note("n");
    EXPECT(my->shared || is_open(my->at, my->len));
    TAKT_END;
}

static struct user a, b;

/* Law 1: from submit to the completion, and not a turn less. */
static void what_may_be_written_is_closed_until_it_completes(void)
{
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = a.buf, .len = sizeof a.buf));
    EXPECT(is_open(a.buf, sizeof a.buf));
    turn();
    EXPECT_EQ(closed(a.buf, sizeof a.buf), asan);
    EXPECT(is_open(a.beside, sizeof a.beside));
    EXPECT(is_open((const char *)&a.frame, sizeof a.frame));
    turn();
    EXPECT_EQ(closed(a.buf, sizeof a.buf), asan);
    held_end(&loop.backend, 0, 5);
    turn();
    EXPECT_EQ(a.n, 5);
    EXPECT(is_open(a.buf, sizeof a.buf));
    EXPECT_TRACE("n~");
    finish();
}

/* Not only once the backend was asked: whoever runs next is caught. */
static void it_is_closed_from_the_submit_on(void)
{
    setup();
    memset((void *)&a, 0, sizeof a);
    a.at = a.buf;
    a.len = sizeof a.buf;
    EXPECT_EQ(world_submit(&loop, &a.frame, user_coro), 0);
    EXPECT_EQ(closed(a.buf, sizeof a.buf), asan);
    held_end(&loop.backend, 0, 5);
    turn();
    EXPECT(is_open(a.buf, sizeof a.buf));
    finish();
}

/* A backend without a kernel writes there itself: when it is asked. */
static void a_backend_may_write_while_it_is_asked(void)
{
    setup();
    loop.backend.early = true;
    EXPECT(TAKT_START_ON(&loop, a, user, .at = a.buf, .len = sizeof a.buf));
    turn();
    loop.backend.writes = true;
    turn();
    EXPECT_EQ(closed(a.buf, sizeof a.buf), asan);
    takt_cancel(&a.frame); /* so it may while it is told to cancel */
    EXPECT_EQ(loop.backend.cancels, 1);
    EXPECT_EQ(closed(a.buf, sizeof a.buf), asan);
    held_end(&loop.backend, 0, -ECANCELED);
    turn();
    EXPECT(is_open(a.buf, sizeof a.buf));
    EXPECT_EQ(a.buf[1], 'w');
    EXPECT_TRACE("~"); /* cancelled: it does not go on */
    finish();
}

/* Finishing a frame that lends cannot happen: whatever is ordered, the op is waited for. */
static void a_frame_that_lends_does_not_end(void)
{
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = a.buf, .len = sizeof a.buf));
    turn();
    takt_cancel(&a.frame);
    for (int i = 0; i < 3; i++)
        turn();
    EXPECT(takt_alive(&a.frame));
    EXPECT_TRACE(""); /* not even its defers have run */
    takt_stop(&loop.sched, 0);
    turn();
    EXPECT(takt_alive(&a.frame));
    held_end(&loop.backend, 0, -ECANCELED);
    turn();
    EXPECT(!takt_alive(&a.frame));
    EXPECT_TRACE("~");
    finish();
}

/* Only whole granules of 8 bytes; what lies beside belongs to others. */
static void the_edges_stay_open(void)
{
    static char at[32] __attribute__((aligned(16)));
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = at + 3, .len = 22));
    turn();
    EXPECT(is_open(at, 8));
    EXPECT(!asan || (poisoned(at + 8) && poisoned(at + 23)));
    EXPECT(is_open(at + 24, 8));
    held_end(&loop.backend, 0, 1);
    turn();
    EXPECT(is_open(at, sizeof at));
    finish();
}

/* Many may read the same memory; two that discard may share a sink. */
static void memory_can_be_shared(void)
{
    static char sink[64];
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = sink, .len = sizeof sink, .sends = 1));
    EXPECT(TAKT_START_ON(&loop, b, user, .at = sink, .len = sizeof sink, .sends = 1));
    turn();
    EXPECT(is_open(sink, sizeof sink));
    held_end(&loop.backend, 0, 64);
    turn();
    held_end(&loop.backend, 0, 64);
    turn();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = sink, .len = sizeof sink, .shared = 1));
    EXPECT(TAKT_START_ON(&loop, b, user, .at = sink, .len = sizeof sink, .shared = 1));
    turn();
    EXPECT_EQ(closed(sink, sizeof sink), asan);
    held_end(&loop.backend, 1, 2);
    turn();
    EXPECT_EQ(closed(sink, sizeof sink), asan); /* one still has it */
    held_end(&loop.backend, 0, 2);
    turn();
    EXPECT(is_open(sink, sizeof sink));
    EXPECT_EQ(panics, 0);
    finish();
}

/* What a backend that has failed for good may still hold, nobody knows. */
static void a_broken_loop_opens_everything(void)
{
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = a.buf, .len = sizeof a.buf));
    turn();
    loop.backend.poll_error = -EIO;
    EXPECT_EQ(world_turn(&loop, 0, 0), -EIO);
    EXPECT_EQ(closed(a.buf, sizeof a.buf), asan);
    world_drain(&loop);
    EXPECT(is_open(a.buf, sizeof a.buf));
    EXPECT_EQ(world_free(&loop), -EBUSY); /* it is still the backend's */
    free(loop.sched.slab); /* here the test knows better */
    free(loop.completions);
    free(loop.sched.results);
    free(loop.sched.items);
    free(loop.sched.foreign.at);
}

/* -- what is read ----------------------------------------------------------- */

static void change_at(size_t len, size_t at, int told)
{
    static char out[1000];
    setup();
    memset(out, 'o', sizeof out);
    EXPECT(TAKT_START_ON(&loop, a, user, .at = out, .len = len, .sends = 1));
    turn();
    out[at] ^= 1;
    held_end(&loop.backend, 0, (int64_t)len);
    turn();
    EXPECT_EQ(panics, told);
    if (told) { /* with coroutine, file and line */
        EXPECT(strstr(said, "lend.c:"));
        EXPECT(strstr(said, ": user: memory was changed"));
    }
    finish();
}

static void what_is_read_must_not_change(void)
{
#if !defined(TAKT__MSAN)
    change_at(1, 0, 1);
    change_at(100, 0, 1);
    change_at(100, 63, 1);
    change_at(100, 64, 1);
    change_at(100, 99, 1);
    change_at(1000, 999, 1);
    change_at(1000, 936, 1);
#endif
    change_at(100, 100, 0);  /* beside it */
    change_at(1000, 500, 0); /* only the ends of a large one are looked at */
}

/* Awaits what it is told. */
struct asks {
    takt_frame frame;
    takt_op op;
    int64_t n;
};

static TAKT_CORO(asks)
{
    TAKT_BEGIN(asks, my);
    TAKT_TRY_AWAIT(my->n, my->op);
    TAKT_END;
}

static void ask(takt_op op)
{
    static struct asks it;
    setup();
    EXPECT(TAKT_START_ON(&loop, it, asks, .op = op));
    turn();
    EXPECT(takt_alive(&it.frame));
    held_end(&loop.backend, 0, 5);
    turn();
    EXPECT_EQ(it.n, 5);
    EXPECT_EQ(panics, 0);
    finish();
}

/* What is no memory of the program's is a matter of the system's, and no question here. */
static void no_memory_is_no_question(void)
{
    static char at[64];
    static struct iovec none[1025], two[2];
    const struct {
        char *at;
        size_t len;
    } wild[] = {{NULL, 10},
                {(char *)(uintptr_t)8, 10},
                {(char *)(uintptr_t)-64, 1000},
                {(char *)(uintptr_t)-64, 8},
                {at, SIZE_MAX},
                {at, 0}};
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        ask(takt_recv(3, wild[i].at, wild[i].len));
        ask(takt_send(3, wild[i].at, wild[i].len));
    }
    two[0].iov_base = at;
    two[0].iov_len = 3; /* no whole granule */
    two[1].iov_base = at + 3;
    two[1].iov_len = 40;
    ask(takt_recvv(3, two, 2));
    ask(takt_sendv(3, two, 2));
    ask(takt_recvv(3, none, 1025)); /* more than any system takes at once */
    ask(takt_recvfrom(3, at, sizeof at, NULL));
    ask(takt_sendto(3, at, sizeof at, NULL));
    ask(takt_write(3, at, sizeof at, 0));
}

/* What is lent twice stays with who was first; the other may be cancelled. */
static void what_was_lent_already_is_left_as_it_is(void)
{
    static char at[64];
    static struct iovec two[2];
    static struct asks first, second;
    two[0].iov_base = at;
    two[1].iov_base = at + 32;
    two[0].iov_len = two[1].iov_len = 32;
    setup();
    EXPECT(TAKT_START_ON(&loop, first, asks, .op = takt_recvv(3, two, 2)));
    EXPECT(TAKT_START_ON(&loop, second, asks, .op = takt_recv(4, at, sizeof at)));
    turn();
    EXPECT_EQ(closed(at, sizeof at), asan);
    takt_cancel(&second.frame);
    EXPECT_EQ(loop.backend.cancels, 1);
    held_end(&loop.backend, 1, -ECANCELED);
    turn();
    EXPECT(takt_finished(&second.frame));
    EXPECT(TAKT_START_ON(&loop, second, asks, .op = takt_recvv(4, two, 2)));
    turn();
    held_end(&loop.backend, 0, 64);
    turn();
    held_end(&loop.backend, 0, 64);
    turn();
    EXPECT_EQ(first.n + second.n, 128);
    EXPECT(is_open(at, sizeof at));
    EXPECT_EQ(panics, 0);
    finish();
}

/* As with an implementation of a file that does not look. */
static void where_nobody_looks_nothing_is_closed(void)
{
    setup();
    loop.sched.watches = NULL;
    EXPECT(TAKT_START_ON(&loop, a, user, .at = a.buf, .len = sizeof a.buf));
    EXPECT(TAKT_START_ON(&loop, b, user, .at = b.buf, .len = sizeof b.buf, .sends = 1));
    turn();
    EXPECT(is_open(a.buf, sizeof a.buf));
    b.buf[0] ^= 1;
    held_end(&loop.backend, 0, 5);
    turn();
    held_end(&loop.backend, 0, 5);
    turn();
    EXPECT_EQ(a.n + b.n, 10);
    EXPECT_EQ(panics, 0);
    finish();
}

/* -- the real backends -------------------------------------------------------- */

static net real;

struct reader {
    takt_frame frame;
    int fd, from_fd, listener;
    int what;
    int n, peer_fd;
    struct iovec iov[2];
    takt_addr from;
    takt_op ops[2];
    char buf[128];
    char more[64];
};

enum { RECV, ALL, VECTOR, DATAGRAM, READ, BATCH, ACCEPT, WHATS };

static TAKT_CORO(reader)
{
    TAKT_BEGIN(reader, my);
    if (my->what == RECV) {
        TAKT_AWAIT(my->n, takt_recv(my->fd, my->buf, sizeof my->buf));
    } else if (my->what == ALL) {
        TAKT_AWAIT(my->n, takt_recv_all(my->fd, my->buf, 8));
    } else if (my->what == VECTOR) {
        my->iov[0].iov_base = my->buf;
        my->iov[0].iov_len = 8;
        my->iov[1].iov_base = my->more;
        my->iov[1].iov_len = sizeof my->more;
        TAKT_AWAIT(my->n, takt_recvv(my->fd, my->iov, 2));
    } else if (my->what == DATAGRAM) {
        TAKT_AWAIT(my->n, takt_recvfrom(my->from_fd, my->buf, sizeof my->buf, &my->from));
    } else if (my->what == READ) {
        TAKT_AWAIT(my->n, takt_read(my->fd, my->buf, sizeof my->buf, -1));
    } else if (my->what == BATCH) {
        my->ops[0] = takt_recv(my->fd, my->buf, sizeof my->buf);
        my->ops[1] = takt_sleep(1);
        TAKT_AWAIT_ALL(my->ops, 2);
        my->n = (int)my->ops[0].result;
    } else {
        TAKT_AWAIT(my->peer_fd, takt_accept(my->listener, &my->from));
        my->n = 8;
        memcpy(my->buf, "received", 8);
        TAKT_AWAIT(takt_close(my->peer_fd));
    }
    TAKT_END;
}

static struct reader r;

/* What arrived is what was sent: a branch on every byte, for MemorySanitizer. */
static void look_at_what_arrived(int what)
{
    EXPECT_EQ(r.n, 8);
    EXPECT(is_open(r.buf, sizeof r.buf));
    EXPECT(is_open((const char *)&r.from, sizeof r.from));
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(r.buf[i], "received"[i]);
    if (what == DATAGRAM || what == ACCEPT) {
        char text[TAKT_ADDR_TEXT];
        EXPECT(strncmp(takt_addr_format(&r.from, text, sizeof text), "127.0.0.1:", 10) == 0);
    }
}

static int bound(int type, struct sockaddr_in *in)
{
    socklen_t len = sizeof *in;
    const int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memset(in, 0, sizeof *in);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd, (struct sockaddr *)in, sizeof *in), 0);
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)in, &len), 0);
    return fd;
}

static void provoke(int what, int fd, const struct sockaddr_in *to, int out)
{
    if (what == DATAGRAM)
        EXPECT_EQ(sendto(out, "received", 8, 0, (const struct sockaddr *)to, sizeof *to), 8);
    else if (what == ACCEPT)
        EXPECT_EQ(connect(out, (const struct sockaddr *)to, sizeof *to), 0);
    else
        EXPECT_EQ(send(fd, "received", 8, 0), 8);
}

static void one_real(int what, const net_config *config)
{
    struct sockaddr_in to;
    int pair[2];
    const bool stream = what == ACCEPT;
    const int server = bound(stream ? SOCK_STREAM : SOCK_DGRAM, &to);
    const int client = socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (stream)
        EXPECT_EQ(listen(server, 8), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT_EQ(net_init(&real, config), 0);
    EXPECT(TAKT_START_ON(&real, r, reader, .fd = pair[0], .from_fd = server, .listener = server,
                         .what = what));
    for (int i = 0; i < 3; i++)
        EXPECT(net_turn(&real, 0, 0) >= 0);
    EXPECT(takt_alive(&r.frame));
    undefine(r.buf, sizeof r.buf);
    undefine(r.more, sizeof r.more);
    if (what == ACCEPT || what == DATAGRAM)
        undefine(&r.from.sockaddr, sizeof r.from.sockaddr);
    if (what == ACCEPT)
        EXPECT_EQ(closed((const char *)&r.from, sizeof r.from), asan);
    else
        EXPECT_EQ(poisoned(r.buf), asan);
    EXPECT(what != VECTOR || poisoned(r.more + 63) == asan);
    EXPECT(what != DATAGRAM || poisoned(&r.from) == asan);
    provoke(what, pair[1], &to, client);
    EXPECT_EQ(net_run(&real), 0);
    look_at_what_arrived(what);
    EXPECT_EQ(net_free(&real), 0);
    close(pair[0]);
    close(pair[1]);
    close(server);
    close(client);
}

static void on_every_backend(void)
{
    for (int backend = 0; backend < 3; backend++) {
        net_config config = net_defaults();
        config.backend.mode = backend == 0 ? TAKT_URING_AUTO : TAKT_URING_NEVER;
        config.backend.posix.poll_instead = backend == 2;
        for (int what = 0; what < WHATS; what++)
            one_real(what, &config);
    }
    EXPECT_EQ(panics, 0);
}

/* -- reports, seen from outside ------------------------------------------------- */

/* What a child says that runs `what`, and whether it died. */
static bool dies_saying(void (*what)(void), const char *words)
{
    static char text[1 << 16];
    size_t len = 0;
    ssize_t n;
    int pipes[2], status = 0;
    pid_t child;
    fflush(stdout);
    EXPECT_EQ(pipe(pipes), 0);
    child = fork();
    if (child == 0) {
        dup2(pipes[1], 1);
        dup2(pipes[1], 2);
        close(pipes[0]);
        what();
        _exit(0);
    }
    close(pipes[1]);
    while ((n = read(pipes[0], text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(pipes[0]);
    waitpid(child, &status, 0);
    if (status != 0 && strstr(text, words))
        return true;
    printf("expected \"%s\", got status %d and: %.600s\n", words, status, text);
    return false;
}

static void touch_what_is_lent(void)
{
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = a.buf, .len = sizeof a.buf));
    turn();
    a.at[20] = 1;
}

static void free_what_is_lent(void)
{
    struct user *const u = (struct user *)calloc(1, sizeof *u);
    setup();
    EXPECT(TAKT_START_ON(&loop, *u, user, .at = u->buf, .len = sizeof u->buf));
    turn();
    free(u);
    held_end(&loop.backend, 0, 5);
    turn();
}

static void lend_more_than_there_is(void)
{
    char *const at = (char *)malloc(40);
    setup();
    loop.backend.count = 1; /* keep the backend out of it */
    EXPECT(TAKT_START_ON(&loop, a, user, .at = at, .len = 41));
    turn();
    free(at);
}

static void send_more_than_there_is(void)
{
    char *const at = (char *)calloc(1, 40);
    setup();
    EXPECT(TAKT_START_ON(&loop, a, user, .at = at, .len = 41, .sends = 1));
    turn();
    free(at);
}

static void the_sanitizer_tells(void)
{
    if (!asan)
        return;
    EXPECT(dies_saying(touch_what_is_lent, "use-after-poison"));
    EXPECT(dies_saying(free_what_is_lent, "heap-use-after-free"));
    EXPECT(dies_saying(lend_more_than_there_is, "lend.c"));
    EXPECT(dies_saying(lend_more_than_there_is, "user: an operation was given memory"));
    EXPECT(dies_saying(lend_more_than_there_is, "heap-buffer-overflow"));
    EXPECT(dies_saying(send_more_than_there_is, "heap-buffer-overflow"));
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(what_may_be_written_is_closed_until_it_completes),
        TEST(it_is_closed_from_the_submit_on),
        TEST(a_backend_may_write_while_it_is_asked),
        TEST(a_frame_that_lends_does_not_end),
        TEST(the_edges_stay_open),
        TEST(memory_can_be_shared),
        TEST(a_broken_loop_opens_everything),
        TEST(what_is_read_must_not_change),
        TEST(no_memory_is_no_question),
        TEST(what_was_lent_already_is_left_as_it_is),
        TEST(where_nobody_looks_nothing_is_closed),
        TEST(on_every_backend),
        TEST(the_sanitizer_tells),
    };
    return RUN_TESTS(argc, argv, tests);
}
