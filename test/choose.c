/*
 * choose.c - waiting for several things: any of a batch, deadlines, races
 *
 * The backend here does what the test says: an op on a descriptor completes when the test
 * completes it, and its cancellation takes as long as the test likes. Its time jumps to
 * the next deadline.
 */
void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* -- script: a backend ------------------------------------------------------ */

enum { REFUSED = 14, AT_ONCE = 15, DESCRIPTORS = 16 };

typedef struct script_config {
    int none;
} script_config;

typedef struct script {
    takt_ns now;
    takt_op *at[DESCRIPTORS];
    bool slow[DESCRIPTORS];  /* in: a cancellation is only noted */
    bool asked[DESCRIPTORS]; /* it was */
    takt_op *done, *done_last;
    int submits; /* on descriptors */
    int cancels;
} script;

static char logged[256]; /* the last line */

void remember(const char *text)
{
    snprintf(logged, sizeof logged, "%s", text);
}

static int script_init(script *s, const script_config *config, const takt_slots *slots)
{
    (void)config;
    (void)slots;
    memset(s, 0, sizeof *s);
    return 0;
}

static void script_free(script *s)
{
    (void)s;
}

static takt_ns script_now(script *s)
{
    return s->now;
}

static void script_done(script *s, takt_op *op, int64_t result)
{
    op->result = result;
    op->next = NULL;
    if (s->done)
        s->done_last->next = op;
    else
        s->done = op;
    s->done_last = op;
}

static int script_submit(script *s, takt_op *op, takt_token *token)
{
    (void)token;
    s->submits += op->fd >= 0;
    if (op->fd == REFUSED)
        return -EIO;
    if (op->fd == AT_ONCE || op->fd < 0) {
        script_done(s, op, 0);
        return 0;
    }
    EXPECT(s->at[op->fd] == NULL);
    s->at[op->fd] = op;
    s->asked[op->fd] = false;
    return 0;
}

static void script_cancel(script *s, takt_op *op)
{
    s->cancels++;
    if (op->fd < 0) /* it is complete */
        return;
    s->asked[op->fd] = true;
    if (!s->slow[op->fd] && s->at[op->fd]) {
        s->at[op->fd] = NULL;
        script_done(s, op, -ECANCELED);
    }
}

static int script_poll(script *s, takt_completion *out, int max, takt_ns wait)
{
    int count = 0;
    for (; s->done && count < max; count++) {
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_of(s->done);
        out[count].value = s->done->result;
        out[count].error = s->done->result < 0 ? (int32_t)s->done->result : 0;
        s->done = s->done->next;
    }
    if (count == 0 && wait == TAKT_FOREVER)
        return -EDEADLK; /* nothing will ever happen again */
    if (count == 0)
        s->now += wait;
    return count ? count : TAKT_EWOULDBLOCK;
}

static void script_flush(script *s)
{
    (void)s;
}

static bool script_busy(script *s)
{
    return s->done != NULL;
}

static int script_fd(script *s)
{
    (void)s;
    return -1;
}

static int64_t script_call(script *s, takt_op *op)
{
    (void)s;
    (void)op;
    return 0;
}

TAKT_LOOP(world, script);
static world loop;
static takt_event event;
static takt_semaphore semaphore;
static takt_channel channel;
static int ring[2];

static void setup_with(uint32_t strands)
{
    world_config config = world_defaults();
    config.loop.strands = strands;
    logged[0] = '\0';
    memset(&event, 0, sizeof event);
    memset(&semaphore, 0, sizeof semaphore);
    EXPECT_EQ(takt_channel_init(&channel, ring, sizeof ring[0], 2), 0);
    EXPECT_EQ(world_init(&loop, &config), 0);
}

static void setup(void)
{
    setup_with(16);
}

static void turn(void)
{
    EXPECT(world_turn(&loop, 0, 0) >= 0);
}

/* The op that is in flight on `fd` ends. */
static void complete(int fd, int64_t result)
{
    takt_op *const op = loop.backend.at[fd];
    EXPECT(op != NULL);
    if (!op)
        return;
    loop.backend.at[fd] = NULL;
    script_done(&loop.backend, op, result);
    turn();
}

static void finish(void)
{
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(loop.sched.stats.stale, 0);
    EXPECT_EQ(loop.sched.starved_first, 0);
    EXPECT(event.line.first == NULL && event.line.last == NULL);
    EXPECT(semaphore.line.first == NULL && semaphore.line.last == NULL);
    EXPECT(channel.getters.first == NULL && channel.getters.last == NULL);
    EXPECT(channel.putters.first == NULL && channel.putters.last == NULL);
    EXPECT_EQ(world_free(&loop), 0);
}

/* -- any of what the test has put into it ------------------------------------- */

struct chooser {
    takt_frame frame;
    takt_op ops[6];
    size_t count;
    bool all;
    int winner;
    int item;
    takt_ns took;
    bool went_on;
};

static struct chooser c;

static TAKT_CORO(chooser)
{
    TAKT_BEGIN(chooser, my);
    TAKT_DEFER { note("."); }
    my->winner = 99;
    my->took = takt_now(&my->frame);
    if (my->all)
        TAKT_AWAIT_ALL(my->ops, my->count);
    else
        TAKT_AWAIT_ANY(my->winner, my->ops, my->count);
    my->took = takt_now(&my->frame) - my->took;
    my->went_on = true;
    note("w");
    TAKT_AWAIT(takt_nop());
    note("!");
    TAKT_END;
}

static takt_op ops[6]; /* for the next chooser */

static void begin(size_t count)
{
    for (size_t i = 0; i < count; i++)
        ops[i].result = 12345; /* whatever stood there before */
    EXPECT(TAKT_START_ON(&loop, c, chooser, .count = count));
    memcpy(c.ops, ops, sizeof ops);
}

static takt_op recv_on(int fd)
{
    return takt_recv(fd, &c.item, sizeof c.item);
}

static void the_first_to_complete_wins_and_the_losers_are_reaped_first(void)
{
    setup();
    loop.backend.slow[1] = true;
    ops[0] = recv_on(1);
    ops[1] = recv_on(2);
    ops[2] = takt_sleep(600 * TAKT_SEC);
    begin(3);
    turn();
    EXPECT_EQ(loop.backend.submits, 2);
    complete(2, 4);
    EXPECT(loop.backend.asked[1]);
    EXPECT_EQ(loop.sched.wheel.count, 0); /* the sleep is over already */
    turn();
    EXPECT(!c.went_on); /* the kernel still holds an op of its own */
    complete(1, -ECANCELED);
    EXPECT(c.went_on);
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[0].result, TAKT_ECANCELED);
    EXPECT_EQ(c.ops[1].result, 4);
    EXPECT_EQ(c.ops[2].result, TAKT_ECANCELED);
    finish();
    EXPECT_EQ(loop.backend.cancels, 1);
    EXPECT_TRACE("w!.");
}

/* An accepted descriptor is not lost because something else came first. */
static void a_loser_that_completed_all_the_same_keeps_its_result(void)
{
    setup();
    loop.backend.slow[1] = true;
    ops[0] = takt_accept(1, NULL);
    ops[1] = takt_event_wait(&event);
    begin(2);
    turn();
    takt_event_set(&event);
    turn();
    EXPECT(!c.went_on);
    complete(1, 77);
    EXPECT(c.went_on);
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[0].result, 77);
    EXPECT_EQ(c.ops[1].result, 0);
    finish();
    EXPECT_TRACE("w!.");
    /* both in one poll */
    setup();
    ops[0] = recv_on(1);
    ops[1] = recv_on(2);
    begin(2);
    turn();
    script_done(&loop.backend, loop.backend.at[2], 5);
    script_done(&loop.backend, loop.backend.at[1], 6);
    loop.backend.at[1] = loop.backend.at[2] = NULL;
    finish();
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[0].result, 6);
    EXPECT_EQ(c.ops[1].result, 5);
    EXPECT_EQ(loop.backend.cancels, 1); /* asked too late */
}

static void a_failure_is_an_answer_too_and_is_not_thrown(void)
{
    setup();
    ops[0] = recv_on(1);
    ops[1] = recv_on(2);
    begin(2);
    turn();
    complete(1, -ECONNRESET);
    finish();
    EXPECT_EQ(c.winner, 0);
    EXPECT_EQ(c.ops[0].result, -ECONNRESET);
    EXPECT_EQ(c.ops[1].result, TAKT_ECANCELED);
    EXPECT_TRACE("w!.");
    setup(); /* refused by the backend: what stands behind is not even begun */
    ops[0] = recv_on(1);
    ops[1] = recv_on(REFUSED);
    ops[2] = recv_on(2);
    begin(3);
    turn();
    EXPECT(loop.backend.at[2] == NULL);
    finish();
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[0].result, TAKT_ECANCELED);
    EXPECT_EQ(c.ops[1].result, -EIO);
    EXPECT_EQ(c.ops[2].result, TAKT_ECANCELED);
}

static void of_those_that_need_not_wait_the_foremost_wins(void)
{
    setup();
    semaphore.permits = 1;
    event.set = true;
    ops[0] = recv_on(1);
    ops[1] = takt_event_wait(&event);
    ops[2] = takt_acquire(&semaphore);
    ops[3] = recv_on(2);
    begin(4);
    turn();
    EXPECT_EQ(loop.backend.submits, 1);
    EXPECT_EQ(semaphore.permits, 1); /* not touched */
    finish();
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[0].result, TAKT_ECANCELED);
    EXPECT_EQ(c.ops[1].result, 0);
    EXPECT_EQ(c.ops[2].result, TAKT_ECANCELED);
    EXPECT_EQ(c.ops[3].result, TAKT_ECANCELED);
}

static void any_of_nothing_goes_on_with_no_winner(void)
{
    setup();
    begin(0);
    finish();
    EXPECT(c.went_on);
    EXPECT_EQ(c.winner, -1);
    EXPECT_TRACE("w!.");
    setup(); /* of one: an await that does not throw */
    ops[0] = recv_on(1);
    begin(1);
    turn();
    complete(1, -EPIPE);
    finish();
    EXPECT_EQ(c.winner, 0);
    EXPECT_EQ(c.ops[0].result, -EPIPE);
}

/* Every kind of op can win, and every kind can lose without a trace. */
static void every_kind_of_op_can_win_and_lose(void)
{
    const int item = 9;
    int got = 0;
    for (int which = 0; which < 6; which++) {
        setup();
        EXPECT_EQ(takt_channel_init(&channel, ring, sizeof ring[0], which == 3 ? 2 : 0), 0);
        if (which == 3) { /* full: the put has to wait */
            EXPECT_EQ(takt_try_put(&channel, &item), 0);
            EXPECT_EQ(takt_try_put(&channel, &item), 0);
        }
        ops[0] = takt_ready(1, TAKT_READABLE);
        ops[1] = takt_event_wait(&event);
        ops[2] = takt_acquire(&semaphore);
        ops[3] = which == 3 ? takt_put(&channel, &c.item) : takt_get(&channel, &c.item);
        ops[4] = takt_sleep(which == 4 ? TAKT_SEC : 600 * TAKT_SEC);
        ops[5] = takt_within(which == 5 ? TAKT_SEC : 600 * TAKT_SEC, recv_on(2));
        begin(6);
        turn();
        EXPECT_EQ(loop.sched.strands_used, 7);
        if (which == 0)
            complete(1, TAKT_READABLE);
        else if (which == 1)
            takt_event_set(&event);
        else if (which == 2)
            takt_release(&semaphore, 1);
        else if (which == 3)
            EXPECT_EQ(takt_try_get(&channel, &got), 1);
        else
            while (!c.went_on)
                EXPECT(world_turn(&loop, TAKT_SEC, 0) >= 0);
        finish();
        EXPECT_EQ(c.winner, which);
        EXPECT_EQ(semaphore.permits, 0);
        for (int i = 0; i < 6; i++)
            EXPECT_EQ(c.ops[i].result, i != which  ? TAKT_ECANCELED
                                       : which == 0 ? TAKT_READABLE
                                       : which == 5 ? -ETIMEDOUT : 0);
        if (which >= 4)
            EXPECT(c.took >= TAKT_SEC && c.took <= TAKT_SEC + 2 * TAKT_TICK);
    }
    setup();
    ops[0] = takt_get(&channel, &c.item);
    ops[1] = recv_on(1);
    begin(2);
    turn();
    EXPECT_EQ(takt_try_put(&channel, &item), 0);
    finish();
    EXPECT_EQ(c.winner, 0);
    EXPECT_EQ(c.ops[0].result, 1);
    EXPECT_EQ(c.item, 9);
}

/* A batch whose own put serves its own get: both have completed, and nothing is lost. */
static void a_batch_may_serve_itself(void)
{
    for (int all = 0; all < 2; all++) {
        static int from;
        setup();
        from = 31;
        EXPECT_EQ(takt_channel_init(&channel, NULL, sizeof(int), 0), 0);
        ops[0] = takt_get(&channel, &c.item);
        ops[1] = takt_put(&channel, &from);
        begin(2);
        c.all = all;
        finish();
        EXPECT_EQ(c.winner, all ? 99 : 0);
        EXPECT_EQ(c.ops[0].result, 1);
        EXPECT_EQ(c.ops[1].result, 0);
        EXPECT_EQ(c.item, 31);
    }
}

/* -- orders to stop, in every phase -------------------------------------------- */

static void a_cancelled_choice_ends_with_the_last_of_its_ops(void)
{
    for (int all = 0; all < 2; all++) {
        setup();
        loop.backend.slow[1] = true;
        ops[0] = recv_on(1);
        ops[1] = takt_event_wait(&event);
        ops[2] = recv_on(2);
        begin(3);
        c.all = all;
        turn();
        takt_cancel(&c.frame);
        turn();
        EXPECT(takt_alive(&c.frame));
        complete(1, -ECANCELED);
        EXPECT(!takt_alive(&c.frame) && !c.went_on);
        EXPECT_EQ(takt_error(&c.frame), TAKT_ECANCELED);
        EXPECT_EQ(c.winner, all ? 99 : -1);
        for (int i = 0; i < 3; i++)
            EXPECT_EQ(c.ops[i].result, TAKT_ECANCELED);
        finish();
    }
    EXPECT_TRACE("..");
}

/* An await completes or is cancelled, never both: the order takes the next await. */
static void a_choice_that_completes_in_spite_of_the_order_is_delivered(void)
{
    setup();
    loop.backend.slow[1] = loop.backend.slow[2] = true;
    ops[0] = takt_accept(1, NULL);
    ops[1] = recv_on(2);
    begin(2);
    turn();
    takt_cancel(&c.frame);
    complete(2, -ECANCELED);
    complete(1, 77);
    EXPECT(c.went_on);
    EXPECT_EQ(c.winner, 0);
    EXPECT_EQ(c.ops[0].result, 77);
    EXPECT_EQ(c.ops[1].result, TAKT_ECANCELED);
    finish();
    EXPECT_EQ(takt_error(&c.frame), TAKT_ECANCELED);
    EXPECT_TRACE("w.");
}

static void an_order_that_comes_while_losers_are_reaped_takes_the_next_await(void)
{
    setup();
    loop.backend.slow[1] = true;
    ops[0] = recv_on(1);
    ops[1] = takt_accept(2, NULL);
    begin(2);
    turn();
    complete(2, 77);
    takt_cancel(&c.frame);
    turn();
    EXPECT(!c.went_on);
    complete(1, -ECANCELED);
    EXPECT(c.went_on);
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[1].result, 77);
    EXPECT_EQ(loop.backend.cancels, 1);
    finish();
    EXPECT_TRACE("w.");
}

static void a_batch_that_lost_nothing_to_the_order_is_delivered(void)
{
    setup();
    loop.backend.slow[1] = loop.backend.slow[2] = true;
    ops[0] = recv_on(1);
    ops[1] = recv_on(2);
    begin(2);
    c.all = true;
    turn();
    takt_cancel(&c.frame);
    complete(2, 1);
    complete(1, -EPIPE);
    EXPECT(c.went_on);
    EXPECT_EQ(c.ops[0].result, -EPIPE);
    EXPECT_EQ(c.ops[1].result, 1);
    finish();
    EXPECT_TRACE("w.");
}

/* Told before it begins: nothing is begun, but a close acts. */
struct late {
    takt_frame frame;
    takt_op ops[3];
    size_t count;
    bool all;
    int winner;
};

static TAKT_CORO(late)
{
    TAKT_BEGIN(late, my);
    takt_cancel(&my->frame);
    my->winner = 99;
    if (my->all)
        TAKT_AWAIT_ALL(my->ops, my->count);
    else
        TAKT_AWAIT_ANY(my->winner, my->ops, my->count);
    note("w");
    TAKT_AWAIT(takt_nop());
    note("never");
    TAKT_END;
}

static void nothing_is_begun_once_it_is_told_to_stop_but_a_close_acts(void)
{
    static struct late late;
    for (int i = 0; i < 8; i++) {
        setup();
        EXPECT(TAKT_START_ON(&loop, late, late, .count = i & 4 ? 0 : 3, .all = i & 1));
        late.ops[0] = recv_on(1);
        late.ops[1] = i & 2 ? takt_close(AT_ONCE) : takt_event_wait(&event);
        late.ops[2] = recv_on(2);
        event.set = true;
        finish();
        EXPECT_EQ(takt_error(&late.frame), TAKT_ECANCELED);
        EXPECT_EQ(loop.backend.submits, i == 2 || i == 3 ? 1 : 0);
        if (i >= 4)
            continue;
        EXPECT_EQ(late.ops[0].result, TAKT_ECANCELED);
        EXPECT_EQ(late.ops[1].result, i & 2 ? 0 : TAKT_ECANCELED);
        EXPECT_EQ(late.ops[2].result, TAKT_ECANCELED);
        EXPECT_EQ(late.winner, i & 1 ? 99 : i & 2 ? 1 : -1);
    }
    EXPECT_TRACE("w"); /* the close won */
}

/* A close among the losers is not cut short, and acts even if it was not begun. */
static void a_close_acts_also_when_it_loses(void)
{
    setup_with(2); /* itself, one request, and the spare one */
    ops[0] = recv_on(1);
    ops[1] = takt_event_wait(&event);
    ops[2] = takt_close(3);
    ops[3] = recv_on(2);
    begin(4);
    turn();
    EXPECT(loop.backend.at[3] == NULL); /* no strand for it yet */
    complete(1, 7);
    EXPECT(loop.backend.at[3] != NULL && !loop.backend.asked[3]);
    EXPECT(!c.went_on);
    complete(3, 0);
    finish();
    EXPECT_EQ(c.winner, 0);
    EXPECT_EQ(c.ops[1].result, TAKT_ECANCELED);
    EXPECT_EQ(c.ops[2].result, 0);
    EXPECT_EQ(c.ops[3].result, TAKT_ECANCELED);
}

static void a_drain_ends_a_choice(void)
{
    setup();
    ops[0] = recv_on(1);
    ops[1] = takt_event_wait(&event);
    ops[2] = takt_sleep(600 * TAKT_SEC);
    begin(3);
    turn();
    EXPECT_EQ(world_drain(&loop), 1);
    EXPECT(event.line.first == NULL);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(c.winner, -1);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_TRACE(".");
}

/* A loop that stops: an accept that waits is told so; one that has only lost is not. */
static void a_stop_is_an_answer_of_accepts(void)
{
    setup();
    ops[0] = recv_on(1);
    ops[1] = takt_accept(2, NULL);
    begin(2);
    turn();
    takt_stop(&loop.sched, TAKT_FOREVER);
    finish();
    EXPECT_EQ(c.winner, 1);
    EXPECT_EQ(c.ops[0].result, TAKT_ECANCELED);
    EXPECT_EQ(c.ops[1].result, TAKT_ESTOPPING);
    setup();
    loop.backend.slow[2] = true;
    ops[0] = recv_on(1);
    ops[1] = takt_accept(2, NULL);
    begin(2);
    turn();
    complete(1, 3);
    takt_stop(&loop.sched, TAKT_FOREVER);
    complete(2, -ECANCELED);
    finish();
    EXPECT_EQ(c.winner, 0);
    EXPECT_EQ(c.ops[1].result, TAKT_ECANCELED);
    setup(); /* cancelled at the same time: it is not delivered */
    ops[0] = recv_on(1);
    ops[1] = takt_accept(2, NULL);
    begin(2);
    turn();
    takt_stop(&loop.sched, 0);
    finish();
    EXPECT(!c.went_on);
    EXPECT_EQ(c.ops[1].result, TAKT_ECANCELED);
}

/* -- too few strands ------------------------------------------------------------ */

struct holder {
    takt_frame frame;
};

static TAKT_CORO(holder)
{
    TAKT_BEGIN(holder, my);
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

/* Holds the spare strand too. */
struct hoarder {
    takt_frame frame;
    takt_op op;
};

static TAKT_CORO(hoarder)
{
    TAKT_BEGIN(hoarder, my);
    my->op = takt_sleep(600 * TAKT_SEC);
    TAKT_AWAIT_ALL(&my->op, 1);
    TAKT_END;
}

static void what_was_not_begun_when_the_first_completes_never_is(void)
{
    setup_with(2); /* itself, one of four, and one on the spare strand */
    ops[0] = recv_on(1);
    ops[1] = recv_on(2);
    ops[2] = recv_on(3);
    ops[3] = takt_event_wait(&event);
    begin(4);
    turn();
    EXPECT_EQ(loop.backend.submits, 2);
    event.set = true; /* it would complete at once, but its turn has not come */
    complete(1, 5);
    finish();
    EXPECT_EQ(loop.backend.submits, 2);
    EXPECT_EQ(c.winner, 0);
    for (int i = 1; i < 4; i++)
        EXPECT_EQ(c.ops[i].result, TAKT_ECANCELED);
}

/* A strand that others give back is used, though some of its own ops are in flight: the
 * one that waits may be the limit. */
static void a_strand_that_comes_free_anywhere_is_used(void)
{
    static struct holder holder;
    for (int all = 0; all < 2; all++) {
        setup_with(2);
        EXPECT(TAKT_START_ON(&loop, holder, holder));
        ops[0] = recv_on(1);
        ops[1] = takt_within(2 * TAKT_SEC, recv_on(2));
        begin(2);
        c.all = all;
        turn();
        EXPECT_EQ(loop.backend.submits, 1);
        loop.backend.now += TAKT_SEC;
        takt_cancel(&holder.frame);
        turn();
        EXPECT_EQ(loop.backend.submits, 2);
        while (loop.backend.at[2])
            EXPECT(world_turn(&loop, TAKT_SEC, 0) >= 0);
        turn();
        if (all)
            complete(1, 1);
        finish();
        EXPECT_EQ(c.winner, all ? 99 : 1);
        EXPECT_EQ(c.ops[1].result, -ETIMEDOUT);
        /* counted from the await, not from when there was a strand */
        EXPECT(c.took >= 2 * TAKT_SEC && c.took <= 2 * TAKT_SEC + 2 * TAKT_TICK);
    }
}

static void sleeps_that_wait_for_a_strand_are_not_longer(void)
{
    setup_with(1);
    loop.backend.now = 5 * TAKT_SEC;
    ops[0] = takt_sleep(TAKT_SEC);
    ops[1] = takt_sleep(2 * TAKT_SEC);
    ops[2] = takt_sleep_until(8 * TAKT_SEC);
    ops[3] = takt_by(7 * TAKT_SEC, takt_sleep(TAKT_SEC / 2)); /* past when its time comes */
    begin(4);
    c.all = true;
    finish();
    EXPECT(c.took >= 3 * TAKT_SEC && c.took <= 3 * TAKT_SEC + 3 * TAKT_TICK);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(c.ops[i].result, 0);
    EXPECT_EQ(c.ops[1].arg.sleep, 2 * TAKT_SEC); /* the array can be awaited again */
    EXPECT_EQ(c.ops[1].flags, 0);
}

/* What the losers held goes to who waits for it at once, not when the winner goes on. */
static void the_strands_of_losers_are_used_at_once(void)
{
    static struct chooser other;
    setup_with(4);
    ops[0] = takt_event_wait(&event);
    ops[1] = takt_get(&channel, &c.item);
    begin(2);
    turn();
    ops[0] = recv_on(1);
    ops[1] = recv_on(2);
    EXPECT(TAKT_START_ON(&loop, other, chooser, .count = 2));
    memcpy(other.ops, ops, sizeof ops);
    turn();
    EXPECT_EQ(loop.backend.submits, 1); /* on the spare strand */
    takt_event_set(&event);
    EXPECT_EQ(loop.backend.submits, 2);
    turn();
    complete(2, 3);
    finish();
    EXPECT_EQ(other.winner, 1);
}

static void a_choice_without_any_strand_waits_and_can_be_cancelled(void)
{
    static struct hoarder holder;
    for (int cancel = 0; cancel < 2; cancel++) {
        setup_with(2);
        EXPECT(TAKT_START_ON(&loop, holder, hoarder));
        ops[0] = takt_nop();
        ops[1] = recv_on(1);
        begin(2);
        turn();
        EXPECT_EQ(loop.backend.submits, 0);
        EXPECT(loop.sched.starved_first != 0);
        if (cancel)
            takt_cancel(&c.frame);
        takt_cancel(&holder.frame);
        turn();
        turn();
        EXPECT_EQ(c.winner, cancel ? -1 : 0);
        EXPECT_EQ(c.ops[0].result, cancel ? TAKT_ECANCELED : 0);
        EXPECT_EQ(c.ops[1].result, TAKT_ECANCELED);
        finish();
    }
}

/* Thousands that wait for a strand and complete at once do not pile up on the stack. */
enum { CROWD = 40000 };

struct one_of_many {
    takt_frame frame;
    takt_op ops[2];
};

static TAKT_CORO(one_of_many)
{
    TAKT_BEGIN(one_of_many, my);
    my->ops[0] = my->ops[1] = takt_event_wait(&event);
    TAKT_AWAIT_ALL(my->ops, 2);
    TAKT_END;
}

static void a_crowd_that_starves_uses_constant_stack(void)
{
    static struct hoarder holder;
    struct one_of_many *const crowd =
        (struct one_of_many *)calloc(CROWD, sizeof(struct one_of_many));
    EXPECT(crowd != NULL);
    if (!crowd)
        return;
    setup_with(CROWD + 1);
    event.set = true;
    EXPECT(TAKT_START_ON(&loop, holder, hoarder));
    for (int i = 0; i < CROWD; i++)
        EXPECT(TAKT_START_ON(&loop, crowd[i], one_of_many));
    for (int i = 0; i < CROWD / 1000 + 2; i++)
        turn();
    EXPECT(takt_alive(&crowd[0].frame));
    takt_cancel(&holder.frame);
    finish();
    free(crowd);
}

/* -- memory that does not last ---------------------------------------------------- */

struct careless {
    takt_frame frame;
    int mode, winner;
    takt_op ops[2];
};

static TAKT_CORO(careless)
{
    TAKT_BEGIN(careless, my);
    if (my->mode == 0) {
        takt_op here[1];
        here[0] = takt_nop();
        TAKT_AWAIT_ANY(my->winner, here, 1);
        note("never");
    } else if (my->mode == 1) {
        takt_op here[1];
        here[0] = takt_nop();
        TAKT_AWAIT_ALL(here, 1);
        note("never");
    } else {
        int item;
        item = 3;
        my->ops[0] = my->mode == 2 ? takt_put(&channel, &item) : takt_get(&channel, &item);
        my->ops[1] = takt_sleep(TAKT_SEC);
        if (my->mode == 4)
            TAKT_AWAIT(my->ops[0]);
        TAKT_AWAIT_ANY(my->winner, my->ops, 2);
        EXPECT_EQ(my->winner, 0);
        TAKT_THROW((int)my->ops[0].result);
    }
    TAKT_CATCH { EXPECT_EQ(my->frame.error, TAKT_ESTACK); note("S"); }
    TAKT_END;
}

static void what_lies_on_the_stack_is_refused_by_name(void)
{
    static struct careless careless;
    for (int mode = 0; mode < 5; mode++) {
        setup();
        EXPECT(TAKT_START_ON(&loop, careless, careless, .mode = mode));
        finish();
        EXPECT(strstr(logged, "choose.c") && strstr(logged, "careless"));
        EXPECT_EQ(channel.count, 0);
    }
    EXPECT_TRACE("SSSSS");
}

/* -- deadlines ---------------------------------------------------------------------- */

/* One deadline over several awaits of every kind. */
struct hurried {
    takt_frame frame;
    int which;
    takt_op op;
    int item, n;
    takt_ns began;
};

static TAKT_CORO(hurried)
{
    TAKT_BEGIN(hurried, my);
    my->began = takt_now(&my->frame);
    my->op = my->which == 0   ? takt_sleep(600 * TAKT_SEC)
             : my->which == 1 ? takt_sleep_until(my->began + 600 * TAKT_SEC)
             : my->which == 2 ? takt_event_wait(&event)
             : my->which == 3 ? takt_acquire(&semaphore)
             : my->which == 4 ? takt_get(&channel, &my->item)
             : my->which == 5 ? takt_recv(1, &my->item, 1)
                              : takt_put(&channel, &my->item);
    TAKT_TRY_AWAIT(my->n, takt_by(my->began + TAKT_SEC, my->op));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT(takt_now(&my->frame) >= my->began + TAKT_SEC);
    EXPECT(takt_now(&my->frame) <= my->began + TAKT_SEC + 2 * TAKT_TICK);
    TAKT_TRY_AWAIT(my->n, takt_by(my->began + TAKT_SEC, my->op)); /* past */
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT(takt_now(&my->frame) <= my->began + TAKT_SEC + 4 * TAKT_TICK);
    TAKT_TRY_AWAIT(my->n, takt_within(TAKT_SEC, my->op));
    EXPECT_EQ(my->n, -ETIMEDOUT);
    EXPECT(takt_now(&my->frame) >= my->began + 2 * TAKT_SEC);
    TAKT_AWAIT(my->n, takt_by(takt_now(&my->frame) + TAKT_SEC, takt_sleep(TAKT_MS)));
    EXPECT_EQ(my->n, 0); /* it was long enough */
    note("!");
    TAKT_END;
}

static void a_deadline_fits_every_kind_of_op(void)
{
    static struct hurried hurried;
    for (int which = 0; which < 7; which++) {
        setup();
        loop.backend.now = 5 * TAKT_SEC;
        for (int i = 0; which == 6 && i < 2; i++)
            EXPECT_EQ(takt_try_put(&channel, &i), 0);
        EXPECT(TAKT_START_ON(&loop, hurried, hurried, .which = which));
        finish();
        EXPECT_EQ(channel.count, which == 6 ? 2 : 0);
    }
    EXPECT_TRACE("!!!!!!!");
}

/* Something that takes two awaits, and yields a descriptor. */
struct dial {
    takt_frame frame;
    int on; /* in */
    int fd; /* out */
};

static TAKT_CORO(dial)
{
    TAKT_BEGIN(dial, my);
    TAKT_AWAIT(takt_sleep(TAKT_SEC));
    TAKT_AWAIT(my->fd, takt_accept(my->on, NULL));
    note("d");
    TAKT_END;
}

struct dialer {
    takt_frame frame;
    int mode;
    int winner;
    struct dial a, b;
};

static TAKT_CORO(dialer)
{
    TAKT_BEGIN(dialer, my);
    my->winner = 99;
    if (my->mode == 0) {
        TAKT_CALL_WITHIN(2 * TAKT_SEC, my->a, dial, .on = 1);
    } else {
        TAKT_START(my->a, dial, .on = 1);
        TAKT_START(my->b, dial, .on = 2);
        if (my->mode == 1)
            TAKT_RACE(my->winner, my->a, my->b);
        else
            TAKT_JOIN(my->a, my->b);
    }
    note("w");
    TAKT_AWAIT(takt_nop());
    note("!");
    TAKT_CATCH { note(my->frame.error == -ETIMEDOUT ? "T" : "?"); }
    TAKT_END;
}

static struct dialer dialer;

static void begin_dialing(int mode)
{
    setup();
    loop.backend.slow[1] = loop.backend.slow[2] = true;
    EXPECT(TAKT_START_ON(&loop, dialer, dialer, .mode = mode));
    while (!loop.backend.at[1])
        EXPECT(world_turn(&loop, TAKT_SEC, 0) >= 0);
}

static void a_call_with_a_limit_is_reaped_before_it_expires(void)
{
    begin_dialing(0);
    while (!loop.backend.asked[1])
        EXPECT(world_turn(&loop, TAKT_SEC, 0) >= 0);
    EXPECT(loop.backend.now >= 2 * TAKT_SEC);
    turn();
    EXPECT_TRACE("");
    complete(1, -ECANCELED);
    EXPECT_TRACE("T");
    finish();
    begin_dialing(0); /* it has completed all the same */
    while (!loop.backend.asked[1])
        EXPECT(world_turn(&loop, TAKT_SEC, 0) >= 0);
    complete(1, 77);
    finish();
    EXPECT_TRACE("Tdw!");
    EXPECT_EQ(dialer.a.fd, 77);
}

static void an_order_that_a_callee_outruns_takes_the_next_await(void)
{
    begin_dialing(0);
    takt_cancel(&dialer.frame);
    complete(1, 77);
    finish();
    EXPECT_EQ(dialer.a.fd, 77);
    EXPECT_EQ(takt_error(&dialer.frame), TAKT_ECANCELED);
    EXPECT_TRACE("dw");
    begin_dialing(0);
    takt_cancel(&dialer.frame);
    complete(1, -ECANCELED);
    finish();
    EXPECT_TRACE("dw");
}

static void the_winner_of_a_race_waits_for_the_losers(void)
{
    begin_dialing(1);
    complete(2, 77);
    EXPECT(loop.backend.asked[1]);
    turn();
    EXPECT_TRACE("d");
    complete(1, -ECANCELED);
    finish();
    EXPECT_EQ(dialer.winner, 1);
    EXPECT(takt_finished(&dialer.a.frame) && takt_error(&dialer.a.frame) == TAKT_ECANCELED);
    EXPECT_TRACE("dw!");
}

static void an_order_that_comes_after_the_winner_takes_the_next_await(void)
{
    begin_dialing(1);
    complete(2, 77);
    takt_cancel(&dialer.frame);
    complete(1, 78); /* both */
    finish();
    EXPECT_EQ(dialer.winner, 1);
    EXPECT_EQ(dialer.a.fd, 78);
    EXPECT_EQ(dialer.b.fd, 77);
    EXPECT_TRACE("ddw");
    begin_dialing(1); /* the order comes first, and one racer is faster */
    takt_cancel(&dialer.frame);
    complete(1, -ECANCELED);
    complete(2, 77);
    finish();
    EXPECT_EQ(dialer.winner, 1);
    EXPECT_TRACE("ddwdw");
    begin_dialing(1); /* nobody is */
    takt_cancel(&dialer.frame);
    complete(1, -ECANCELED);
    complete(2, -ECANCELED);
    finish();
    EXPECT_TRACE("ddwdw");
}

static void a_join_is_cancelled_unless_all_succeed(void)
{
    begin_dialing(2);
    takt_cancel(&dialer.frame);
    complete(1, 77);
    complete(2, 78);
    finish();
    EXPECT_TRACE("ddw");
    EXPECT_EQ(takt_error(&dialer.frame), TAKT_ECANCELED);
    begin_dialing(2);
    takt_cancel(&dialer.frame);
    complete(1, 77);
    complete(2, -ECANCELED);
    finish();
    EXPECT_TRACE("ddwd");
}

/* -- a storm: whatever happens, nothing is lost and nothing is there twice --------------- */

enum { ACTORS = 8, ITEMS = 1 << 14, UNTOUCHED = 12345 };

static uint32_t random_state;
static unsigned char put_in[ITEMS], got_out[ITEMS]; /* by item: how often */
static int next_item, held, most_ops;

static uint32_t below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

struct actor {
    takt_frame frame;
    takt_op ops[4];
    int in[4], out[4];
    int count; /* of ops that are not accounted for */
    int how, winner;
    int64_t n;
};

static struct actor actors[ACTORS];

static takt_op any_op(struct actor *my, int i)
{
    takt_op op;
    my->in[i] = next_item;
    switch (below(7)) {
    case 0:
    case 1:
        next_item = next_item < ITEMS - 1 ? next_item + 1 : next_item;
        op = takt_put(&channel, &my->in[i]);
        break;
    case 2:
    case 3:
        op = takt_get(&channel, &my->out[i]);
        break;
    case 4:
        op = takt_acquire(&semaphore);
        break;
    case 5:
        op = takt_event_wait(&event);
        break;
    default:
        op = below(2) ? takt_nop() : takt_sleep(below(5) * TAKT_MS);
        break;
    }
    if (below(4) == 0)
        op = below(2) ? takt_within(1 + below(5) * TAKT_MS, op)
                      : takt_by(loop.backend.now + below(5) * TAKT_MS, op);
    op.result = UNTOUCHED;
    return op;
}

/* Every result is defined, and tells what has happened. */
static void account(struct actor *my)
{
    for (int i = 0; i < my->count; i++) {
        const takt_op *const op = &my->ops[i];
        EXPECT(op->result == 0 || op->result == 1 || op->result == TAKT_ECANCELED ||
               op->result == -ETIMEDOUT);
        if (op->kind == TAKT_OP_PUT && op->result == 0)
            put_in[my->in[i]]++;
        if (op->kind == TAKT_OP_GET && op->result == 1)
            got_out[my->out[i]]++;
        if (op->kind == TAKT_OP_ACQUIRE && op->result == 0)
            held++;
    }
    my->count = 0;
}

static TAKT_CORO(actor)
{
    TAKT_BEGIN(actor, my);
    TAKT_DEFER
    {
        if (my->how == 0)
            my->ops[0].result = my->n;
        account(my);
    }
    for (;;) {
        my->how = (int)below(3);
        my->count = my->how == 0 ? 1 : (int)below((uint32_t)most_ops) + 1;
        my->n = UNTOUCHED;
        for (int i = 0; i < my->count; i++)
            my->ops[i] = any_op(my, i);
        if (my->how == 0) {
            TAKT_TRY_AWAIT(my->n, my->ops[0]);
            my->ops[0].result = my->n;
        } else if (my->how == 1) {
            TAKT_AWAIT_ALL(my->ops, (size_t)my->count);
        } else {
            TAKT_AWAIT_ANY(my->winner, my->ops, (size_t)my->count);
            EXPECT(my->winner >= 0 && my->winner < my->count);
            EXPECT(my->ops[my->winner].result != TAKT_ECANCELED);
        }
        account(my);
        if (held && below(2)) {
            held--;
            takt_release(&semaphore, 1);
        }
        TAKT_YIELD;
    }
    TAKT_END;
}

static void perturb(void)
{
    struct actor *const who = &actors[below(ACTORS)];
    int item = next_item;
    switch (below(8)) {
    case 0:
        takt_event_set(&event);
        break;
    case 1:
        takt_event_reset(&event);
        break;
    case 2:
        takt_cancel(&who->frame);
        break;
    case 3:
        if (takt_try_get(&channel, &item) == 1)
            got_out[item]++;
        break;
    case 4:
        next_item = next_item < ITEMS - 1 ? next_item + 1 : next_item;
        if (takt_try_put(&channel, &item) == 0)
            put_in[item]++;
        break;
    default:
        if (!takt_alive(&who->frame))
            EXPECT(TAKT_START_ON(&loop, *who, actor) || loop.sched.starved_first ||
                   loop.sched.strands_used + 1 >= loop.sched.slots.count);
        break;
    }
    EXPECT(!channel.putters.first || channel.count == channel.capacity);
    EXPECT(!channel.getters.first || (channel.count == 0 && !channel.putters.first));
    EXPECT(semaphore.permits == 0 || !semaphore.line.first);
    EXPECT_EQ(world_turn(&loop, below(4) * TAKT_MS, 0) >= 0, true);
}

static void storm(uint32_t seed)
{
    static int places[3];
    int item;
    random_state = seed;
    memset(put_in, 0, sizeof put_in);
    memset(got_out, 0, sizeof got_out);
    memset(actors, 0, sizeof actors);
    next_item = held = 0;
    setup_with(ACTORS + below(8));
    most_ops = 1 + (int)below(4);
    EXPECT_EQ(takt_channel_init(&channel, places, sizeof places[0], below(4)), 0);
    semaphore.permits = 3;
    for (int i = 0; i < 500; i++)
        perturb();
    for (int i = 0; i < ACTORS; i++)
        takt_cancel(&actors[i].frame);
    if (seed % 2)
        takt_channel_close(&channel);
    EXPECT_EQ(world_run(&loop), 0);
    while (takt_try_get(&channel, &item) == 1)
        got_out[item]++;
    EXPECT(next_item < ITEMS - 1);
    for (int i = 0; i < next_item; i++)
        EXPECT(put_in[i] == got_out[i] && put_in[i] <= 1);
    EXPECT_EQ(semaphore.permits + held, 3);
    finish();
}

static void nothing_is_lost_or_doubled_in_a_storm(void)
{
    const char *const seed = getenv("TAKT_SEED");
    const uint32_t first = seed ? (uint32_t)strtoul(seed, NULL, 0) : 1;
    const uint32_t last = seed ? first : 400;
    for (uint32_t i = first; i <= last && test_failures == 0; i++) {
        storm(i);
        if (test_failures)
            printf("TAKT_SEED=%u\n", (unsigned)i);
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(the_first_to_complete_wins_and_the_losers_are_reaped_first),
        TEST(a_loser_that_completed_all_the_same_keeps_its_result),
        TEST(a_failure_is_an_answer_too_and_is_not_thrown),
        TEST(of_those_that_need_not_wait_the_foremost_wins),
        TEST(any_of_nothing_goes_on_with_no_winner),
        TEST(every_kind_of_op_can_win_and_lose),
        TEST(a_batch_may_serve_itself),
        TEST(a_cancelled_choice_ends_with_the_last_of_its_ops),
        TEST(a_choice_that_completes_in_spite_of_the_order_is_delivered),
        TEST(an_order_that_comes_while_losers_are_reaped_takes_the_next_await),
        TEST(a_batch_that_lost_nothing_to_the_order_is_delivered),
        TEST(nothing_is_begun_once_it_is_told_to_stop_but_a_close_acts),
        TEST(a_close_acts_also_when_it_loses),
        TEST(a_drain_ends_a_choice),
        TEST(a_stop_is_an_answer_of_accepts),
        TEST(what_was_not_begun_when_the_first_completes_never_is),
        TEST(a_strand_that_comes_free_anywhere_is_used),
        TEST(sleeps_that_wait_for_a_strand_are_not_longer),
        TEST(the_strands_of_losers_are_used_at_once),
        TEST(a_choice_without_any_strand_waits_and_can_be_cancelled),
        TEST(a_crowd_that_starves_uses_constant_stack),
        TEST(what_lies_on_the_stack_is_refused_by_name),
        TEST(a_deadline_fits_every_kind_of_op),
        TEST(a_call_with_a_limit_is_reaped_before_it_expires),
        TEST(an_order_that_a_callee_outruns_takes_the_next_await),
        TEST(the_winner_of_a_race_waits_for_the_losers),
        TEST(an_order_that_comes_after_the_winner_takes_the_next_await),
        TEST(a_join_is_cancelled_unless_all_succeed),
        TEST(nothing_is_lost_or_doubled_in_a_storm),
    };
    return RUN_TESTS(argc, argv, tests);
}
