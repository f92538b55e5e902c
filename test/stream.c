/*
 * stream.c - one request, many completions: streams in coroutines, and the runner without
 * them, against a backend that does what the test says.
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"
#include "test.h"

/* -- the backend: remembers what was asked, completes what it is told -------------- */

typedef struct fake_config {
    int unused;
} fake_config;

typedef struct fake {
    takt_completion ready[64];
    int ready_count;
    takt_op *op; /* submitted last */
    takt_token offered;
    takt_token mine; /* if not 0: the next token is this */
    int submits, cancels, polls;
    int submit_error, poll_error;
    int closed[64];
    int closed_count;
    takt_ns now;
} fake;

static fake *backend_now; /* the tests' */

static int fake_init(fake *b, const fake_config *config, const takt_slots *slots)
{
    (void)config;
    (void)slots;
    memset((void *)b, 0, sizeof *b);
    b->now = TAKT_SEC;
    backend_now = b;
    return 0;
}
static void fake_free(fake *b)
{
    (void)b;
}
static takt_ns fake_now(fake *b)
{
    return b->now;
}
static void push(takt_token token, int64_t value, int error, uint32_t flags, void *payload)
{
    takt_completion *const c = &backend_now->ready[backend_now->ready_count++];
    c->token = token;
    c->value = value;
    c->error = error;
    c->flags = flags;
    c->payload = payload;
}
static int fake_submit(fake *b, takt_op *op, takt_token *token)
{
    if (b->submit_error)
        return b->submit_error;
    b->submits++;
    b->op = op;
    if (b->mine)
        *token = b->mine;
    b->offered = *token;
    if (op->kind == TAKT_OP_NOP)
        push(*token, 0, 0, 0, NULL);
    if (op->kind == TAKT_OP_CLOSE) {
        b->closed[b->closed_count++] = op->fd;
        push(*token, 0, 0, 0, NULL);
    }
    return 0;
}
static void fake_cancel(fake *b, takt_op *op)
{
    b->cancels++;
    b->op = op;
}
static int fake_poll(fake *b, takt_completion *done, int max, takt_ns wait)
{
    const int count = b->ready_count < max ? b->ready_count : max;
    b->polls++;
    if (b->poll_error)
        return b->poll_error;
    memcpy((void *)done, b->ready, (size_t)count * sizeof *done);
    memmove((void *)b->ready, b->ready + count,
            (size_t)(b->ready_count - count) * sizeof *done);
    b->ready_count -= count;
    if (count == 0 && wait > 0 && wait != TAKT_FOREVER)
        b->now += wait;
    return count;
}
static void fake_flush(fake *b)
{
    (void)b;
}
static bool fake_busy(fake *b)
{
    return b->ready_count > 0;
}
static int fake_fd(fake *b)
{
    (void)b;
    return -1;
}
static int64_t fake_call(fake *b, takt_op *op)
{
    if (op->kind == TAKT_OP_CLOSE)
        b->closed[b->closed_count++] = op->fd;
    return 0;
}

TAKT_LOOP(net, fake);
TAKT_STREAM(feed, fake, unsigned char);

static net loop;
static takt_bufs bufs;

/* -- a consumer ------------------------------------------------------------------------ */

struct taker {
    takt_frame frame;
    takt_op op; /* in */
    int leave_after; /* in: items */
    bool dawdle;     /* in: waits for the event before it takes */
    takt_event *go;
    takt_stream stream;
    takt_item item;
    int64_t got[64];
    int count;
    bool end;
};

static TAKT_CORO(taker)
{
    TAKT_BEGIN(taker, my);
    my->stream.limit = 4;
    TAKT_OPEN(my->stream, my->op);
    if (my->dawdle)
        TAKT_AWAIT(takt_event_wait(my->go));
    while (my->count < my->leave_after) {
        TAKT_NEXT(my->item, my->stream);
        if (my->item.end) {
            my->end = true;
            TAKT_RETURN;
        }
        my->got[my->count++] = my->item.value;
        if (my->item.data)
            takt_bufs_put(&bufs, &my->item.data);
    }
    TAKT_END;
}

/* Goes on after its stream has failed. */
struct patient {
    takt_frame frame;
    takt_op op; /* in */
    takt_stream stream;
    takt_item item;
    int64_t got;
    int err, rounds;
};

static TAKT_CORO(patient)
{
    TAKT_BEGIN(patient, my);
    TAKT_OPEN(my->stream, my->op);
    do {
        TAKT_TRY_NEXT(my->err, my->item, my->stream);
        my->got += my->item.value;
        my->rounds++;
    } while (my->err == 0 && !my->item.end);
    TAKT_AWAIT(takt_nop());
    TAKT_END;
}

static struct taker taker;
static takt_event go;
static takt_token route;

static void setup(takt_op op, int leave_after, bool dawdle)
{
    net_config config = net_defaults();
    config.loop.strands = 6;
    config.loop.items = 8;
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT_EQ(takt_bufs_init(&bufs, 8, 512), 0);
    memset((void *)&go, 0, sizeof go);
    memset((void *)&taker, 0, sizeof taker);
    EXPECT(TAKT_START_ON(&loop, taker, taker, .op = op, .leave_after = leave_after,
                         .dawdle = dawdle, .go = &go));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    route = backend_now->offered;
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

static void finish(void)
{
    EXPECT_EQ(bufs.in_use, 0);
    EXPECT_EQ(net_pending(&loop), 0);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(net_free(&loop), 0);
    takt_bufs_free(&bufs);
}

/* -- streams in coroutines ------------------------------------------------------------ */

/* ST-30: deviating: coroutines take from streams. */
static void items_come_in_order_and_the_end_is_told(void)
{
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, false);
    push(route, 1, 0, TAKT_MORE, NULL);
    push(route, 2, 0, TAKT_MORE, NULL);
    turn();
    EXPECT_EQ(taker.count, 2);
    push(route, 3, 0, TAKT_MORE, NULL);
    push(route, 0, 0, 0, NULL);
    turn();
    EXPECT_EQ(taker.count, 3);
    EXPECT_EQ(taker.got[0] * 100 + taker.got[1] * 10 + taker.got[2], 123);
    EXPECT(taker.end);
    EXPECT_EQ(backend_now->submits, 1);
    finish();
}

static void what_it_failed_with_is_thrown_after_the_items(void)
{
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
    push(route, 1, 0, TAKT_MORE, NULL);
    push(route, 0, -EIO, 0, NULL);
    turn();
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.count, 1);
    EXPECT(!taker.end);
    EXPECT_EQ(takt_error(&taker.frame), -EIO);
    finish();
}

static void a_consumer_that_does_not_take_stops_the_request(void)
{
    setup(takt_accept_multishot(7), 7, true);
    for (int i = 0; i < 4; i++)
        push(route, 20 + i, 0, TAKT_MORE | TAKT_FD, NULL);
    turn();
    EXPECT_EQ(taker.stream.count, 4);
    EXPECT_EQ(backend_now->cancels, 1);
    push(route, 24, 0, TAKT_MORE | TAKT_FD, NULL); /* it was under way */
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(taker.stream.count, 5);
    EXPECT_EQ(backend_now->submits, 1);
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.count, 5);
    EXPECT_EQ(backend_now->submits, 2); /* started anew */
    EXPECT(backend_now->offered != route);
    push(route, 66, 0, TAKT_MORE | TAKT_FD, NULL); /* of the old one: stale */
    route = backend_now->offered;
    push(route, 25, 0, TAKT_MORE | TAKT_FD, NULL);
    push(route, 26, 0, TAKT_MORE | TAKT_FD, NULL);
    turn();
    EXPECT_EQ(taker.count, 7);
    EXPECT_EQ(backend_now->closed_count, 1);
    EXPECT_EQ(backend_now->closed[0], 66);
    EXPECT(takt_alive(&taker.frame)); /* it is leaving: its request is still out */
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT(takt_finished(&taker.frame));
    EXPECT_EQ(takt_error(&taker.frame), 0);
    finish();
}

static void drained_while_it_pauses_it_goes_on(void)
{
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
    for (int i = 0; i < 4; i++)
        push(route, i, 0, TAKT_MORE, NULL);
    turn();
    EXPECT_EQ(backend_now->cancels, 1);
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.count, 4);
    EXPECT_EQ(backend_now->submits, 1); /* not before the old one is over */
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(backend_now->submits, 2);
    push(backend_now->offered, 0, 0, 0, NULL);
    turn();
    EXPECT(taker.end);
    finish();
}

/* Law 2: what nobody takes is given back: descriptors are closed, buffers return. */
static void a_dropped_stream_gives_everything_back(void)
{
    unsigned char *a, *b;
    setup(takt_accept_multishot(7), 1, true);
    for (int i = 0; i < 3; i++)
        push(route, 30 + i, 0, TAKT_MORE | TAKT_FD, NULL);
    turn();
    takt_cancel(&taker.frame);
    turn();
    EXPECT(takt_alive(&taker.frame));
    push(route, 33, 0, TAKT_MORE | TAKT_FD, NULL);
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT(takt_finished(&taker.frame));
    EXPECT_EQ(backend_now->closed_count, 4);
    EXPECT_EQ(loop.sched.stats.orphans, 4);
    finish();

    setup(takt_recv_multishot(7, &bufs), 1, true);
    a = takt_bufs_take(&bufs);
    b = takt_bufs_take(&bufs);
    push(route, 5, 0, TAKT_MORE, a);
    push(route, 5, 0, TAKT_MORE, b);
    turn();
    EXPECT_EQ(bufs.in_use, 2);
    EXPECT_EQ(net_drain(&loop), 1); /* the request cannot be reaped: it is kept */
    EXPECT_EQ(net_free(&loop), -EBUSY);
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    EXPECT_EQ(net_drain(&loop), 0);
    finish();
}

static void a_wait_for_an_item_can_be_cancelled(void)
{
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, false);
    takt_cancel(&taker.frame);
    turn();
    EXPECT_EQ(backend_now->cancels, 1);
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(takt_error(&taker.frame), TAKT_ECANCELED);
    finish();
}

static void stopping_ends_a_stream_of_connections(void)
{
    setup(takt_accept_multishot(7), 99, false);
    net_stop(&loop, TAKT_FOREVER);
    EXPECT_EQ(backend_now->cancels, 1);
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(takt_error(&taker.frame), TAKT_ESTOPPING);
    finish();
}

/* What a stream failed with is handed over by TAKT_TRY_NEXT; a cancellation is not. */
static void a_failure_can_be_handed_over(void)
{
    static struct patient patient;
    takt_token first;
    setup(takt_ready_multishot(7, TAKT_READABLE), 0, true);
    first = route;
    memset((void *)&patient, 0, sizeof patient);
    EXPECT(TAKT_START_ON(&loop, patient, patient, .op = takt_ready_multishot(8, TAKT_READABLE)));
    turn();
    route = backend_now->offered;
    push(route, 5, 0, TAKT_MORE, NULL);
    push(route, 0, -EIO, 0, NULL);
    turn();
    EXPECT_EQ(patient.rounds, 2);
    EXPECT_EQ(patient.got, 5);
    EXPECT_EQ(patient.err, -EIO);
    EXPECT(takt_alive(&patient.frame)); /* it went on, to the no-op */
    turn();
    EXPECT(takt_finished(&patient.frame));
    EXPECT_EQ(takt_error(&patient.frame), 0);

    memset((void *)&patient, 0, sizeof patient);
    EXPECT(TAKT_START_ON(&loop, patient, patient, .op = takt_ready_multishot(8, TAKT_READABLE)));
    turn();
    route = backend_now->offered;
    takt_cancel(&patient.frame);
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(patient.rounds, 0);
    EXPECT_EQ(takt_error(&patient.frame), TAKT_ECANCELED);
    takt_event_set(&go);
    turn();
    push(first, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    finish();
}

/* Law 6: the table of items is bounded; beyond it they are dropped, and counted. */
static void beyond_the_table_items_are_dropped_and_counted(void)
{
    setup(takt_accept_multishot(7), 8, true);
    for (int i = 0; i < 10; i++) /* the backend had them under way */
        push(route, 40 + i, 0, TAKT_MORE | TAKT_FD, NULL);
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(taker.stream.count, 8);
    EXPECT_EQ(backend_now->closed_count, 2);
    EXPECT_EQ(backend_now->closed[0], 48);
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.count, 8);
    push(backend_now->offered, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    finish();
}

static void a_refused_request_is_thrown_where_it_was_opened(void)
{
    static struct taker second;
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, false);
    memset((void *)&second, 0, sizeof second);
    backend_now->submit_error = -EBUSY;
    EXPECT(TAKT_START_ON(&loop, second, taker, .op = takt_ready_multishot(8, TAKT_READABLE),
                         .leave_after = 1));
    turn();
    EXPECT_EQ(takt_error(&second.frame), -EBUSY);
    backend_now->submit_error = 0;
    EXPECT(TAKT_START_ON(&loop, second, taker, .op = takt_nop(), .leave_after = 1));
    turn();
    EXPECT_EQ(takt_error(&second.frame), -EINVAL); /* not an op that completes many times */
    push(route, 0, 0, 0, NULL);
    turn();
    EXPECT(taker.end);
    finish();
}

/* It does not drift, and what nobody took is counted in one item. */
static void ticks_are_counted(void)
{
    setup(takt_every(10 * TAKT_MS), 3, true);
    backend_now->now += 35 * TAKT_MS;
    turn();
    EXPECT_EQ(taker.stream.count, 1);
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.got[0], 3);
    backend_now->now += 5 * TAKT_MS + TAKT_TICK;
    turn();
    EXPECT_EQ(taker.count, 2);
    EXPECT_EQ(taker.got[1], 1);
    backend_now->now += 10 * TAKT_MS;
    turn();
    EXPECT_EQ(taker.count, 3);
    EXPECT(takt_finished(&taker.frame));
    EXPECT_EQ(backend_now->submits, 0);
    finish();
}

/* Not taken, they add up in one item, for which there must be room. */
static void ticks_that_nobody_takes_add_up(void)
{
    static struct taker other;
    setup(takt_every(10 * TAKT_MS), 1, true);
    for (int i = 1; i <= 3; i++) {
        backend_now->now += 10 * TAKT_MS + TAKT_TICK;
        turn();
        EXPECT_EQ(taker.stream.count, 1);
    }
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.got[0], 3);
    finish();

    setup(takt_every(10 * TAKT_MS), 1, true);
    EXPECT(TAKT_START_ON(&loop, other, taker, .op = takt_ready_multishot(7, TAKT_READABLE),
                         .leave_after = 9, .dawdle = true, .go = &go));
    turn();
    for (int i = 0; i < 8; i++) /* the whole table */
        push(backend_now->offered, i, 0, TAKT_MORE, NULL);
    push(backend_now->offered, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(other.stream.count, 8);
    backend_now->now += 10 * TAKT_MS + TAKT_TICK;
    turn();
    EXPECT_EQ(taker.stream.count, 0);
    EXPECT_EQ(loop.sched.stats.orphans, 1);
    takt_event_set(&go);
    turn();
    EXPECT_EQ(other.count, 8);
    backend_now->now += 10 * TAKT_MS; /* it goes on */
    turn();
    EXPECT_EQ(taker.got[0], 1);
    push(backend_now->offered, 0, 0, 0, NULL);
    turn();
    EXPECT(other.end);
    finish();
}

/* -- orders to end it ---------------------------------------------------------------------- */

/* `count` items stand in line, or have come on the way. */
static void bring(int count)
{
    for (int i = 0; i < count; i++)
        push(route, i, 0, TAKT_MORE, NULL);
    turn();
}

/* The request has ended, as it was asked to. */
static void answer_the_cancel(void)
{
    push(route, 0, TAKT_ECANCELED, 0, NULL);
    turn();
}

enum { IN_FLIGHT, PAUSING, PAUSED, CANCEL_PHASES };

/* What is in line is taken first; and it does not begin anew. */
static void a_stream_can_be_cancelled_in_every_phase(void)
{
    static takt_stream never;
    takt_stream_cancel(&never); /* nothing */
    for (int phase = 0; phase < CANCEL_PHASES; phase++) {
        setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
        bring(phase == IN_FLIGHT ? 1 : 4);
        EXPECT_EQ(backend_now->cancels, phase != IN_FLIGHT);
        if (phase == PAUSED)
            answer_the_cancel();
        takt_stream_cancel(&taker.stream);
        takt_stream_cancel(&taker.stream); /* once is enough */
        EXPECT_EQ(backend_now->cancels, 1);
        if (phase != PAUSED) {
            bring(4); /* was under way: no reason to pause */
            EXPECT_EQ(backend_now->cancels, 1);
            answer_the_cancel();
        }
        takt_stream_cancel(&taker.stream); /* it is over: nothing */
        takt_event_set(&go);
        turn();
        EXPECT_EQ(backend_now->submits, 1);
        EXPECT_EQ(taker.count, phase == IN_FLIGHT ? 5 : phase == PAUSING ? 8 : 4);
        EXPECT_EQ(takt_error(&taker.frame), TAKT_ECANCELED);
        finish();
    }
    setup(takt_every(10 * TAKT_MS), 99, false);
    takt_stream_cancel(&taker.stream);
    turn();
    EXPECT_EQ(takt_error(&taker.frame), TAKT_ECANCELED);
    EXPECT_EQ(backend_now->cancels, 0);
    finish();
}

static void a_loop_that_stops_ends_connections_in_every_phase(void)
{
    for (int phase = 0; phase < CANCEL_PHASES; phase++) {
        setup(takt_accept_multishot(7), 99, true);
        bring(phase == IN_FLIGHT ? 0 : 4);
        if (phase == PAUSED)
            answer_the_cancel();
        net_stop(&loop, TAKT_FOREVER);
        EXPECT_EQ(backend_now->cancels, 1);
        if (phase != PAUSED)
            answer_the_cancel();
        EXPECT_EQ(taker.stream.strand, 0);
        takt_event_set(&go);
        turn();
        EXPECT_EQ(taker.count, phase == IN_FLIGHT ? 0 : 4);
        EXPECT_EQ(takt_error(&taker.frame), TAKT_ESTOPPING);
        EXPECT_EQ(backend_now->submits, 1);
        finish();
    }
}

/* The frame leaves while its stream pauses, or has been cancelled, or the loop stops. */
static void a_request_is_asked_to_end_once(void)
{
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        setup(takt_accept_multishot(7), 99, true);
        bring(4);
        EXPECT_EQ(backend_now->cancels, 1);
        if (cancelled)
            takt_stream_cancel(&taker.stream);
        takt_cancel(&taker.frame);
        turn();
        net_stop(&loop, TAKT_FOREVER);
        takt_stream_cancel(&taker.stream);
        EXPECT_EQ(backend_now->cancels, 1);
        EXPECT(takt_alive(&taker.frame));
        answer_the_cancel();
        EXPECT_EQ(takt_error(&taker.frame), TAKT_ECANCELED);
        finish();
    }
}

static void a_stopping_loop_opens_no_stream_of_connections(void)
{
    static struct taker other;
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
    EXPECT(TAKT_START_ON(&loop, other, taker, .op = takt_accept_multishot(8)));
    net_stop(&loop, TAKT_FOREVER);
    turn();
    EXPECT_EQ(takt_error(&other.frame), TAKT_ESTOPPING);
    EXPECT(takt_alive(&taker.frame));
    bring(4);
    answer_the_cancel();
    takt_event_set(&go);
    turn();
    EXPECT_EQ(backend_now->submits, 2); /* others may still begin anew */
    push(backend_now->offered, 0, 0, 0, NULL);
    turn();
    EXPECT(taker.end);
    finish();
}

/* Opens one on its way out. */
struct late {
    takt_frame frame;
    takt_stream stream;
    takt_item item;
    int count;
};

static TAKT_CORO(late)
{
    TAKT_BEGIN(late, my);
    TAKT_DEFER
    {
        TAKT_OPEN(my->stream, takt_ready_multishot(7, TAKT_READABLE));
        for (;;) {
            TAKT_NEXT(my->item, my->stream);
            if (my->item.end)
                break;
            my->count++;
        }
        my->count += 100;
    }
    TAKT_AWAIT(takt_event_wait(&go));
    TAKT_NEXT(my->item, my->stream);
    EXPECT(my->item.end); /* it was never opened */
    TAKT_END;
}

/* What is done in a defer is not interrupted; only in a drain nothing begins any more. */
static void a_defer_may_take_from_a_stream(void)
{
    static struct late it;
    enum { RETURNS, CANCELLED, DRAINED };
    for (int how = RETURNS; how <= DRAINED; how++) {
        setup(takt_every(TAKT_SEC), 1, false);
        EXPECT(TAKT_START_ON(&loop, it, late));
        turn();
        if (how == DRAINED) {
            EXPECT_EQ(net_drain(&loop), 2);
            EXPECT_EQ(backend_now->submits, 0);
        } else {
            if (how == CANCELLED)
                takt_cancel(&it.frame);
            else
                takt_event_set(&go);
            turn();
            push(backend_now->offered, 1, 0, TAKT_MORE, NULL);
            push(backend_now->offered, 0, 0, 0, NULL);
            turn();
            takt_cancel(&taker.frame);
            turn();
        }
        EXPECT_EQ(takt_error(&it.frame), how == RETURNS ? 0 : TAKT_ECANCELED);
        EXPECT_EQ(it.count, how == DRAINED ? 0 : 101);
        finish();
    }
}

static void an_order_to_stop_comes_before_an_item(void)
{
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
    bring(1);
    takt_event_set(&go); /* that is granted */
    takt_cancel(&taker.frame);
    turn();
    EXPECT_EQ(taker.count, 0);
    answer_the_cancel();
    EXPECT_EQ(takt_error(&taker.frame), TAKT_ECANCELED);
    finish();
}

/* -- ends --------------------------------------------------------------------------------- */

static void what_comes_with_the_end_is_an_item(void)
{
    unsigned char *data;
    setup(takt_accept_multishot(7), 99, false);
    push(route, 30, 0, TAKT_FD, NULL);
    turn();
    EXPECT_EQ(taker.count, 1);
    EXPECT_EQ(taker.got[0], 30);
    EXPECT(taker.end);
    finish();
    setup(takt_recv_multishot(7, &bufs), 99, false);
    data = takt_bufs_take(&bufs);
    push(route, 5, 0, 0, data);
    turn();
    EXPECT_EQ(taker.got[0], 5);
    EXPECT(taker.end);
    finish();
}

/* It was asked to pause, but has ended. */
static void an_end_that_comes_during_a_pause_is_the_end(void)
{
    for (int error = 0; error >= -EIO; error -= EIO) {
        setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
        bring(4);
        push(route, 0, error, 0, NULL);
        turn();
        takt_event_set(&go);
        turn();
        EXPECT_EQ(taker.count, 4);
        EXPECT_EQ(taker.end, error == 0);
        EXPECT_EQ(takt_error(&taker.frame), error);
        EXPECT_EQ(backend_now->submits, 1);
        finish();
    }
}

static void a_request_that_cannot_begin_anew_has_failed(void)
{
    setup(takt_ready_multishot(7, TAKT_READABLE), 99, true);
    bring(4);
    answer_the_cancel();
    backend_now->submit_error = -ENOBUFS;
    takt_event_set(&go);
    turn();
    EXPECT_EQ(taker.count, 4);
    EXPECT_EQ(takt_error(&taker.frame), -ENOBUFS);
    finish();
}

/* -- two of them ---------------------------------------------------------------------------- */

struct nap {
    takt_frame frame;
};

static TAKT_CORO(nap)
{
    TAKT_BEGIN(nap, my);
    TAKT_AWAIT(takt_event_wait(&go));
    TAKT_END;
}

struct twins {
    takt_frame frame;
    bool calls, again; /* in */
    takt_stream first, second;
    takt_item item;
    struct nap nap;
    int64_t sum;
};

static TAKT_CORO(twins)
{
    TAKT_BEGIN(twins, my);
    TAKT_OPEN(my->first, takt_ready_multishot(7, TAKT_READABLE));
    if (my->again)
        TAKT_OPEN(my->first, takt_ready_multishot(7, TAKT_READABLE));
    TAKT_OPEN(my->second, takt_ready_multishot(8, TAKT_READABLE));
    if (my->calls)
        TAKT_CALL(my->nap, nap);
    TAKT_NEXT(my->item, my->first);
    my->sum = my->item.value * 10;
    TAKT_NEXT(my->item, my->second);
    my->sum += my->item.value;
    EXPECT(!takt_stream_ended(&my->second));
    EXPECT(!takt_stream_take(&my->second, &my->item));
    EXPECT(!my->item.end);
    TAKT_END;
}

static void an_item_wakes_only_who_waits_for_that(void)
{
    static struct twins it;
    for (int calls = 0; calls < 2; calls++) {
        uint64_t resumed;
        takt_token tokens[2];
        setup(takt_every(TAKT_SEC), 1, false);
        EXPECT(TAKT_START_ON(&loop, it, twins, .calls = calls == 1));
        turn();
        tokens[1] = backend_now->offered;
        tokens[0] = takt_token_of(takt__stream_op(&loop.sched, &it.first));
        resumed = loop.sched.stats.resumed;
        push(tokens[1], 2, 0, TAKT_MORE, NULL);
        turn();
        if (calls) /* it is elsewhere altogether */
            push(tokens[0], 1, 0, TAKT_MORE, NULL);
        turn();
        EXPECT_EQ(loop.sched.stats.resumed, resumed);
        EXPECT_EQ(it.second.count, 1);
        EXPECT(!takt_stream_ended(&it.second));
        if (calls)
            takt_event_set(&go);
        else
            push(tokens[0], 1, 0, TAKT_MORE, NULL);
        turn();
        EXPECT_EQ(it.sum, 12);
        push(tokens[0], 0, TAKT_ECANCELED, 0, NULL);
        push(tokens[1], 0, TAKT_ECANCELED, 0, NULL);
        turn();
        EXPECT(takt_finished(&it.frame));
        takt_cancel(&taker.frame);
        turn();
        finish();
    }
}

static void an_open_stream_is_not_opened_again(void)
{
    static struct twins it;
    setup(takt_every(TAKT_SEC), 1, false);
    EXPECT(TAKT_START_ON(&loop, it, twins, .again = true));
    turn();
    push(backend_now->offered, 0, TAKT_ECANCELED, 0, NULL);
    turn();
    EXPECT_EQ(takt_error(&it.frame), TAKT_ERUNNING);
    takt_cancel(&taker.frame);
    turn();
    finish();
}

/* -- the runner without coroutines ------------------------------------------------------ */

/* Zero is no generation: a route of all zero is none. */
static void a_generation_is_never_zero(void)
{
    static feed runner;
    feed_config config = feed_defaults();
    takt_route first, second;
    config.routes = 1;
    EXPECT_EQ(feed_init(&runner, &config), 0);
    EXPECT_EQ(feed_subscribe(&runner, takt_ready_multishot(7, TAKT_READABLE), &first), 0);
    push(takt_token_make(first.generation, first.token), 0, 0, 0, NULL);
    {
        feed_event *events;
        EXPECT_EQ(feed_poll(&runner, &events, 0), 1);
    }
    takt__route_at(&runner.routes, 0)->slot.generation = UINT32_MAX; /* after a long time */
    EXPECT_EQ(feed_subscribe(&runner, takt_ready_multishot(7, TAKT_READABLE), &second), 0);
    EXPECT_EQ(second.generation, 1);
    EXPECT(!takt_route_is_zero(second));
    feed_free(&runner);
}

/* ST-2, ST-7, ST-8, ST-9, ST-10, ST-11, ST-12, ST-13, ST-14, ST-17, ST-19, ST-20, ST-22,
 * ST-23 */
static void the_runner_tells_events_apart_by_their_routes(void)
{
    static feed runner;
    feed_config config = feed_defaults();
    feed_event *events;
    takt_route a, b, none = {0, 0};
    takt_token of_a, of_b;
    EXPECT_EQ(feed_init(&runner, &config), 0);
    EXPECT_EQ(feed_subscribe(&runner, takt_ready_multishot(1, TAKT_READABLE), &a), 0);
    of_a = backend_now->offered;
    EXPECT_EQ(feed_subscribe(&runner, takt_ready_multishot(2, TAKT_READABLE), &b), 0);
    of_b = backend_now->offered;
    EXPECT_EQ(feed_pending(&runner), 2);
    EXPECT_EQ(feed_poll(&runner, &events, 0), 0);
    EXPECT(events == NULL);
    push(of_a, 1, 0, TAKT_MORE, NULL);
    push(of_b, 2, -EIO, TAKT_MORE, NULL);
    push(of_a, 3, 0, TAKT_MORE | TAKT_NO_VALUE, NULL);
    push(of_a, 4, 0, 0, NULL);
    push(of_a, 5, 0, TAKT_MORE, NULL); /* stale */
    push(0, 6, 0, TAKT_MORE, NULL);    /* nobody's */
    EXPECT_EQ(feed_poll(&runner, &events, 0), 4);
    EXPECT(events[0].has_value && events[0].value == 1 && !events[0].last);
    EXPECT(memcmp(&events[0].route, &a, sizeof a) == 0);
    EXPECT_EQ(events[1].error, -EIO);
    EXPECT(memcmp(&events[1].route, &b, sizeof b) == 0 && !events[1].last);
    EXPECT(!events[2].has_value && events[2].value == 3);
    EXPECT(events[3].last && events[3].value == 4);
    EXPECT_EQ(feed_pending(&runner), 1);
    EXPECT_EQ(feed_cancel(&runner, a), TAKT_EUNKNOWN);
    EXPECT_EQ(feed_cancel(&runner, none), TAKT_EUNKNOWN);
    EXPECT_EQ(feed_cancel(&runner, b), 0);
    EXPECT_EQ(feed_cancel(&runner, b), 0);
    EXPECT_EQ(backend_now->cancels, 1);
    EXPECT_EQ(feed_subscribe(&runner, takt_ready_multishot(1, TAKT_READABLE), &a), 0);
    EXPECT_EQ(feed_drain(&runner), 2);
    EXPECT_EQ(backend_now->cancels, 2);
    EXPECT_EQ(feed_drain(&runner), 0);
    EXPECT_EQ(feed_failed(&runner), TAKT_EDISPOSED);
    EXPECT_EQ(feed_poll(&runner, &events, 0), TAKT_EDISPOSED);
    feed_free(&runner);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(items_come_in_order_and_the_end_is_told),
        TEST(what_it_failed_with_is_thrown_after_the_items),
        TEST(a_consumer_that_does_not_take_stops_the_request),
        TEST(drained_while_it_pauses_it_goes_on),
        TEST(a_dropped_stream_gives_everything_back),
        TEST(a_wait_for_an_item_can_be_cancelled),
        TEST(stopping_ends_a_stream_of_connections),
        TEST(a_failure_can_be_handed_over),
        TEST(beyond_the_table_items_are_dropped_and_counted),
        TEST(a_refused_request_is_thrown_where_it_was_opened),
        TEST(ticks_are_counted),
        TEST(ticks_that_nobody_takes_add_up),
        TEST(a_stream_can_be_cancelled_in_every_phase),
        TEST(a_loop_that_stops_ends_connections_in_every_phase),
        TEST(a_request_is_asked_to_end_once),
        TEST(a_stopping_loop_opens_no_stream_of_connections),
        TEST(a_defer_may_take_from_a_stream),
        TEST(an_order_to_stop_comes_before_an_item),
        TEST(what_comes_with_the_end_is_an_item),
        TEST(an_end_that_comes_during_a_pause_is_the_end),
        TEST(a_request_that_cannot_begin_anew_has_failed),
        TEST(an_item_wakes_only_who_waits_for_that),
        TEST(an_open_stream_is_not_opened_again),
        TEST(a_generation_is_never_zero),
        TEST(the_runner_tells_events_apart_by_their_routes),
    };
    return RUN_TESTS(argc, argv, tests);
}
