/*
 * corners.c - the engine's corners: every word, interrupted in every way at every moment
 *
 * The backend here holds what it is given until the test says how it ends, refuses when it
 * is told to, and answers a cancel at once, or later, or with what it had done already. It
 * counts the descriptors that it hands out and takes back.
 */
static void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* -- fake: a backend that does what it is told ------------------------------- */

enum { HELD = 1, ANSWERED = 2 }; /* takt_op.state */

typedef struct fake_config {
    int unused;
} fake_config;

typedef struct fake {
    takt_ns now;
    takt_op *held, *held_last; /* until the test says how they end; oldest first */
    takt_op *done, *done_last; /* answered, not yet polled */
    int in_flight, submits, cancels, polls;
    int opens, closes;
    int refuse;      /* the n-th submission from here on is refused; 0: none */
    int poll_error;  /* in place of completions */
    bool refuse_all; /* every submission is refused */
    bool at_once;    /* nothing is held */
    bool hold_close; /* closing takes its time */
    bool deaf;       /* a cancel is heard, but not answered */
} fake;

static int frees;

static int fake_init(fake *f, const fake_config *config, const takt_slots *slots)
{
    (void)config;
    (void)slots;
    memset(f, 0, sizeof *f);
    return 0;
}

static void fake_free(fake *f)
{
    EXPECT_EQ(f->in_flight, 0);
    EXPECT_EQ(f->opens, f->closes);
    frees++;
}

static takt_ns fake_now(fake *f)
{
    return f->now;
}

static void fake_append(takt_op **first, takt_op **last, takt_op *op)
{
    op->next = NULL;
    if (*first)
        (*last)->next = op;
    else
        *first = op;
    *last = op;
}

/* The op ends with `result`; an accept that succeeds, with a descriptor. */
static void fake_answer(fake *f, takt_op *op, int64_t result)
{
    if (op->state == HELD) {
        takt_op **link = &f->held, *before = NULL;
        while (*link != op) {
            before = *link;
            link = &(*link)->next;
        }
        *link = op->next;
        if (f->held_last == op)
            f->held_last = before;
    }
    if (op->kind == TAKT_OP_ACCEPT && result == 0)
        result = 100 + f->opens++;
    if (op->kind == TAKT_OP_CLOSE && result == 0)
        f->closes++;
    op->result = result;
    op->state = ANSWERED;
    fake_append(&f->done, &f->done_last, op);
}

static int fake_submit(fake *f, takt_op *op, takt_token *token)
{
    (void)token;
    if (f->refuse_all || (f->refuse && --f->refuse == 0))
        return -ENOBUFS;
    f->submits++;
    f->in_flight++;
    op->state = 0;
    if (f->at_once || op->kind == TAKT_OP_NOP ||
        (op->kind == TAKT_OP_CLOSE && !f->hold_close)) {
        fake_answer(f, op, 0);
    } else {
        fake_append(&f->held, &f->held_last, op);
        op->state = HELD;
    }
    return 0;
}

static void fake_cancel(fake *f, takt_op *op)
{
    f->cancels++;
    EXPECT(op->kind != TAKT_OP_CLOSE);
    if (op->state == HELD && !f->deaf)
        fake_answer(f, op, -ECANCELED);
}

static int fake_poll(fake *f, takt_completion *out, int max, takt_ns wait)
{
    int count = 0;
    f->polls++;
    if (f->poll_error)
        return f->poll_error;
    for (; f->done && count < max; count++) {
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_of(f->done);
        out[count].value = f->done->result;
        out[count].error = f->done->result < 0 ? (int32_t)f->done->result : 0;
        f->done->state = 0;
        f->done = f->done->next;
        f->in_flight--;
    }
    if (count == 0 && wait == TAKT_FOREVER)
        return -EDEADLK; /* nothing will ever happen again */
    if (count == 0)
        f->now += wait;
    return count ? count : TAKT_EWOULDBLOCK;
}

static void fake_flush(fake *f)
{
    (void)f;
}

static bool fake_busy(fake *f)
{
    return f->done != NULL;
}

static int fake_fd(fake *f)
{
    (void)f;
    return -1;
}

static int64_t fake_call(fake *f, takt_op *op)
{
    if (op->kind == TAKT_OP_CLOSE)
        f->closes++;
    return 0;
}

/* A loop of which all is inlined into who runs it, as -O3 and -flto may do unasked. */
typedef struct tiny tiny;
#if defined(__GNUC__)
__attribute__((always_inline)) static inline int tiny_run(tiny *);
__attribute__((always_inline)) static inline void tiny__turn(tiny *, takt_ns, int);
#endif
TAKT_LOOP(tiny, fake);

TAKT_LOOP(net, fake);
static net loop;
static fake *const kernel = &loop.backend;
static char logged[512]; /* the last line */

static void remember(const char *text)
{
    snprintf(logged, sizeof logged, "%s", text);
}

/* Ends everything that is held, oldest first. */
static void answer_all(int64_t result)
{
    while (kernel->held)
        fake_answer(kernel, kernel->held, result);
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

/* Turns until nothing moves any more, without letting time pass. */
static void settle(void)
{
    int rc, turns = 0;
    do
        rc = net_turn(&loop, 0, 0);
    while (++turns < 1000 && (rc > 0 || (rc == 0 && net_deadline(&loop) <= net_now(&loop))));
    EXPECT(turns < 1000);
}

static void setup_with(net_config *config, uint32_t strands)
{
    logged[0] = '\0';
    frees = 0;
    config->loop.strands = strands;
    EXPECT_EQ(net_init(&loop, config), 0);
}

static void setup(uint32_t strands)
{
    net_config config = net_defaults();
    setup_with(&config, strands);
}

/* Nothing is left: no strand, no timer, no task, nothing with the backend. */
static void finish(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(loop.sched.pending, 0);
    EXPECT_EQ(loop.sched.starved_first, 0);
    EXPECT_EQ(loop.sched.stats.stale, 0);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(frees, 1);
}

/* -- defers: how many, and what may happen in one ------------------------------ */

struct defers {
    takt_frame frame;
    int mode, count; /* of the defers */
    int err;
    struct defers *callee;
};

static TAKT_CORO(defers)
{
    TAKT_BEGIN(defers, my);
    if (my->count > 0)
        TAKT_DEFER { note("1"); }
    if (my->count > 1)
        TAKT_DEFER { note("2"); }
    if (my->count > 2)
        TAKT_DEFER { note("3"); }
    if (my->count > 3)
        TAKT_DEFER { note("4"); }
    if (my->count > 4)
        TAKT_DEFER { note("never"); }
    note("b");
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void as_many_defers_as_there_is_room_for(void)
{
    static const char *const traces[] = {"b", "b1", "b21", "b321", "b4321", "4321"};
    static struct defers it;
    setup(1);
    for (int count = 0; count <= TAKT_DEFERS_MAX + 1; count++) {
        test_trace[0] = '\0';
        EXPECT_EQ(TAKT_START_ON(&loop, it, defers, .count = count), true);
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_TRACE(traces[count]);
        EXPECT_EQ(it.err, count > TAKT_DEFERS_MAX ? TAKT_EDEFERS : 0);
    }
    finish();
}

/* However a block is left, it is over, and the next one runs. */
struct leaves_child {
    takt_frame frame;
    int fail;
};

struct leaves {
    takt_frame frame;
    int mode, err, n, i;
    struct defers callee;
    struct leaves_child child;
};

static TAKT_CORO(leaves_child)
{
    TAKT_BEGIN(leaves_child, my);
    TAKT_DEFER { note("~"); }
    TAKT_AWAIT(takt_nop());
    if (my->fail)
        TAKT_THROW(-EDOM);
    TAKT_AWAIT(takt_accept(1, NULL));
    note("never");
    TAKT_END;
}

static TAKT_CORO(leaves)
{
    TAKT_BEGIN(leaves, my);
    TAKT_DEFER { note("1"); }
    TAKT_DEFER {
        note("(");
        TAKT_AWAIT(takt_nop());
        note("a");
        if (my->mode == 1)
            TAKT_THROW(-ENOENT);
        if (my->mode == 2)
            TAKT_RETURN;
        if (my->mode == 3)
            break;
        if (my->mode == 4)
            continue;
        if (my->mode == 5) {
            kernel->refuse = 1;
            TAKT_AWAIT(takt_nop()); /* fails: ends this block, not the next */
        } else if (my->mode == 6) {
            TAKT_TRY_CALL(my->n, my->callee, defers, .count = 5);
            note(my->n == 0 && my->callee.err == TAKT_EDEFERS ? "c" : "?");
        } else if (my->mode == 7) { /* started here, does not outlive it */
            TAKT_START(my->child, leaves_child, .fail = 0);
            TAKT_AWAIT(takt_nop());
        } else if (my->mode == 8) { /* and does not interrupt it by failing */
            TAKT_START(my->child, leaves_child, .fail = 1);
            TAKT_JOIN(my->child);
            note(takt_error(&my->child.frame) == -EDOM ? "j" : "?");
        } else if (my->mode == 9) {
            for (my->i = 0; my->i < 3; my->i++)
                TAKT_AWAIT(takt_nop());
            note("3");
        } else if (my->mode == 10) {
            TAKT_CHECK(-EIO);
        }
        note(")");
    }
    note("b");
    TAKT_CATCH { note("never"); }
    TAKT_END;
}

static void however_a_defer_is_left_the_next_one_runs(void)
{
    static const char *const traces[] = {
        "b(a)1", "b(a1", "b(a1", "b(a1", "b(a1", "b(a1", "b(a4321c)1",
        "b(a)~1", "b(a~j)1", "b(a3)1", "b(a1"};
    static struct leaves it;
    for (int mode = 0; mode <= 10; mode++) {
        setup(2);
        test_trace[0] = '\0';
        EXPECT_EQ(TAKT_START_ON(&loop, it, leaves, .mode = mode), true);
        EXPECT_EQ(net_run(&loop), 0); /* no error in a defer comes out of it */
        EXPECT_TRACE(traces[mode]);
        finish();
    }
}

/* -- refused submissions: the first op and later ones; that coroutine only ------------ */

struct asker {
    takt_frame frame;
    int fd, done, err;
};

static TAKT_CORO(asker)
{
    TAKT_BEGIN(asker, my);
    TAKT_DEFER {
        note("~");
        if (my->fd > 0)
            TAKT_AWAIT(takt_close(my->fd));
    }
    TAKT_AWAIT(my->fd, takt_accept(1, NULL));
    my->done++;
    TAKT_AWAIT(takt_recv(1, NULL, 0));
    my->done++;
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void a_refused_op_is_thrown_into_that_coroutine_only(void)
{
    static struct asker a, b, c;
    for (int which = 1; which <= 6; which++) { /* three first ops, three second ones */
        setup(3);
        test_trace[0] = '\0';
        kernel->refuse = which;
        EXPECT(TAKT_START_ON(&loop, a, asker) && TAKT_START_ON(&loop, b, asker) &&
               TAKT_START_ON(&loop, c, asker));
        turn();
        EXPECT_EQ(kernel->in_flight, which <= 3 ? 2 : 3);
        answer_all(0);
        settle();
        answer_all(7);
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(a.done + b.done + c.done, which <= 3 ? 4 : 5);
        EXPECT_EQ(a.err + b.err + c.err, -ENOBUFS);
        EXPECT_TRACE("~~~");
        EXPECT_EQ(kernel->opens, which <= 3 ? 2 : 3);
        finish();
    }
}

/* -- a frame on main's own stack ------------------------------------------------- */

static tiny tiny_loop;

struct local {
    takt_frame frame;
    int n;
    char buf[64];
};

static TAKT_CORO(local)
{
    TAKT_BEGIN(local, my);
    TAKT_AWAIT(my->n, takt_recv(1, my->buf, sizeof my->buf));
    TAKT_END;
}

static void a_frame_may_stand_on_the_stack_of_who_runs_the_loop(void)
{
    struct local local;
    const tiny_config config = tiny_defaults();
    EXPECT_EQ(tiny_init(&tiny_loop, &config), 0);
    tiny_loop.backend.at_once = true;
    EXPECT(TAKT_START_ON(&tiny_loop, local, local));
    EXPECT_EQ(tiny_run(&tiny_loop), 0);
    EXPECT_EQ(local.n, 0);
    EXPECT_EQ(tiny_free(&tiny_loop), 0);
}

/* -- TAKT_TRY_ in a defer: also while the loop is drained -------------------------- */

struct polite {
    takt_frame frame;
    int fd, n, err;
    char bye[4];
    struct defers callee;
};

static TAKT_CORO(polite)
{
    TAKT_BEGIN(polite, my);
    TAKT_AWAIT(my->fd, takt_accept(1, NULL));
    TAKT_DEFER {
        TAKT_TRY_AWAIT(my->n, takt_send(my->fd, my->bye, sizeof my->bye));
        TAKT_TRY_CALL(my->err, my->callee, defers, .count = 0);
        TAKT_AWAIT(takt_close(my->fd)); /* whatever became of the farewell */
    }
    TAKT_AWAIT(takt_sleep(TAKT_SEC));
    TAKT_END;
}

static void a_failed_try_does_not_end_a_defer(void)
{
    static struct polite it;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, it, polite));
    turn();
    answer_all(0);
    turn();
    EXPECT_EQ(net_drain(&loop), 1);
    EXPECT_EQ(it.n, TAKT_ECANCELED);
    EXPECT_EQ(kernel->opens, 1);
    EXPECT_EQ(kernel->closes, 1);
    finish();
}

/* -- a defer that registers another ------------------------------------------------ */

struct nested {
    takt_frame frame;
    int mode, times;
};

static TAKT_CORO(nested)
{
    TAKT_BEGIN(nested, my);
    TAKT_DEFER { note("1"); }
    if (my->mode > 1) {
        TAKT_DEFER { note("2"); }
        TAKT_DEFER { note("3"); }
    }
    TAKT_DEFER {
        note("(");
        EXPECT(++my->times == 1);
        TAKT_DEFER { note("n"); }
        TAKT_AWAIT(takt_nop());
        if (my->mode == 1)
            break;
        note(")");
    }
    note("b");
    TAKT_END;
}

static void a_defer_in_a_defer_runs_next_and_once(void)
{
    static const char *const traces[] = {"b()n1", "b(n1", "b(321"};
    static struct nested it;
    for (int mode = 0; mode < 3; mode++) {
        setup(1);
        test_trace[0] = '\0';
        EXPECT(TAKT_START_ON(&loop, it, nested, .mode = mode));
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_TRACE(traces[mode]); /* the last one has no room: that ends the block */
        finish();
    }
}

/* -- a broken loop -------------------------------------------------------------------- */

struct yielder {
    takt_frame frame;
};

static TAKT_CORO(yielder)
{
    TAKT_BEGIN(yielder, my);
    TAKT_DEFER { note("~"); }
    for (;;)
        TAKT_YIELD;
    TAKT_END;
}

static void a_broken_loop_reaches_those_that_have_yielded(void)
{
    static struct yielder a, b;
    setup(2);
    EXPECT(TAKT_START_ON(&loop, a, yielder));
    EXPECT(TAKT_START_ON(&loop, b, yielder));
    turn();
    kernel->poll_error = -EIO;
    EXPECT_EQ(net_turn(&loop, 0, 0), -EIO);
    net_drain(&loop);
    EXPECT_TRACE("~~");
    finish();
}

/* -- a child that is named twice ---------------------------------------------------- */

struct doubles {
    takt_frame frame;
    int mode, winner;
    struct yielder other;
    struct leaves_child a;
};

static TAKT_CORO(doubles)
{
    TAKT_BEGIN(doubles, my);
    TAKT_START(my->a, leaves_child, .fail = 0);
    if (my->mode == 0)
        TAKT_JOIN(my->a, my->a);
    else
        TAKT_RACE(my->winner, my->a, my->a);
    note("J");
    TAKT_END;
}

static void a_child_that_is_named_twice_is_awaited_once(void)
{
    static struct doubles it;
    for (int mode = 0; mode < 2; mode++) {
        setup(2);
        test_trace[0] = '\0';
        EXPECT(TAKT_START_ON(&loop, it, doubles, .mode = mode, .winner = 7));
        settle();
        takt_cancel(&it.a.frame);
        EXPECT_EQ(net_run(&loop), mode == 0 ? 0 : TAKT_ECANCELED); /* nobody has won */
        EXPECT_TRACE(mode == 0 ? "~J" : "~");
        if (takt_alive(&it.frame))
            net_drain(&loop);
        finish();
    }
}

/* -- the time, asked for between two turns ---------------------------------------------- */

static void between_turns_the_clock_is_read_anew(void)
{
    static struct yielder yielder;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, yielder, yielder));
    turn();
    turn();
    kernel->now += 3600 * TAKT_SEC; /* somebody else's loop was busy */
    EXPECT_EQ(takt_now(&yielder.frame), 3600 * TAKT_SEC);
    net_stop(&loop, TAKT_SEC); /* a second from now, not from then */
    turn();
    EXPECT(takt_alive(&yielder.frame));
    kernel->now += 2 * TAKT_SEC;
    turn();
    turn();
    EXPECT(!takt_alive(&yielder.frame));
    finish();
}

/* -- a cancelled call: its caller is told by the call's error, and by nothing else ---------- */

struct pair {
    takt_frame frame;
    int mode, err, fd;
    struct asker callee;
};

static TAKT_CORO(pair)
{
    TAKT_BEGIN(pair, my);
    TAKT_TRY_CALL(my->err, my->callee, asker);
    TAKT_AWAIT(takt_nop());
    note("!");
    TAKT_DEFER { /* in a defer too, that call can be cancelled */
        TAKT_TRY_CALL(my->err, my->callee, asker);
        TAKT_AWAIT(takt_nop());
        note("d");
    }
    TAKT_END;
}

static void a_cancelled_call_is_its_callers_to_handle(void)
{
    static struct pair it;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, it, pair));
    settle();
    takt_cancel(&it.callee.frame);
    settle();
    EXPECT_TRACE("~!");
    EXPECT_EQ(it.err, TAKT_ECANCELED);
    EXPECT_EQ(it.callee.err, 0); /* it cannot be caught in there */
    it.err = 0;
    takt_cancel(&it.callee.frame);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("~!~d");
    EXPECT_EQ(it.err, TAKT_ECANCELED);
    finish();
}

static void a_call_that_completes_all_the_same_leaves_no_order_behind(void)
{
    static struct pair it;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, it, pair));
    settle();
    answer_all(0);
    settle();
    answer_all(0); /* the last that it awaits: done, but not yet polled */
    takt_cancel(&it.callee.frame);
    settle();
    EXPECT_TRACE("~!");
    EXPECT_EQ(it.err, 0);
    takt_cancel(&it.callee.frame);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(it.frame.error, 0);
    finish();
}

/* -- every word, in every phase, told to stop in every way ----------------------------- */

#define WORDS(X)                                                                             \
    X(AWAIT) X(TRY_AWAIT) X(AWAIT_ALL) X(CALL) X(TRY_CALL) X(CALL_WITHIN) X(JOIN) X(RACE)    \
    X(JOIN_GROUP) X(YIELD) X(EVENT) X(SEMAPHORE) X(SLEEP) X(CLOSE)
#define PHASES(X)                                                                            \
    X(BEFORE) /* ready, and about to come to the word */                                     \
    X(FLIGHT) /* it waits */                                                                 \
    X(DONE)   /* what it waits for has completed, but it has not been told */                \
    X(LATE)   /* being cancelled, when it completes all the same */
#define ORDERS(X)                                                                            \
    X(CANCEL) X(STOP) X(DRAIN)                                                               \
    X(CALLED) /* it is a called frame: the call is cancelled */                              \
    X(CHILD)  /* a child of its own fails */                                                 \
    X(IDLE)   /* its idle limit passes */

enum { /* the words as they are counted below */
#define COUNT(name) name##_WORD,
    WORDS(COUNT) WORDS_COUNT
#undef COUNT
};
enum {
#define COUNT(name) PHASE_##name,
    PHASES(COUNT) PHASES_COUNT
#undef COUNT
};
enum {
#define COUNT(name) ORDER_##name,
    ORDERS(COUNT) ORDERS_COUNT
#undef COUNT
};

/* Its starter takes the descriptor over. */
struct getter {
    takt_frame frame;
    int fd;
};

static TAKT_CORO(getter)
{
    TAKT_BEGIN(getter, my);
    TAKT_AWAIT(my->fd, takt_accept(1, NULL));
    TAKT_CATCH { my->fd = 0; }
    TAKT_END;
}

struct keeper {
    takt_frame frame;
    int fd;
};

static TAKT_CORO(keeper)
{
    TAKT_BEGIN(keeper, my);
    TAKT_DEFER {
        if (my->fd > 0)
            TAKT_AWAIT(takt_close(my->fd));
    }
    TAKT_AWAIT(my->fd, takt_accept(1, NULL));
    TAKT_END;
}

struct failer {
    takt_frame frame;
    takt_event *when;
    int error;
};

static TAKT_CORO(failer)
{
    TAKT_BEGIN(failer, my);
    TAKT_AWAIT(takt_event_wait(my->when));
    TAKT_THROW(my->error);
    TAKT_END;
}

struct subject {
    takt_frame frame;
    int word;
    int fd, winner, err;
    int after, beyond, defers; /* it came past the word, past the next one; how often */
    int order;
    int caught;
    takt_event gate, event, bad_event;
    takt_semaphore semaphore;
    takt_idle idle;
    takt_group group;
    takt_op ops[2];
    struct getter a, b;
    struct failer bad;
};

static TAKT_CORO(subject)
{
    TAKT_BEGIN(subject, my);
    TAKT_DEFER {
        my->defers++;
        if (my->ops[0].result > 0)
            TAKT_AWAIT(takt_close((int)my->ops[0].result));
        if (my->ops[1].result > 0)
            TAKT_AWAIT(takt_close((int)my->ops[1].result));
        if (my->a.fd > 0)
            TAKT_AWAIT(takt_close(my->a.fd));
        if (my->b.fd > 0)
            TAKT_AWAIT(takt_close(my->b.fd));
    }
    TAKT_DEFER {
        if (my->fd > 0)
            TAKT_AWAIT(takt_close(my->fd));
    }
    if (my->order == ORDER_CHILD)
        TAKT_START(my->bad, failer, .when = &my->bad_event, .error = -EDOM);
    if (my->order == ORDER_IDLE)
        takt_idle_start(&my->frame, &my->idle, 50 * TAKT_MS);
    if (my->word == JOIN_WORD || my->word == RACE_WORD) {
        TAKT_START(my->a, getter);
        TAKT_START(my->b, getter);
    }
    if (my->word == JOIN_GROUP_WORD)
        EXPECT(TAKT_GO(my->group, keeper) && TAKT_GO(my->group, keeper));
    TAKT_AWAIT(takt_event_wait(&my->gate));
    if (my->word == AWAIT_WORD) {
        TAKT_AWAIT(my->fd, takt_accept(1, NULL));
    } else if (my->word == TRY_AWAIT_WORD) {
        TAKT_TRY_AWAIT(my->fd, takt_accept(1, NULL));
    } else if (my->word == AWAIT_ALL_WORD) {
        my->ops[0] = takt_accept(1, NULL);
        my->ops[1] = takt_accept(1, NULL);
        TAKT_AWAIT_ALL(my->ops, 2);
    } else if (my->word == CALL_WORD) {
        TAKT_CALL(my->a, getter);
    } else if (my->word == TRY_CALL_WORD) {
        TAKT_TRY_CALL(my->err, my->a, getter);
    } else if (my->word == CALL_WITHIN_WORD) {
        TAKT_CALL_WITHIN(3600 * TAKT_SEC, my->a, getter);
    } else if (my->word == JOIN_WORD) {
        TAKT_JOIN(my->a, my->b);
    } else if (my->word == RACE_WORD) {
        TAKT_RACE(my->winner, my->a, my->b);
    } else if (my->word == JOIN_GROUP_WORD) {
        TAKT_JOIN_GROUP(my->group);
    } else if (my->word == YIELD_WORD) {
        TAKT_YIELD;
    } else if (my->word == EVENT_WORD) {
        TAKT_AWAIT(takt_event_wait(&my->event));
    } else if (my->word == SEMAPHORE_WORD) {
        TAKT_AWAIT(takt_acquire(&my->semaphore));
    } else if (my->word == SLEEP_WORD) {
        TAKT_AWAIT(takt_sleep(3600 * TAKT_SEC));
    } else {
        TAKT_AWAIT(takt_close(99));
    }
    my->after++;
    TAKT_AWAIT(takt_nop()); /* here at the latest it is told */
    my->beyond++;
    TAKT_CATCH { my->caught = my->frame.error; }
    TAKT_END;
}

struct outer {
    takt_frame frame;
    int word, err;
    struct subject it;
};

static TAKT_CORO(outer)
{
    TAKT_BEGIN(outer, my);
    TAKT_TRY_CALL(my->err, my->it, subject, .word = my->word, .order = ORDER_CALLED);
    TAKT_AWAIT(takt_nop()); /* it is as free as before */
    note("!");
    TAKT_END;
}

static struct outer outer_frame;
static struct subject *const it = &outer_frame.it;

/* Does what the word waits for. */
static void complete(int word)
{
    answer_all(0);
    if (word == EVENT_WORD)
        takt_event_set(&it->event);
    if (word == SEMAPHORE_WORD)
        takt_release(&it->semaphore, 1);
}

static void order_it(int order)
{
    switch (order) {
    case ORDER_CANCEL:
    case ORDER_CALLED:
        takt_cancel(&it->frame);
        takt_cancel(&it->frame); /* once more changes nothing */
        break;
    case ORDER_STOP:
        net_stop(&loop, 0);
        net_stop(&loop, TAKT_SEC); /* nor does this */
        net_stop(&loop, 0);
        break;
    case ORDER_DRAIN:
        net_drain(&loop);
        net_drain(&loop);
        break;
    case ORDER_CHILD:
        takt_event_set(&it->bad_event);
        break;
    default: /* as the timer would, but now */
        kernel->now += 60 * TAKT_MS;
        takt__idle_timer(&loop.sched, &it->idle);
        takt__idle_timer(&loop.sched, &it->idle);
    }
}

/* Does the word complete, if it is told to stop in this phase? */
static int completes(int word, int phase)
{
    if (word == CLOSE_WORD)
        return 1; /* always acts */
    if (phase == PHASE_BEFORE)
        return 0;
    if (word == YIELD_WORD)
        return 1;
    if (phase == PHASE_FLIGHT || word == JOIN_GROUP_WORD || word == SLEEP_WORD)
        return 0;
    if (word == EVENT_WORD || word == SEMAPHORE_WORD)
        return phase == PHASE_DONE;
    return 1; /* what the kernel has done is delivered */
}

static void start_it(int word, int order)
{
    net_config config = net_defaults();
    TAKT_POOL(config, keeper, 2);
    config.loop.reap_limit = 100 * TAKT_MS;
    setup_with(&config, 16);
    kernel->hold_close = word == CLOSE_WORD;
    memset((void *)&outer_frame, 0, sizeof outer_frame);
    if (order == ORDER_CALLED)
        EXPECT(TAKT_START_ON(&loop, outer_frame, outer, .word = word));
    else
        EXPECT(TAKT_START_ON(&loop, *it, subject, .word = word, .order = order));
    settle();
}

/* Brings it to the phase and gives the order there. */
static void tell_it(int word, int phase, int order)
{
    const int child = order == ORDER_CHILD; /* takes effect when its turn comes */
    if (phase == PHASE_BEFORE && child)
        order_it(order);
    takt_event_set(&it->gate);
    if (phase == PHASE_BEFORE && !child)
        order_it(order);
    if (phase == PHASE_BEFORE)
        return;
    turn();
    kernel->deaf = phase == PHASE_LATE;
    if (phase == PHASE_DONE && !child)
        complete(word);
    order_it(order);
    if (phase == PHASE_DONE && child)
        complete(word);
    settle();
    if (phase == PHASE_LATE)
        complete(word);
}

static void check_it(int word, int phase, int order)
{
    const int caught = order == ORDER_CHILD ? -EDOM : order == ORDER_IDLE ? -ETIMEDOUT : 0;
    EXPECT(!takt_alive(&it->frame) && takt_finished(&it->frame));
    EXPECT_EQ(it->after, completes(word, phase));
    EXPECT_EQ(it->beyond, 0);
    EXPECT_EQ(it->defers, 1);
    EXPECT_EQ(it->caught, caught);
    EXPECT_EQ(takt_error(&it->frame), caught ? 0 : TAKT_ECANCELED);
    EXPECT_EQ(kernel->in_flight, 0);
    EXPECT_EQ(it->group.count, 0);
    EXPECT(!it->event.line.first && !it->semaphore.line.first);
    if (order == ORDER_CALLED) {
        EXPECT_EQ(outer_frame.err, TAKT_ECANCELED);
        EXPECT_EQ(takt_error(&outer_frame.frame), 0);
        EXPECT_TRACE("!");
    }
    if (word == CLOSE_WORD) /* of a descriptor that the test made up */
        kernel->closes--;
    EXPECT_EQ(kernel->opens, kernel->closes);
}

static void every_word_told_to_stop_in_every_phase_in_every_way(void)
{
    static const char *const words[] = {
#define NAME(name) #name,
        WORDS(NAME)
    };
    static const char *const phases[] = {PHASES(NAME)};
    static const char *const orders[] = {ORDERS(NAME)};
#undef NAME
    for (int word = 0; word < WORDS_COUNT; word++)
        for (int phase = 0; phase < PHASES_COUNT; phase++)
            for (int order = 0; order < ORDERS_COUNT; order++) {
                const int before = test_failures;
                test_trace[0] = '\0';
                start_it(word, order);
                tell_it(word, phase, order);
                settle();
                kernel->hold_close = false;
                answer_all(0);
                settle();
                net_drain(&loop);
                check_it(word, phase, order);
                finish();
                if (test_failures != before)
                    printf("  in: %s %s %s\n", words[word], phases[phase], orders[order]);
            }
}

/* -- batches when strands are short ------------------------------------------------------- */

enum { BATCH = 40 };

struct batcher {
    takt_frame frame;
    int count, finished, i;
    takt_event *all_set; /* what the odd ones wait for, if anything */
    takt_op ops[BATCH];
};

static TAKT_CORO(batcher)
{
    TAKT_BEGIN(batcher, my);
    TAKT_DEFER {
        for (my->i = 0; my->i < my->count; my->i++)
            if (my->ops[my->i].kind == TAKT_OP_ACCEPT && my->ops[my->i].result >= 100)
                TAKT_AWAIT(takt_close((int)my->ops[my->i].result));
    }
    for (my->i = 0; my->i < my->count; my->i++)
        my->ops[my->i] = my->all_set && my->i % 2 ? takt_event_wait(my->all_set)
                                                  : takt_accept(1, NULL);
    TAKT_AWAIT_ALL(my->ops, (size_t)my->count);
    my->finished = 1;
    TAKT_END;
}

static struct batcher batchers[8];

static void start_batchers(int count, int ops, takt_event *event)
{
    for (int i = 0; i < count; i++)
        EXPECT(TAKT_START_ON(&loop, batchers[i], batcher, .count = ops, .all_set = event));
}

/* All strands are taken by those that wait for one more. */
static void batches_that_hold_all_strands_still_get_on(void)
{
    static struct batcher more;
    setup(8);
    start_batchers(8, BATCH, NULL);
    EXPECT(!TAKT_START_ON(&loop, more, batcher)); /* the spare one is not for frames */
    turn();
    EXPECT_EQ(kernel->in_flight, 1); /* one at a time */
    EXPECT(!TAKT_START_ON(&loop, more, batcher));
    while (kernel->in_flight) {
        answer_all(0);
        settle();
    }
    for (int i = 0; i < 8; i++)
        EXPECT(batchers[i].finished);
    EXPECT_EQ(kernel->opens, 8 * BATCH);
    finish();
}

/* Cancelled at every point of it, one of them or all: nothing is lost, all is given back. */
static void starved_batches_can_be_cancelled(void)
{
    for (int strands = 3; strands <= 6; strands++)
        for (int after = 0; after < 40; after++)
            for (int how = 0; how < 4; how++) {
                setup((uint32_t)strands);
                start_batchers(3, 5, NULL);
                for (int i = 0; i < after; i++) {
                    turn();
                    if (kernel->held)
                        fake_answer(kernel, kernel->held, 0);
                }
                kernel->deaf = how == 3;
                if (how == 2)
                    net_drain(&loop);
                for (int i = how == 0 ? 1 : 0; i < (how == 0 ? 2 : 3); i++)
                    takt_cancel(&batchers[i].frame);
                for (int i = 0; i < 40; i++) {
                    settle();
                    answer_all(0);
                }
                settle();
                EXPECT_EQ(kernel->opens, kernel->closes);
                finish();
            }
}

/* -- how deep the stack becomes --------------------------------------------------------------- */

enum { CROWD = 100000 };

struct short_batch {
    takt_frame frame;
    takt_op op;
    takt_event *event;
};

static TAKT_CORO(short_batch)
{
    TAKT_BEGIN(short_batch, my);
    my->op = takt_event_wait(my->event);
    TAKT_AWAIT_ALL(&my->op, 1);
    TAKT_END;
}

/* A hundred thousand wait for a strand; what they want to wait for has happened meanwhile. */
static void a_crowd_of_starved_batches_does_not_pile_up_on_the_stack(void)
{
    static takt_event event;
    static net_config config; /* large */
    config = net_defaults();
    TAKT_POOL(config, short_batch, CROWD);
    setup_with(&config, 1);
    takt_event_reset(&event);
    for (int i = 0; i < CROWD; i++)
        EXPECT(TAKT_SPAWN_ON(&loop, short_batch, .event = &event));
    settle();
    EXPECT(loop.sched.starved_first);
    takt_event_set(&event);
    EXPECT_EQ(net_run(&loop), 0);
    finish();
}

/* -- groups that are not of the frame that waits for them ------------------------------------ */

static takt_group crowd;

struct guest {
    takt_frame frame;
    int go; /* adds a member of its own first */
};

static TAKT_CORO(guest)
{
    TAKT_BEGIN(guest, my);
    TAKT_DEFER { note("~"); }
    if (my->go)
        EXPECT(TAKT_GO(crowd, keeper));
    TAKT_JOIN_GROUP(crowd);
    note("J");
    TAKT_END;
}

static void setup_crowd(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, keeper, 4);
    TAKT_POOL(config, failer, 1);
    setup_with(&config, 4);
    test_trace[0] = '\0';
    memset((void *)&crowd, 0, sizeof crowd);
}

static void anybody_may_wait_for_a_group(void)
{
    static struct guest guests[3];
    for (int cancelled = 0; cancelled < 4; cancelled++) {
        setup_crowd();
        EXPECT(TAKT_GO_ON(&loop, crowd, keeper) && TAKT_GO_ON(&loop, crowd, keeper));
        for (int i = 0; i < 3; i++)
            EXPECT(TAKT_START_ON(&loop, guests[i], guest));
        settle();
        fake_answer(kernel, kernel->held, 0);
        settle();
        EXPECT_TRACE("");
        if (cancelled < 3)
            takt_cancel(&guests[cancelled].frame);
        settle();
        EXPECT_TRACE(cancelled < 3 ? "~" : "");
        answer_all(0);
        settle();
        EXPECT_TRACE(cancelled < 3 ? "~J~J~" : "J~J~J~");
        EXPECT(crowd.joiners == 0);
        finish();
    }
}

/* What others had put into it is over: it belongs to who uses it next, and ends with that. */
static void a_group_that_others_used_first_still_ends_with_its_frame(void)
{
    static struct guest guest;
    setup_crowd();
    EXPECT(TAKT_GO_ON(&loop, crowd, keeper));
    settle();
    EXPECT_EQ(crowd.count, 1);
    answer_all(0);
    settle();
    EXPECT_EQ(crowd.count, 0);
    EXPECT(TAKT_START_ON(&loop, guest, guest, .go = 1));
    settle();
    EXPECT_EQ(crowd.count, 1);
    takt_cancel(&guest.frame);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(crowd.count, 0);
    finish();
}

static void a_group_forgets_the_frame_that_has_ended(void)
{
    static takt_event event;
    struct guest *const guest = (struct guest *)calloc(1, sizeof *guest);
    setup_crowd();
    takt_event_reset(&event);
    crowd.fail_fast = true;
    EXPECT(TAKT_START_ON(&loop, *guest, guest, .go = 1));
    settle();
    answer_all(0);
    EXPECT_EQ(net_run(&loop), 0);
    free(guest);
    EXPECT(TAKT_GO_ON(&loop, crowd, keeper));
    EXPECT(TAKT_GO_ON(&loop, crowd, failer, .when = &event, .error = -EDOM));
    settle();
    takt_event_set(&event);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(crowd.first_error, -EDOM);
    EXPECT_EQ(crowd.count, 0);
    finish();
    setup_crowd(); /* another loop: the group stands as it is, and begins anew */
    finish();
}

/* -- arguments that do things ---------------------------------------------------------------- */

struct named {
    takt_frame frame;
    int a, b, c;
};

static TAKT_CORO(named)
{
    TAKT_BEGIN(named, my);
    TAKT_DEFER { note("~"); }
    EXPECT_EQ(my->b, my->a + 1);
    note(my->a == 1 ? "1" : my->a == 3 ? "3" : my->a == 5 ? "5" : "?");
    TAKT_AWAIT(takt_recv(1, NULL, 0));
    note("!");
    TAKT_END;
}

static struct named named_object;

static int spawn_in_between(int depth)
{
    if (depth == 2)
        EXPECT(TAKT_GO_ON(&loop, crowd, named, .a = 3, .b = 1 + spawn_in_between(1) + 2));
    else
        EXPECT(TAKT_START_ON(&loop, named_object, named, .a = 5, .b = 6));
    return depth;
}

static int stop_in_between(int limit)
{
    net_stop(&loop, limit);
    return 2;
}

static void arguments_of_a_spawn_may_spawn(void)
{
    net_config config = net_defaults();
    TAKT_POOL(config, named, 4);
    setup_with(&config, 4);
    memset((void *)&crowd, 0, sizeof crowd);
    EXPECT(TAKT_SPAWN_ON(&loop, named, .a = 1, .b = spawn_in_between(2), .c = 1));
    EXPECT_EQ(net_pending(&loop), 3);
    EXPECT_EQ(crowd.count, 1);
    settle();
    EXPECT_TRACE("531");
    answer_all(-EINTR);
    EXPECT_EQ(net_run(&loop), -EINTR);
    EXPECT_EQ(crowd.failed, 1);
    finish();
}

/* A stop finds the task whose arguments are just being set: it counts as one that lives. */
static void a_stop_while_a_spawn_is_pending_takes_it_along(void)
{
    for (int mode = 0; mode < 6; mode++) {
        net_config config = net_defaults();
        TAKT_POOL(config, named, 4);
        setup_with(&config, 4);
        memset((void *)&crowd, 0, sizeof crowd);
        test_trace[0] = '\0';
        if (mode % 3 == 0)
            EXPECT(TAKT_SPAWN_ON(&loop, named, .a = 1, .b = stop_in_between(mode / 3)));
        else if (mode % 3 == 1)
            EXPECT(TAKT_GO_ON(&loop, crowd, named, .a = 1, .b = stop_in_between(mode / 3)));
        else
            EXPECT(TAKT_START_ON(&loop, named_object, named, .a = 1,
                                 .b = stop_in_between(mode / 3)));
        EXPECT(!TAKT_SPAWN_ON(&loop, named, .a = 3, .b = 4));
        EXPECT_EQ(net_pending(&loop), 1);
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_TRACE("1~"); /* it runs to its first await, and no further */
        EXPECT_EQ(loop.sched.stats.cancelled, 1);
        finish();
    }
}

/* -- a batch on the C stack ---------------------------------------------------------------- */

struct careless {
    takt_frame frame;
    bool calls;
    int err;
};

static TAKT_CORO(careless)
{
    TAKT_BEGIN(careless, my);
    if (my->calls) {
        struct defers callee;
        TAKT_CALL(callee, defers);
    } else {
        takt_op ops[2];
        ops[0] = takt_accept(1, NULL);
        ops[1] = takt_accept(1, NULL);
        TAKT_AWAIT_ALL(ops, 2);
    }
    note("never");
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void a_batch_on_the_stack_is_refused(void)
{
    static struct careless one;
    for (int calls = 0; calls < 2; calls++) {
        setup(3);
        EXPECT(TAKT_START_ON(&loop, one, careless, .calls = calls == 1));
        turn();
        EXPECT_EQ(kernel->submits, 0);
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(one.err, TAKT_ESTACK);
        EXPECT(strstr(logged, "careless") && strstr(logged, "C stack"));
        EXPECT_TRACE("");
        finish();
    }
}

/* -- where it failed --------------------------------------------------------------------- */

static int told_line;

static void on_failure(void *user, const char *name, int error, const char *file, int line)
{
    (void)user, (void)name, (void)error, (void)file;
    told_line = line;
}

struct culprit {
    takt_frame frame;
    int line;
    struct getter child;
};

static TAKT_CORO(culprit)
{
    TAKT_BEGIN(culprit, my);
    TAKT_START(my->child, getter);
    TAKT_AWAIT(takt_nop());
    my->line = __LINE__ + 1;
    TAKT_THROW(-EDOM);
    TAKT_END;
}

static void a_failure_is_told_with_its_line_also_when_children_are_waited_for(void)
{
    static struct culprit one;
    net_config config = net_defaults();
    config.loop.on_failure = on_failure;
    setup_with(&config, 2);
    EXPECT(TAKT_START_ON(&loop, one, culprit));
    EXPECT_EQ(net_run(&loop), -EDOM);
    EXPECT_EQ(told_line, one.line);
    finish();
}

/* -- how deep the stack becomes: nothing recurses ------------------------------------------- */

static uintptr_t highest, lowest;

static void measure(uintptr_t here)
{
    highest = here > highest ? here : highest;
    lowest = here < lowest ? here : lowest;
}

struct counted {
    takt_frame frame;
    int in, out, fail;
};

struct busy {
    takt_frame frame;
    int mode, i, n, err;
    takt_event set;
    takt_semaphore semaphore;
    takt_op op;
    struct counted callee;
};

static TAKT_CORO(counted)
{
    TAKT_BEGIN(counted, my);
    measure(TAKT__STACK_POINTER());
    my->out = my->in + 1;
    if (my->fail)
        TAKT_THROW(-EDOM);
    TAKT_END;
}

static TAKT_CORO(busy)
{
    TAKT_BEGIN(busy, my);
    my->set.set = true;
    my->semaphore.permits = TEST_MANY;
    while (my->i < TEST_MANY) {
        measure(TAKT__STACK_POINTER());
        if (my->mode == 0) {
            TAKT_AWAIT(takt_nop());
            my->i++;
        } else if (my->mode == 1) {
            TAKT_TRY_AWAIT(my->n, takt_nop()); /* refused: it does not even suspend */
            my->i += my->n == -ENOBUFS;
        } else if (my->mode == 2) {
            TAKT_AWAIT(takt_event_wait(&my->set));
            TAKT_AWAIT(takt_acquire(&my->semaphore));
            my->i += 2;
        } else if (my->mode == 3) {
            TAKT_CALL(my->callee, counted, .in = my->i);
            my->i = my->callee.out;
        } else if (my->mode == 4) {
            TAKT_TRY_CALL(my->err, my->callee, counted, .in = my->i, .fail = 1);
            my->i += my->err == -EDOM;
        } else if (my->mode == 5) {
            TAKT_YIELD;
            my->i++;
        } else if (my->mode == 6) {
            my->op = takt_event_wait(&my->set);
            TAKT_AWAIT_ALL(&my->op, 1);
            my->i++;
        } else {
            TAKT_START(my->callee, counted, .in = my->i);
            TAKT_JOIN(my->callee);
            my->i = my->callee.out;
        }
    }
    TAKT_END;
}

static void a_million_of_each_on_constant_stack(void)
{
    static struct busy one;
    for (int mode = 0; mode < 8; mode++) {
        highest = 0;
        lowest = UINTPTR_MAX;
        setup(2);
        kernel->refuse_all = mode == 1;
        EXPECT(TAKT_START_ON(&loop, one, busy, .mode = mode));
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(one.i, TEST_MANY);
        EXPECT(highest - lowest < 2048);
        finish();
    }
}

/* Frames that the user allocates as it goes, as deep as the data is. */
struct tree {
    takt_frame frame;
    struct tree *next;
    int depth, mode, sum;
};

enum { DEEP = 2000 };

static TAKT_CORO(tree)
{
    TAKT_BEGIN(tree, my);
    TAKT_DEFER {
        free(my->next);
        my->next = NULL;
    }
    if (my->depth < DEEP) {
        my->next = (struct tree *)malloc(sizeof *my->next);
        TAKT_CALL(*my->next, tree, .depth = my->depth + 1, .mode = my->mode);
        my->sum = my->next->sum + 1;
    } else if (my->mode == 1) {
        TAKT_THROW(-EDOM);
    } else {
        measure(TAKT__STACK_POINTER());
        TAKT_AWAIT(takt_accept(1, NULL));
    }
    TAKT_END;
}

static void recursion_through_frames_of_ones_own(void)
{
    static struct tree root;
    for (int mode = 0; mode < 4; mode++) {
        highest = 0;
        lowest = UINTPTR_MAX;
        setup(1); /* one strand, however deep */
        EXPECT(TAKT_START_ON(&loop, root, tree, .mode = mode));
        settle();
        if (mode == 2)
            takt_cancel(&root.next->next->frame); /* somewhere in between */
        if (mode == 3)
            net_drain(&loop);
        if (mode == 0)
            answer_all(0);
        settle();
        EXPECT(takt_finished(&root.frame));
        EXPECT_EQ(takt_error(&root.frame), mode == 0 ? 0 : mode == 1 ? -EDOM : TAKT_ECANCELED);
        EXPECT_EQ(root.sum, mode == 0 ? DEEP : 0);
        kernel->closes = kernel->opens; /* the test's own */
        finish();
    }
}

/* -- children that have ended, or fail where nobody waits ------------------------------------- */

struct runner {
    takt_frame frame;
    int error, id, spoil; /* fails with it; note of its end; throws what it gets */
    int fd;
};

static TAKT_CORO(runner)
{
    TAKT_BEGIN(runner, my);
    TAKT_DEFER {
        if (my->fd > 0)
            TAKT_AWAIT(takt_close(my->fd));
        note(my->id == 0 ? "a" : my->id == 1 ? "b" : "c");
    }
    if (my->error > 0) { /* waits */
        TAKT_AWAIT(my->fd, takt_accept(1, NULL));
        if (my->spoil)
            TAKT_THROW(-EDOM);
    } else if (my->error < 0) {
        TAKT_THROW(my->error);
    }
    TAKT_END;
}

/* What a, b and c do: 0 succeeds at once, -1 fails at once, 1 waits. */
struct races {
    takt_frame frame;
    int a, b, c, join;
    int winner, err;
    struct runner one[3];
};

static TAKT_CORO(races)
{
    TAKT_BEGIN(races, my);
    my->winner = -2;
    TAKT_START(my->one[0], runner, .error = my->a, .id = 0);
    TAKT_START(my->one[1], runner, .error = my->b, .id = 1);
    TAKT_START(my->one[2], runner, .error = my->c, .id = 2);
    if (my->join & 2) /* let them end first: a failure interrupts this */
        TAKT_AWAIT(takt_nop());
    if (my->join & 1)
        TAKT_JOIN(my->one[0], my->one[1], my->one[2]);
    else
        TAKT_RACE(my->winner, my->one[0], my->one[1], my->one[2]);
    note("!");
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void race_it(int a, int b, int c, int join, int winner, int err, const char *trace)
{
    static struct races one;
    const int failures = test_failures;
    setup(4);
    test_trace[0] = '\0';
    EXPECT(TAKT_START_ON(&loop, one, races, .a = a, .b = b, .c = c, .join = join));
    settle();
    if (a > 0 && b > 0 && c > 0 && !(join & 1)) /* all wait: cancel one, let one win */
        takt_cancel(&one.one[0].frame);
    settle();
    answer_all(0);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(one.winner, winner);
    EXPECT_EQ(one.err, err);
    EXPECT_TRACE(trace);
    finish();
    if (test_failures != failures)
        printf("  in: race_it(%d, %d, %d, %d)\n", a, b, c, join);
}

static void races_and_joins_of_those_that_have_ended(void)
{
    race_it(0, 1, 1, 0, 0, 0, "abc!");    /* one wins: the others are cancelled */
    race_it(0, 1, 1, 2, 0, 0, "acb!");    /* it had won before anybody asked */
    race_it(1, 1, 0, 2, 2, 0, "cba!");
    race_it(0, 0, 0, 2, 0, 0, "abc!");    /* all had: the first that is named */
    race_it(-1, 0, 1, 0, 1, 0, "abc!");   /* one that fails does not end it */
    race_it(-1, -1, -1, 0, -1, -1, "abc"); /* unless all do */
    race_it(-1, 1, 0, 2, 2, -1, "acb");   /* it failed while something else was awaited */
    race_it(1, 1, 1, 0, 1, 0, "abc!");    /* one cancelled from outside: the others race on */
    race_it(0, 0, 0, 1, -2, 0, "abc!");
    race_it(0, 0, 0, 3, -2, 0, "abc!");
    race_it(-1, 1, 1, 1, -2, -1, "abc");
    race_it(-1, 1, 1, 3, -2, -1, "acb");
}

/* Children that fail while their parent is on its way out, in its catch, in its defer. */
struct late {
    takt_frame frame;
    int mode, caught, i;
    struct runner child, other;
};

static TAKT_CORO(late)
{
    TAKT_BEGIN(late, my);
    TAKT_DEFER {
        note("(");
        if (my->mode == 3) {
            TAKT_START(my->other, runner, .error = -EDOM, .id = 1);
            TAKT_AWAIT(takt_nop());
            TAKT_AWAIT(takt_nop());
        }
        note(")");
    }
    TAKT_START(my->child, runner, .error = 1, .spoil = 1);
    TAKT_AWAIT(takt_nop());
    if (my->mode == 0)
        TAKT_RETURN;
    TAKT_THROW(-EIO);
    TAKT_CATCH {
        my->caught = my->frame.error;
        note("C");
        if (my->mode == 2) {
            TAKT_START(my->other, runner, .error = -EDOM, .id = 1);
            TAKT_AWAIT(takt_nop());
            TAKT_AWAIT(takt_nop());
            note("never");
        }
    }
    TAKT_END;
}

static void a_child_that_fails_while_its_parent_leaves(void)
{
    static const char *const traces[] = {"a()", "aC()", "aCb()", "aC(b)"};
    static struct late one;
    for (int mode = 0; mode < 4; mode++) {
        setup(3);
        test_trace[0] = '\0';
        EXPECT(TAKT_START_ON(&loop, one, late, .mode = mode));
        kernel->deaf = true;
        settle();
        answer_all(0); /* it gets what it wanted, and throws, though it was cancelled */
        EXPECT_EQ(net_run(&loop), mode == 2 ? -EDOM : 0);
        EXPECT_EQ(takt_error(&one.child.frame), -EDOM);
        EXPECT_EQ(takt_error(&one.frame), mode == 2 ? -EDOM : 0);
        EXPECT_EQ(one.caught, mode == 0 ? 0 : -EIO);
        EXPECT_TRACE(traces[mode]);
        finish();
    }
}

/* -- a stop with a limit ----------------------------------------------------------------------- */

static void a_stop_waits_as_long_as_it_was_told_last(void)
{
    static struct keeper a;
    for (int mode = 0; mode < 6; mode++) {
        setup(2);
        kernel->deaf = mode == 5;
        EXPECT(TAKT_START_ON(&loop, a, keeper));
        EXPECT_EQ(net_turn(&loop, 0, 0) >= 0, true);
        kernel->held->kind = TAKT_OP_RECV; /* what a stop lets finish */
        net_stop(&loop, 10 * TAKT_SEC);
        settle();
        EXPECT(takt_alive(&a.frame));
        if (mode == 1)
            net_stop(&loop, TAKT_SEC); /* sooner */
        if (mode == 2)
            net_stop(&loop, 60 * TAKT_SEC); /* later */
        if (mode == 3)
            net_stop(&loop, TAKT_FOREVER); /* never */
        if (mode == 4)
            net_stop(&loop, 0); /* now */
        kernel->now += 2 * TAKT_SEC;
        settle();
        EXPECT_EQ(takt_alive(&a.frame), mode != 1 && mode != 4);
        kernel->now += 20 * TAKT_SEC;
        settle();
        EXPECT_EQ(takt_alive(&a.frame), mode == 2 || mode == 3 || mode == 5);
        kernel->now += 60 * TAKT_SEC;
        settle();
        EXPECT_EQ(takt_alive(&a.frame), mode == 3 || mode == 5);
        EXPECT(!TAKT_START_ON(&loop, a, keeper) || mode > 5);
        answer_all(0);
        settle();
        EXPECT(!takt_alive(&a.frame));
        finish();
    }
}

/* -- an order that is over leaves nothing behind ---- */

struct acceptor {
    takt_frame frame;
    int batch, err;
    struct asker callee;
    int64_t n;
    takt_op op;
};

static TAKT_CORO(acceptor)
{
    TAKT_BEGIN(acceptor, my);
    TAKT_TRY_CALL(my->err, my->callee, asker);
    EXPECT_EQ(my->err, TAKT_ECANCELED);
    if (my->batch) {
        my->op = takt_accept(1, NULL);
        TAKT_AWAIT_ALL(&my->op, 1);
        my->n = my->op.result;
    } else {
        TAKT_TRY_AWAIT(my->n, takt_accept(1, NULL));
    }
    TAKT_END;
}

static void an_accept_after_a_cancelled_call_is_told_of_a_stop(void)
{
    static struct acceptor one;
    for (int batch = 0; batch < 2; batch++) {
        setup(2);
        EXPECT(TAKT_START_ON(&loop, one, acceptor, .batch = batch));
        settle();
        takt_cancel(&one.callee.frame);
        settle();
        net_stop(&loop, TAKT_FOREVER);
        EXPECT_EQ(net_run(&loop), 0);
        EXPECT_EQ(one.n, TAKT_ESTOPPING);
        finish();
    }
}

/* -- limits ------------------------------------------------------------------------------------ */

struct limits {
    takt_frame frame;
    int64_t n[5];
    takt_op ops[2];
};

static TAKT_CORO(limits)
{
    TAKT_BEGIN(limits, my);
    TAKT_TRY_AWAIT(my->n[0], takt_within(10 * TAKT_MS, takt_recv(1, NULL, 0)));
    TAKT_TRY_AWAIT(my->n[1], takt_sleep(5 * TAKT_MS)); /* the next has no limit */
    TAKT_TRY_AWAIT(my->n[2], takt_within(5 * TAKT_MS, takt_sleep(TAKT_SEC)));
    TAKT_TRY_AWAIT(my->n[3], takt_within(TAKT_SEC, takt_sleep(5 * TAKT_MS)));
    my->ops[0] = takt_within(10 * TAKT_MS, takt_recv(1, NULL, 0));
    my->ops[1] = takt_recv(1, NULL, 0);
    TAKT_AWAIT_ALL(my->ops, 2);
    note("!");
    TAKT_END;
}

static void a_limit_ends_its_own_op_and_no_other(void)
{
    static struct limits one;
    setup(3);
    EXPECT(TAKT_START_ON(&loop, one, limits));
    for (int i = 0; i < 100; i++) {
        kernel->now += TAKT_MS;
        settle();
    }
    EXPECT_EQ(one.n[0], -ETIMEDOUT);
    EXPECT_EQ(one.n[1], 0);
    EXPECT_EQ(one.n[2], -ETIMEDOUT);
    EXPECT_EQ(one.n[3], 0);
    EXPECT_EQ(one.ops[0].result, -ETIMEDOUT);
    EXPECT_EQ(kernel->in_flight, 1);
    EXPECT_TRACE("");
    answer_all(7);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(one.ops[1].result, 7);
    EXPECT_TRACE("!");
    finish();
}

/* -- who is touched, and who is not ---- */

struct siblings {
    takt_frame frame;
    int mode, winner, err, fd;
    takt_event first, second;
    struct keeper a, b, other;
    struct failer bad, worse;
    takt_group group;
};

static TAKT_CORO(siblings)
{
    TAKT_BEGIN(siblings, my);
    if (my->mode == 0) {
        TAKT_START(my->other, keeper);
        TAKT_START(my->a, keeper);
        TAKT_START(my->b, keeper);
        TAKT_RACE(my->winner, my->a, my->b);
        note("R");
        TAKT_JOIN(my->other);
    } else if (my->mode == 1) { /* two fail before it can be told */
        TAKT_START(my->bad, failer, .when = &my->first, .error = -EDOM);
        TAKT_START(my->worse, failer, .when = &my->second, .error = -EIO);
        TAKT_AWAIT(my->fd, takt_accept(1, NULL));
        TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
        note("D");
        TAKT_AWAIT(takt_nop());
    } else {
        EXPECT(TAKT_GO(my->group, failer, .when = &my->first, .error = -EDOM));
        EXPECT(TAKT_GO(my->group, failer, .when = &my->second, .error = -EIO));
        TAKT_JOIN_GROUP(my->group);
    }
    note("!");
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void start_siblings(struct siblings *one, int mode)
{
    net_config config = net_defaults();
    TAKT_POOL(config, failer, 2);
    setup_with(&config, 4);
    test_trace[0] = '\0';
    EXPECT(TAKT_START_ON(&loop, *one, siblings, .mode = mode));
    settle();
}

static void losers_are_cancelled_and_others_are_not(void)
{
    static struct siblings one;
    start_siblings(&one, 0);
    EXPECT_EQ(kernel->in_flight, 3);
    fake_answer(kernel, kernel->held->next, 0); /* a's */
    settle();
    EXPECT_EQ(one.winner, 0);
    EXPECT_EQ(takt_error(&one.b.frame), TAKT_ECANCELED);
    EXPECT(takt_alive(&one.other.frame));
    EXPECT_EQ(kernel->in_flight, 1);
    EXPECT_TRACE("R");
    answer_all(0);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("R!");
    finish();
}

static void the_first_failure_stands(void)
{
    static struct siblings one;
    start_siblings(&one, 1);
    kernel->deaf = true;
    takt_event_set(&one.first);
    takt_event_set(&one.second);
    settle();
    answer_all(0); /* what it awaited completes all the same */
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(one.err, -EDOM);
    EXPECT_TRACE("D");
    finish();
    start_siblings(&one, 2); /* a group collects */
    takt_event_set(&one.second);
    settle();
    takt_event_set(&one.first);
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(one.err, 0);
    EXPECT_EQ(one.group.first_error, -EIO);
    EXPECT_EQ(one.group.failed, 2);
    EXPECT_TRACE("!");
    finish();
}

/* -- what a defer does is done: an order to stop does not reach it, a drain does ---- */

struct reader {
    takt_frame frame;
};

static TAKT_CORO(reader)
{
    TAKT_BEGIN(reader, my);
    TAKT_AWAIT(takt_recv(1, NULL, 0));
    TAKT_END;
}

struct careful {
    takt_frame frame;
    int err;
    int64_t n;
    struct reader callee;
};

static TAKT_CORO(careful)
{
    TAKT_BEGIN(careful, my);
    TAKT_DEFER { note("."); }
    TAKT_DEFER {
        TAKT_TRY_AWAIT(my->n, takt_recv(1, NULL, 0));
        note(my->n >= 0 ? "1" : "x");
        TAKT_TRY_CALL(my->err, my->callee, reader);
        note(my->err == 0 ? "2" : "x");
        TAKT_CALL_WITHIN(3600 * TAKT_SEC, my->callee, reader);
        note("3");
        TAKT_START(my->callee, reader);
        TAKT_JOIN(my->callee);
        note("4");
    }
    TAKT_AWAIT(takt_sleep(TAKT_SEC));
    TAKT_END;
}

static void a_defer_is_shielded_from_all_but_a_drain(void)
{
    static const char *const drained[] = {"xx.", "1x.", "12.", "123."};
    static struct careful one;
    for (int at = 0; at <= 4; at++) { /* drained in its first await, its second ... or not */
        setup(3);
        test_trace[0] = '\0';
        memset((void *)&one, 0, sizeof one);
        EXPECT(TAKT_START_ON(&loop, one, careful));
        settle();
        takt_cancel(&one.frame);
        settle();
        for (int i = 0; i < at; i++) {
            net_stop(&loop, 0); /* again, at every point */
            takt_cancel(&one.frame);
            EXPECT_EQ(kernel->in_flight, 1);
            answer_all(0);
            settle();
        }
        if (at < 4)
            EXPECT_EQ(net_drain(&loop), 1);
        EXPECT_TRACE(at < 4 ? drained[at] : "1234.");
        EXPECT(takt_finished(&one.frame));
        EXPECT_EQ(takt_error(&one.frame), TAKT_ECANCELED);
        finish();
    }
}

/* -- a child touches the idle limit of a parent that is leaving ---- */

struct toucher {
    takt_frame frame;
    takt_idle *idle;
    int fd;
};

static TAKT_CORO(toucher)
{
    TAKT_BEGIN(toucher, my);
    TAKT_AWAIT(takt_recv(1, NULL, 0));
    takt_idle_touch(my->idle);
    note("t");
    TAKT_END;
}

struct watched {
    takt_frame frame;
    takt_idle idle;
    struct toucher child;
};

static TAKT_CORO(watched)
{
    TAKT_BEGIN(watched, my);
    takt_idle_start(&my->frame, &my->idle, TAKT_SEC);
    TAKT_START(my->child, toucher, .idle = &my->idle);
    TAKT_AWAIT(takt_nop());
    note("!");
    TAKT_END;
}

static void a_child_touches_the_limit_of_a_parent_that_leaves(void)
{
    static struct watched one;
    setup(2);
    EXPECT(TAKT_START_ON(&loop, one, watched));
    kernel->deaf = true;
    settle();
    EXPECT(takt_alive(&one.frame));
    answer_all(0); /* what the child wanted has been done: it goes on to its next await */
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_TRACE("!t");
    finish();
}

/* -- the list --------------------------------------------------------------------- */

/* -- a body that is too long ------------------------------------------------------------------ */

struct lengthy {
    takt_frame frame;
    int err;
};

/* Compilers may be told that lines are others: the last ones of this file are. */
static TAKT_CORO(lengthy)
{
    TAKT_BEGIN(lengthy, my);
    TAKT_DEFER { note("1"); }
    note("b");
#line 40000
    TAKT_DEFER { note("never"); }
    note("never");
    TAKT_CATCH { my->err = my->frame.error; }
    TAKT_END;
}

static void a_defer_too_far_below_is_refused(void)
{
    static struct lengthy one;
    setup(1);
    EXPECT(TAKT_START_ON(&loop, one, lengthy));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(one.err, TAKT_EDEFERS);
    EXPECT_TRACE("b1");
    finish();
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(as_many_defers_as_there_is_room_for),
        TEST(a_defer_too_far_below_is_refused),
        TEST(however_a_defer_is_left_the_next_one_runs),
        TEST(a_refused_op_is_thrown_into_that_coroutine_only),
        TEST(a_frame_may_stand_on_the_stack_of_who_runs_the_loop),
        TEST(a_failed_try_does_not_end_a_defer),
        TEST(a_defer_in_a_defer_runs_next_and_once),
        TEST(a_broken_loop_reaches_those_that_have_yielded),
        TEST(a_child_that_is_named_twice_is_awaited_once),
        TEST(between_turns_the_clock_is_read_anew),
        TEST(a_cancelled_call_is_its_callers_to_handle),
        TEST(a_call_that_completes_all_the_same_leaves_no_order_behind),
        TEST(every_word_told_to_stop_in_every_phase_in_every_way),
        TEST(batches_that_hold_all_strands_still_get_on),
        TEST(starved_batches_can_be_cancelled),
        TEST(a_crowd_of_starved_batches_does_not_pile_up_on_the_stack),
        TEST(anybody_may_wait_for_a_group),
        TEST(a_group_that_others_used_first_still_ends_with_its_frame),
        TEST(a_group_forgets_the_frame_that_has_ended),
        TEST(arguments_of_a_spawn_may_spawn),
        TEST(a_stop_while_a_spawn_is_pending_takes_it_along),
        TEST(a_batch_on_the_stack_is_refused),
        TEST(a_failure_is_told_with_its_line_also_when_children_are_waited_for),
        TEST(a_million_of_each_on_constant_stack),
        TEST(recursion_through_frames_of_ones_own),
        TEST(races_and_joins_of_those_that_have_ended),
        TEST(a_child_that_fails_while_its_parent_leaves),
        TEST(a_stop_waits_as_long_as_it_was_told_last),
        TEST(an_accept_after_a_cancelled_call_is_told_of_a_stop),
        TEST(a_limit_ends_its_own_op_and_no_other),
        TEST(losers_are_cancelled_and_others_are_not),
        TEST(the_first_failure_stands),
        TEST(a_defer_is_shielded_from_all_but_a_drain),
        TEST(a_child_touches_the_limit_of_a_parent_that_leaves),
    };
    return RUN_TESTS(argc, argv, tests);
}
