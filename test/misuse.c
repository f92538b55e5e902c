/*
 * misuse.c - mistakes that only show at run time, and what takt says of them
 *
 * TAKT_PANIC counts here, and goes on: what a mistake would destroy is kept from harm by
 * the test itself.
 */
static void panicked(const char *text);
static void logged(const char *text);
#define TAKT_PANIC(text) panicked(text)
#define TAKT_LOG(text) logged(text)
#define TAKT_DEBUG 1
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <pthread.h>

static char said[400];  /* the last panic */
static char noted[400]; /* the last line of the log */
static int panics;

static void panicked(const char *text)
{
    panics++;
    snprintf(said, sizeof said, "%s", text);
}

static void logged(const char *text)
{
    snprintf(noted, sizeof noted, "%s", text);
}

TAKT_LOOP(net, takt_posix);
static net here, there;

struct one {
    takt_frame frame;
    takt_ns ns;
    takt_event *event;
    int ran;
};

static int one_line; /* of its await */

static TAKT_CORO(one)
{
    TAKT_BEGIN(one, my);
    one_line = __LINE__ + 2;
    if (my->event)
        TAKT_AWAIT(takt_event_wait(my->event));
    else if (my->ns)
        TAKT_AWAIT(takt_sleep(my->ns));
    my->ran++;
    TAKT_END;
}

struct reads {
    takt_frame frame;
    int fd, n;
    char buf[16];
};

static int reads_line;

static TAKT_CORO(reads)
{
    TAKT_BEGIN(reads, my);
    reads_line = __LINE__ + 1;
    TAKT_AWAIT(my->n, takt_recv(my->fd, my->buf, sizeof my->buf));
    TAKT_END;
}

static struct one a, b;
static struct reads r;

static void setup(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, one, 4);
    said[0] = noted[0] = '\0';
    panics = 0;
    memset((void *)&a, 0, sizeof a);
    memset((void *)&b, 0, sizeof b);
    EXPECT_EQ(net_init(&here, &config), 0);
    EXPECT_EQ(net_init(&there, &config), 0);
}

static void finish(void)
{
    EXPECT_EQ(net_free(&here), 0);
    EXPECT_EQ(net_free(&there), 0);
}

/* One panic since the last time, with these words, naming `coro` at `line` if that is one. */
static void expect_panic(const char *coro, int line, const char *words)
{
    char place[100];
    EXPECT_EQ(panics, 1);
    panics = 0;
    if (coro) {
        snprintf(place, sizeof place, "misuse.c:%d: %s: ", line, coro);
        EXPECT(strstr(said, place));
    }
    EXPECT(strstr(said, words));
    if (test_failures)
        printf("it said: %s\n", said);
    said[0] = '\0';
}

/* -- frames that are alive ----------------------------------------------------- */

static void a_frame_that_is_alive_is_not_begun_again(void)
{
    takt_event gate;
    memset(&gate, 0, sizeof gate);
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .event = &gate));
    EXPECT(!TAKT_START_ON(&here, a, one)); /* before it ran */
    EXPECT(strstr(noted, "still running"));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    noted[0] = '\0';
    EXPECT(!TAKT_START_ON(&here, a, one)); /* while it waits */
    EXPECT(strstr(noted, "still running"));
    EXPECT_EQ(net_submit(&here, &a.frame, one_coro), TAKT_ERUNNING);
    EXPECT_EQ(here.sched.strands_used, 1);
    takt_event_set(&gate);
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(a.ran, 1);
    EXPECT(TAKT_START_ON(&here, a, one)); /* now it may */
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(panics, 0);
    finish();
}

static void two_loops_do_not_share_a_frame(void)
{
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .ns = TAKT_MS));
    EXPECT(!TAKT_START_ON(&there, a, one));
    EXPECT(strstr(noted, "still running"));
    EXPECT_EQ(net_submit(&there, &a.frame, one_coro), TAKT_ERUNNING);
    EXPECT_EQ(there.sched.strands_used, 0);
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(a.ran, 1);
    finish();
}

/* Memory that holds anything at all is not a frame that is alive. */
static void what_was_never_a_frame_can_be_one(void)
{
    setup();
    for (int byte = 1; byte < 256; byte++) {
        memset((void *)&a, byte, sizeof a);
        EXPECT(TAKT_START_ON(&here, a, one));
        EXPECT_EQ(net_run(&here), 0);
        EXPECT_EQ(a.ran, 1);
    }
    EXPECT_EQ(panics, 0);
    finish();
}

/* Nor is what points at strands, but is not what they run. */
static void what_points_at_strands_can_be_a_frame(void)
{
    takt_event gate;
    takt_strand *strand;
    memset(&gate, 0, sizeof gate);
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .event = &gate));
    EXPECT(TAKT_START_ON(&here, b, one));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    EXPECT(!takt_alive(&b.frame));
    strand = a.frame.strand;
    for (int i = 0; i < 4; i++) {
        memset((void *)&b, 0, sizeof b);
        b.frame.strand = i == 0   ? (takt_strand *)(void *)((char *)strand + 8)
                         : i == 1 ? strand + 1                  /* free: it was b's */
                         : i == 2 ? strand + here.sched.fresh   /* never used */
                                  : strand;                     /* another's */
        EXPECT(TAKT_START_ON(&here, b, one));
        EXPECT(net_turn(&here, 0, 0) >= 0);
        EXPECT_EQ(b.ran, 1);
    }
    takt_event_set(&gate);
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(panics, 0);
    finish();
}

struct batch {
    takt_frame frame;
    takt_op ops[1];
};

static TAKT_CORO(batch)
{
    TAKT_BEGIN(batch, my);
    TAKT_AWAIT_ALL(my->ops, 1);
    TAKT_END;
}

static void what_points_at_an_op_of_a_batch_can_be_a_frame(void)
{
    static struct batch all;
    takt_event gate;
    memset(&gate, 0, sizeof gate);
    setup();
    EXPECT(TAKT_START_ON(&here, all, batch));
    all.ops[0] = takt_event_wait(&gate);
    EXPECT(net_turn(&here, 0, 0) >= 0);
    b.frame.strand = all.frame.strand + 1;
    EXPECT(b.frame.strand->flags & TAKT__REQUEST);
    EXPECT(TAKT_START_ON(&here, b, one));
    takt_event_set(&gate);
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(b.ran, 1);
    finish();
}

struct calls {
    takt_frame frame;
    struct one *child;
    takt_ns ns;
    int err, starts;
};

static TAKT_CORO(calls)
{
    TAKT_BEGIN(calls, my);
    if (my->starts)
        TAKT_START(*my->child, one);
    else
        TAKT_CALL(*my->child, one, .ns = my->ns);
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void a_caller_is_alive_too(void)
{
    static struct calls c;
    setup();
    EXPECT(TAKT_START_ON(&here, c, calls, .child = &a, .ns = TAKT_MS));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    EXPECT(!TAKT_START_ON(&here, c, calls));
    EXPECT(strstr(noted, "still running"));
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(a.ran, 1);
    finish();
}

static void what_runs_elsewhere_is_not_called(void)
{
    static struct calls c;
    setup();
    for (int starts = 0; starts < 2; starts++) {
        EXPECT(TAKT_START_ON(&here, a, one, .ns = TAKT_MS));
        EXPECT(TAKT_START_ON(&here, c, calls, .child = &a, .starts = starts));
        EXPECT_EQ(net_run(&here), 0);
        EXPECT_EQ(c.err, TAKT_ERUNNING);
        EXPECT(strstr(noted, "calls: this frame is still running"));
        EXPECT_EQ(a.ran, 1);
    }
    finish();
}

/* -- frames that are gone ------------------------------------------------------ */

static void a_frame_that_was_overwritten_is_missed(void)
{
    struct one kept;
    struct reads kept_r;
    int pair[2];
    takt_event event;
    memset(&event, 0, sizeof event);
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .event = &event));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    for (int byte = 0; byte < 256; byte += 255) {
        kept = a;
        memset((void *)&a, byte, sizeof a); /* freed, and used for something else */
        takt_event_set(&event);
        EXPECT(net_turn(&here, 0, 0) >= 0);
        expect_panic("one", one_line, "freed, moved or overwritten");
        a = kept; /* the test puts it back, and all is well */
        EXPECT_EQ(a.ran, 0);
        takt_event_reset(&event);
        a.frame.strand->wait = TAKT__READY;
        takt__ready(&here.sched, a.frame.strand);
        if (byte == 0) {
            a.ran = -1;
            EXPECT(net_turn(&here, 0, 0) >= 0);
            EXPECT_EQ(a.ran, 0);
            EXPECT(TAKT_START_ON(&here, a, one, .event = &event));
            EXPECT(net_turn(&here, 0, 0) >= 0);
        }
    }
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(a.ran, 1);

    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT(TAKT_START_ON(&here, r, reads, .fd = pair[0]));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    kept_r = r;
    memset((void *)&r.frame, 0, sizeof r.frame);
    EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
    for (int i = 0; i < 3; i++)
        EXPECT(net_turn(&here, 0, 0) >= 0);
    expect_panic("reads", reads_line, "freed, moved or overwritten");
    memcpy((void *)&r.frame, (const void *)&kept_r.frame, sizeof r.frame);
    r.frame.strand->wait = TAKT__READY;
    takt__ready(&here.sched, r.frame.strand);
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(r.n, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* Only some of it. */
static void a_header_that_was_overwritten_is_missed(void)
{
    static const takt_coro other = {one_coro, "other", "other.c", 1, sizeof(struct one)};
    takt_event event;
    memset(&event, 0, sizeof event);
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .event = &event));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    for (int i = 0; i < 3; i++) {
        const struct one kept = a;
        if (i == 0)
            a.frame.state = 0;
        else if (i == 1)
            a.frame.state = TAKT__FINISHED;
        else
            a.frame.of.coro = &other;
        takt_event_set(&event);
        EXPECT(net_turn(&here, 0, 0) >= 0);
        expect_panic("one", one_line, "freed, moved or overwritten");
        a = kept;
        takt_event_reset(&event);
        takt__ready(&here.sched, a.frame.strand);
    }
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(a.ran, 1);
    finish();
}

static void a_frame_that_was_moved_is_missed(void)
{
    static struct {
        struct one at[8];
    } vector; /* that grew */
    setup();
    EXPECT(TAKT_START_ON(&here, vector.at[0], one, .ns = TAKT_MS));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    vector.at[5] = vector.at[0];
    vector.at[0].frame.strand->who.leaf = &vector.at[5].frame; /* as far as one might get */
    while (!panics) /* until its time has come */
        EXPECT(net_turn(&here, TAKT_SEC, 0) >= 0);
    expect_panic("one", one_line + 2, "freed, moved or overwritten");
    vector.at[0].frame.strand->who.leaf = &vector.at[0].frame;
    takt__ready(&here.sched, vector.at[0].frame.strand);
    EXPECT_EQ(net_run(&here), 0);
    finish();
}

/* -- stacks ----------------------------------------------------------------------- */

TAKT__NOINLINE static bool start_in_a_local(void (*use)(void *), takt_strand **strand)
{
    struct one local[40]; /* the turn's own locals will lie above the last of them */
    bool ok;
    memset((void *)local, 0, sizeof local);
    ok = TAKT_START_ON(&here, local[0], one, .ns = TAKT_MS);
    *strand = local[0].frame.strand;
    use(local);
    return ok;
}

static void use(void *at)
{
    EXPECT(at != NULL);
}

static void a_frame_whose_function_returned_is_missed(void)
{
    takt_strand *strand;
    setup();
    EXPECT(start_in_a_local(use, &strand));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    expect_panic(NULL, 0, "or its function has returned");
    EXPECT(TAKT_START_ON(&there, a, one)); /* a frame to end that strand with */
    a.frame.strand = strand;
    strand->who.leaf = &a.frame;
    a.frame.of.first = one_coro;
    takt__ready(&here.sched, strand);
    EXPECT_EQ(net_run(&here), 0);
    there.sched.fatal = -EIO; /* that loop was only lent a frame */
    free(there.sched.slab);
    free(there.sched.results);
    free(there.sched.items);
    free(there.sched.foreign.at);
    free(there.completions);
    free(there.sched.config.pools[0].memory);
    takt_posix_free(&there.backend);
    EXPECT_EQ(net_free(&here), 0);
}

struct careless {
    takt_frame frame;
    int how, err;
};

static TAKT_CORO(careless)
{
    TAKT_BEGIN(careless, my);
    if (my->how == 0) {
        struct one local;
        memset((void *)&local, 0, sizeof local);
        TAKT_CALL(local, one);
        note("never");
    } else {
        struct one local;
        memset((void *)&local, 0, sizeof local);
        EXPECT(!TAKT_START_ON(&here, local, one));
        EXPECT_EQ(net_submit(&here, &local.frame, one_coro), TAKT_ESTACK);
    }
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

/* In every build. */
static void a_frame_on_the_stack_of_a_body_is_refused(void)
{
    static struct careless c;
    setup();
    EXPECT(TAKT_START_ON(&here, c, careless, .how = 0));
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(c.err, TAKT_ESTACK);
    EXPECT(strstr(noted, "careless: "));
    noted[0] = '\0';
    EXPECT(TAKT_START_ON(&here, c, careless, .how = 1));
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(c.err, 0);
    EXPECT(strstr(noted, "C stack"));
    EXPECT_EQ(here.sched.stats.refused, 1);
    finish();
}

/* A frame on the stack of whoever runs the loop is as good as any, however much is inlined. */
static void a_frame_on_the_stack_of_the_caller_is_fine(void)
{
    struct reads local;
    int pair[2];
    setup();
    memset((void *)&local, 0, sizeof local);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT_EQ(send(pair[1], "hello", 5, 0), 5);
    EXPECT(TAKT_START_ON(&here, local, reads, .fd = pair[0]));
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(local.n, 5);
    EXPECT_EQ(panics, 0);
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* -- bodies ------------------------------------------------------------------------ */

static void a_body_that_is_not_to_run_does_not(void)
{
    int pair[2];
    setup();
    one_coro(&a.frame); /* never started */
    expect_panic(NULL, 0, ": one: the body was entered, but is not to run");
    EXPECT(TAKT_START_ON(&here, a, one));
    EXPECT_EQ(net_run(&here), 0);
    one_coro(&a.frame); /* finished */
    EXPECT_EQ(panics, 1);
    EXPECT(strstr(said, "one: the body was entered, but is not to run: it has finished"));
    panics = 0;
    EXPECT_EQ(a.ran, 1);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT(TAKT_START_ON(&here, r, reads, .fd = pair[0]));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    reads_coro(&r.frame); /* waits */
    expect_panic("reads", reads_line, "the body was entered");
    takt_cancel(&r.frame);
    EXPECT_EQ(net_run(&here), 0);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static void a_body_whose_callee_runs_is_not_entered(void)
{
    static struct calls c;
    setup();
    EXPECT(TAKT_START_ON(&here, c, calls, .child = &a, .ns = TAKT_MS));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    calls_coro(&c.frame);
    expect_panic(NULL, 0, ": calls: the body was entered, but is not to run");
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(c.err, 0);
    EXPECT_EQ(a.ran, 1);
    finish();
}

static void a_body_of_a_frame_that_was_moved_is_not_entered(void)
{
    static struct one moved;
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .ns = TAKT_MS));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    moved = a;
    a.frame.strand->who.leaf = &moved.frame; /* as far as one might get */
    one_coro(&moved.frame);
    expect_panic("one", one_line + 2, "freed, moved or overwritten");
    a.frame.strand->who.leaf = &a.frame;
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(a.ran, 1);
    EXPECT_EQ(moved.ran, 0);
    finish();
}

/* Its line is none that it ever left from. */
static void a_frame_that_goes_on_nowhere_fails(void)
{
    takt_event event;
    memset(&event, 0, sizeof event);
    setup();
    EXPECT(TAKT_START_ON(&here, a, one, .event = &event));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    a.frame.line += 1000;
    takt_event_set(&event);
    EXPECT_EQ(net_run(&here), TAKT_ERESUME);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ERESUME);
    EXPECT_EQ(a.ran, 0);
    EXPECT_EQ(panics, 0);
    finish();
}

/* Law 1, in every build: it says that it has finished while its op is in flight. */
struct lender {
    takt_frame frame;
    int fd;
    char c;
};

static TAKT_CORO(lender)
{
    static const takt_coro coro = {lender_coro, "lender", __FILE__, __LINE__,
                                   sizeof(struct lender)};
    struct lender *const my = (struct lender *)(void *)takt_self;
    if (takt_enter(takt_self, &coro) == 0)
        return takt_yield(takt_self, takt_recv(my->fd, &my->c, 1), 1);
    return takt_finish(takt_self, 0);
}

static void a_body_does_not_end_while_it_lends(void)
{
    static struct lender l;
    static struct calls c;
    int pair[2];
    setup();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    for (int called = 0; called < 2; called++) {
        takt_strand *strand;
        takt_frame *const f = &l.frame;
        memset((void *)&l, 0, sizeof l);
        l.fd = pair[0];
        EXPECT_EQ(net_submit(&here, f, lender_coro), 0);
        strand = f->strand;
        if (called) { /* as by takt_call() */
            memset((void *)&c, 0, sizeof c);
            f->parent = &c.frame;
            f->bits &= (uint8_t)~TAKT__ROOT;
        }
        here.sched.in_turn = true; /* it is run by somebody who should not */
        EXPECT(takt__step(&here.sched, strand, lender_coro(f).go) == NULL);
        here.sched.in_turn = false;
        expect_panic("lender", 0, ": lender: the body was entered, but is not to run");
        EXPECT(takt_alive(f) && !takt_finished(f));
        f->parent = NULL;
        f->bits |= TAKT__ROOT;
        f->state = TAKT__RUNNING;
        EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
        EXPECT_EQ(net_run(&here), 0);
        EXPECT_EQ(l.c, 'x');
        EXPECT(takt_finished(f));
    }
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* -- threads ----------------------------------------------------------------------- */

static takt_event event;
static takt_group group;

enum { START, SPAWN, GO, SUBMIT, STOP, CANCEL, GROUP, SET, TURN, FOREIGN };

static void *foreign(void *arg)
{
    switch (*(int *)arg) {
    case START:
        EXPECT(!TAKT_START_ON(&here, b, one));
        break;
    case SPAWN:
        EXPECT(!TAKT_SPAWN_ON(&here, one));
        break;
    case GO:
        EXPECT(!TAKT_GO_ON(&here, group, one));
        break;
    case SUBMIT:
        EXPECT_EQ(net_submit(&here, &b.frame, one_coro), TAKT_ETHREAD);
        break;
    case STOP:
        net_stop(&here, 0);
        EXPECT(!here.sched.stopping);
        break;
    case CANCEL:
        takt_cancel(&a.frame);
        EXPECT(!(a.frame.strand->flags & TAKT__CANCELLED));
        break;
    case GROUP:
        takt_group_cancel(&group);
        break;
    case SET:
        takt_event_set(&event);
        break;
    default:
        net_turn(&here, 0, 0);
        break;
    }
    return NULL;
}

static void in_another_thread(int what)
{
    pthread_t thread;
    EXPECT_EQ(pthread_create(&thread, NULL, foreign, &what), 0);
    pthread_join(thread, NULL);
}

static void *cancel_it(void *arg)
{
    (void)arg;
    takt_cancel(&b.frame);
    return NULL;
}

/* There is no name to tell as yet. */
static void a_coroutine_that_has_not_run_is_not_cancelled_from_elsewhere(void)
{
    pthread_t thread;
    setup();
    EXPECT(TAKT_START_ON(&here, a, one));
    EXPECT_EQ(net_run(&here), 0);
    EXPECT(TAKT_START_ON(&here, b, one));
    EXPECT_EQ(pthread_create(&thread, NULL, cancel_it, NULL), 0);
    pthread_join(thread, NULL);
    expect_panic(NULL, 0, "takt: the loop belongs to another thread");
    EXPECT_EQ(net_run(&here), 0);
    EXPECT_EQ(b.ran, 1);
    finish();
}

static void a_loop_belongs_to_the_thread_that_runs_it(void)
{
    setup();
    memset(&event, 0, sizeof event);
    memset(&group, 0, sizeof group);
    EXPECT(TAKT_START_ON(&here, a, one, .event = &event));
    EXPECT(TAKT_GO_ON(&here, group, one, .ns = TAKT_MS));
    EXPECT(net_turn(&here, 0, 0) >= 0);
    for (int what = 0; what < FOREIGN; what++) {
        in_another_thread(what);
        if (what == CANCEL)
            expect_panic("one", one_line, "belongs to another thread");
        else
            expect_panic(NULL, 0, "belongs to another thread");
    }
    takt_event_set(&event);
    EXPECT_EQ(net_run(&here), 0);
    finish();
}

static void *start_and_run(void *arg)
{
    (void)arg;
    EXPECT(TAKT_START_ON(&here, b, one, .ns = TAKT_MS));
    EXPECT_EQ(net_run(&here), 0);
    return NULL;
}

/* What is set up in one thread may be run in another, and ended in a third. */
static void a_loop_is_owned_from_its_first_turn(void)
{
    pthread_t thread;
    setup();
    EXPECT(TAKT_START_ON(&here, a, one));
    EXPECT_EQ(pthread_create(&thread, NULL, start_and_run, NULL), 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(a.ran + b.ran, 2);
    EXPECT_EQ(net_drain(&here), 0);
    EXPECT_EQ(panics, 0);
    finish();
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_frame_that_is_alive_is_not_begun_again),
        TEST(two_loops_do_not_share_a_frame),
        TEST(what_was_never_a_frame_can_be_one),
        TEST(what_points_at_strands_can_be_a_frame),
        TEST(what_points_at_an_op_of_a_batch_can_be_a_frame),
        TEST(a_caller_is_alive_too),
        TEST(what_runs_elsewhere_is_not_called),
        TEST(a_frame_that_was_overwritten_is_missed),
        TEST(a_header_that_was_overwritten_is_missed),
        TEST(a_frame_that_was_moved_is_missed),
        TEST(a_frame_whose_function_returned_is_missed),
        TEST(a_frame_on_the_stack_of_a_body_is_refused),
        TEST(a_frame_on_the_stack_of_the_caller_is_fine),
        TEST(a_body_that_is_not_to_run_does_not),
        TEST(a_body_whose_callee_runs_is_not_entered),
        TEST(a_body_of_a_frame_that_was_moved_is_not_entered),
        TEST(a_frame_that_goes_on_nowhere_fails),
        TEST(a_body_does_not_end_while_it_lends),
        TEST(a_coroutine_that_has_not_run_is_not_cancelled_from_elsewhere),
        TEST(a_loop_belongs_to_the_thread_that_runs_it),
        TEST(a_loop_is_owned_from_its_first_turn),
    };
    return RUN_TESTS(argc, argv, tests);
}
