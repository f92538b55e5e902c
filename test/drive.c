/*
 * drive.c - without a loop: step, advance, exec; back-off; bodies written by hand
 *
 * The dispatcher here answers by a script and remembers what it was asked. Sleeps go to a
 * hook and assertions are counted, so that what would wait or trap can be looked at.
 */
static int traps;
static void remember(const char *text);

#define TAKT_ASSERT(condition) ((condition) ? (void)0 : (void)traps++)
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#ifndef TAKT_NO_POSIX
#include <signal.h>
#include <sys/time.h>
#endif

static char logged[512]; /* the last line */

static void remember(const char *text)
{
    snprintf(logged, sizeof logged, "%s", text);
}

/* -- the dispatcher -------------------------------------------------------------- */

enum { ECHO = TAKT_OP_USER, UNHEARD_OF };
enum { GARBAGE = -77777 };

static takt_op echo(int64_t number)
{
    return takt_op_user(ECHO, NULL, number);
}

typedef struct server {
    int64_t value;  /* the answer to an echo; 0: its number */
    int blocks;     /* that many would-blocks first, for each op */
    int fail;       /* that error of the dispatcher itself, in place of an answer */
    bool more;      /* TAKT_EMORE in place of 0 */
    int asked, blocked, closed, calls;
    int64_t numbers[64]; /* of the echos that were answered, in order */
    int count;
    int sleeps;
    takt_ns slept[64];
    int blocks_left;
} server;

static server srv;

static int serve(void *user, takt_op *op, int64_t *value)
{
    server *const s = (server *)user;
    s->asked++;
    *value = GARBAGE;
    if (s->blocks_left > 0) {
        s->blocks_left--;
        s->blocked++;
        return TAKT_EWOULDBLOCK;
    }
    s->blocks_left = s->blocks;
    if (s->fail)
        return s->fail;
    if (op->kind == TAKT_OP_CLOSE) {
        s->closed++;
        *value = 0;
        return 0;
    }
    if (op->kind == TAKT_OP_SOCKET) {
        s->calls++;
        *value = 44;
        return 0;
    }
    if (op->kind != ECHO)
        return -ENOSYS;
    if (s->count < 64)
        s->numbers[s->count++] = op->arg.offset;
    *value = s->value ? s->value : op->arg.offset;
    return s->more ? TAKT_EMORE : 0;
}

static void do_sleep(void *user, takt_ns ns)
{
    server *const s = (server *)user;
    if (s->sleeps < 64)
        s->slept[s->sleeps] = ns;
    s->sleeps++;
}

static takt_ns tell_time(void *user)
{
    return 1000 + ((server *)user)->asked;
}

static takt_dispatcher dispatcher;
static takt_drive drive;

static void setup(void)
{
    memset(&srv, 0, sizeof srv);
    memset(&dispatcher, 0, sizeof dispatcher);
    dispatcher.dispatch = serve;
    dispatcher.user = &srv;
    dispatcher.now = tell_time;
    dispatcher.backoff.sleep = do_sleep;
    dispatcher.backoff.user = &srv;
    takt_drive_init(&drive, &dispatcher);
    traps = 0;
    logged[0] = '\0';
}

static void block(int times)
{
    srv.blocks = srv.blocks_left = times;
}

/* Nothing is left of the coroutine. */
static void over(const takt_frame *frame)
{
    EXPECT(takt_finished(frame) && !takt_alive(frame));
    EXPECT(drive.frame == NULL);
    EXPECT_EQ(drive.sched.pending, 0);
    EXPECT_EQ(drive.sched.strands_used, 0);
    EXPECT_EQ(drive.sched.tasks, 0);
}

/* -- back-off ---------------------------------------------------------------------- */

/* OC-9: the sleep number `i` (from 0), in blocks of 1, 2, 3 ... */
static takt_ns nominal(int i, takt_ns base, takt_ns max)
{
    int n = 1;
    while (i >= n)
        i -= n++;
    return n * base < max ? n * base : max;
}

static bool about(takt_ns ns, takt_ns expected) /* -12.5 % .. +12.4 % */
{
    return ns >= expected - expected / 8 && ns <= expected + expected * 127 / 1024 + 1;
}

/* OC-9 */
static void a_zeroed_backoff_waits_in_growing_blocks(void)
{
    takt_backoff b;
    bool shorter = false, longer = false;
    memset(&b, 0, sizeof b);
    EXPECT_EQ(takt_backoff_duration(&b), 500 * TAKT_US);
    for (int i = 0; i < 30000; i++) {
        const takt_ns expected = nominal(i, 500 * TAKT_US, 100 * TAKT_MS);
        takt_ns ns;
        EXPECT_EQ(takt_backoff_duration(&b), expected);
        ns = takt_backoff_next(&b);
        EXPECT(about(ns, expected));
        shorter |= ns < expected - expected / 10;
        longer |= ns > expected + expected / 10;
    }
    EXPECT(shorter && longer); /* it does give and take */
    EXPECT_EQ(takt_backoff_duration(&b), 100 * TAKT_MS);
}

/* OC-9 */
static void a_backoff_is_told_its_base_and_its_most(void)
{
    takt_backoff b;
    memset(&b, 0, sizeof b);
    b.base = 10;
    b.max = 25;
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(takt_backoff_duration(&b), nominal(i, 10, 25));
        (void)takt_backoff_next(&b);
    }
    b.base = b.max = -1; /* as if it had not been told */
    takt_backoff_reset(&b);
    EXPECT_EQ(takt_backoff_duration(&b), 500 * TAKT_US);
    b.base = TAKT_FOREVER; /* no overflow */
    b.max = TAKT_FOREVER;
    EXPECT_EQ(takt_backoff_next(&b), TAKT_FOREVER);
    EXPECT_EQ(takt_backoff_duration(&b), TAKT_FOREVER);
    b.base = 3 * TAKT_MS;
    b.max = 2 * TAKT_MS;
    takt_backoff_reset(&b);
    EXPECT_EQ(takt_backoff_duration(&b), 2 * TAKT_MS);
}

#ifndef TAKT_NO_POSIX
static void on_alarm(int number)
{
    (void)number;
}

/* Signals do not shorten a wait. */
static void a_wait_goes_on_after_a_signal(void)
{
    takt_backoff b;
    struct sigaction action;
    struct itimerval often, never;
    const takt_ns begin = takt_posix_now(NULL);
    memset(&b, 0, sizeof b);
    memset(&action, 0, sizeof action);
    memset(&often, 0, sizeof often);
    memset(&never, 0, sizeof never);
    b.base = 30 * TAKT_MS;
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    often.it_interval.tv_usec = often.it_value.tv_usec = 3000;
    setitimer(ITIMER_REAL, &often, NULL);
    takt_backoff_wait(&b);
    setitimer(ITIMER_REAL, &never, NULL);
    EXPECT(takt_posix_now(NULL) - begin >= 26 * TAKT_MS); /* less an eighth */
}
#endif

/* OC-9 */
static void a_reset_begins_anew_and_changes_nothing_else(void)
{
    takt_backoff b;
    uint64_t seed;
    memset(&b, 0, sizeof b);
    b.base = TAKT_MS;
    b.max = TAKT_SEC;
    b.seed = 5;
    for (int i = 0; i < 8; i++) /* in the middle of a block */
        (void)takt_backoff_next(&b);
    seed = b.seed;
    EXPECT(seed != 5);
    takt_backoff_reset(&b);
    EXPECT_EQ(takt_backoff_duration(&b), TAKT_MS);
    EXPECT(b.base == TAKT_MS && b.max == TAKT_SEC && b.seed == seed);
    for (int i = 0; i < 8; i++) {
        EXPECT_EQ(takt_backoff_duration(&b), nominal(i, TAKT_MS, TAKT_SEC));
        (void)takt_backoff_next(&b);
    }
}

/* OC-9 */
static void the_same_seed_gives_the_same_sleeps(void)
{
    takt_backoff a, b, c;
    int differ = 0;
    setup();
    memset(&a, 0, sizeof a);
    a.seed = 7;
    b = c = a;
    c.seed = 8;
    for (int i = 0; i < 100; i++) {
        const takt_ns ns = takt_backoff_next(&a);
        EXPECT_EQ(takt_backoff_next(&b), ns);
        differ += takt_backoff_next(&c) != ns;
    }
    EXPECT(differ > 50);
    b = dispatcher.backoff;
    takt_backoff_wait(&b);
    EXPECT_EQ(srv.sleeps, 1);
    EXPECT(about(srv.slept[0], 500 * TAKT_US));
    memset(&b, 0, sizeof b);
    b.base = 1; /* and without a hook the system's */
    takt_backoff_wait(&b);
    EXPECT_EQ(b.block, 1);
}

/* -- coroutines ---------------------------------------------------------------------- */

/* `n` echos in a row, and the sum of the answers. */
struct chain {
    takt_frame frame;
    int n; /* in */
    int i;
    int64_t got, sum; /* out: sum */
    uint64_t context; /* the caller's; not looked at */
    char defers;
    bool began, ended;
};

static TAKT_CORO(chain)
{
    TAKT_BEGIN(chain, my);
    my->began = true;
    TAKT_DEFER { my->defers++; }
    for (my->i = 1; my->i <= my->n; my->i++) {
        TAKT_AWAIT(my->got, echo(my->i));
        my->sum += my->got;
    }
    my->ended = true;
    TAKT_END;
}

/* The same, as a state machine (BR-5). */
struct by_hand {
    takt_frame frame;
    int n, i;
    int64_t sum;
};

static TAKT_CORO(by_hand)
{
    static const takt_coro coro = {by_hand_coro, "by_hand", __FILE__, __LINE__,
                                   sizeof(struct by_hand)};
    struct by_hand *my = (struct by_hand *)(void *)takt_self;
    const int64_t got = takt_result(takt_self);
    switch (takt_enter(takt_self, &coro)) {
    case 0:
        break;
    case 1:
        if (got < 0)
            return takt_finish(takt_self, (int)got);
        my->sum += got;
        break;
    default:
        return takt_finish(takt_self, 0);
    }
    if (my->i == my->n)
        return takt_finish(takt_self, 0);
    my->i++;
    return takt_yield(takt_self, echo(my->i), 1);
}

/* The same, by calls: half of it each, down to one. */
struct nested {
    takt_frame frame;
    int first, n;
    int64_t sum, got;
    struct nested *left, *right; /* in memory of the test's */
};

static struct nested nodes[64];
static int nodes_used;

static TAKT_CORO(nested)
{
    TAKT_BEGIN(nested, my);
    if (my->n == 1) {
        TAKT_AWAIT(my->got, echo(my->first));
        my->sum = my->got;
    } else if (my->n > 1) {
        my->left = &nodes[nodes_used++];
        my->right = &nodes[nodes_used++];
        TAKT_CALL(*my->left, nested, .first = my->first, .n = my->n / 2);
        TAKT_CALL(*my->right, nested, .first = my->first + my->n / 2, .n = my->n - my->n / 2);
        my->sum = my->left->sum + my->right->sum;
    }
    TAKT_END;
}

static struct chain a, b;

static int step(struct chain *c, int n)
{
    memset(c, 0, sizeof *c);
    c->n = n;
    c->context = 0x1234567890abcdef;
    return takt_step(&drive, &c->frame, chain_coro);
}

/* -- step, resume, discard ------------------------------------------------------------- */

/* CO-1 */
static void what_has_no_op_is_finished_by_its_first_step(void)
{
    setup();
    EXPECT_EQ(step(&a, 0), 1);
    EXPECT(a.ended);
    EXPECT_EQ(takt_error(&a.frame), 0);
    EXPECT(takt_drive_op(&drive) == NULL);
    EXPECT_EQ(srv.asked, 0);
    EXPECT_EQ(drive.dispatches, 0);
    EXPECT_EQ(drive.epoch, 0);
    over(&a.frame);
}

/* CO-2, CO-11 */
static void a_step_runs_to_the_first_op_and_stops(void)
{
    setup();
    EXPECT_EQ(step(&a, 3), 0);
    EXPECT(a.began && !a.ended);
    EXPECT_EQ(a.sum, 0);
    EXPECT(!takt_finished(&a.frame) && takt_alive(&a.frame));
    EXPECT_EQ(takt_error(&a.frame), 0);
    EXPECT(takt_drive_op(&drive) != NULL);
    EXPECT_EQ(takt_drive_op(&drive)->kind, ECHO);
    EXPECT_EQ(takt_drive_op(&drive)->arg.offset, 1);
    EXPECT_EQ(srv.asked, 0); /* nobody but you performs it */
    EXPECT(takt_discard(&drive));
}

/* CO-3 */
static void a_resume_runs_to_the_next_op_or_the_end(void)
{
    enum { N = 50 };
    setup();
    EXPECT_EQ(step(&a, N), 0);
    for (int i = 1; i <= N; i++) {
        EXPECT_EQ(takt_drive_op(&drive)->arg.offset, i);
        EXPECT_EQ(drive.epoch, i - 1);
        EXPECT_EQ(takt_resume(&drive, drive.epoch, 100 + i), i == N);
    }
    EXPECT_EQ(a.sum, 100 * N + N * (N + 1) / 2);
    EXPECT_EQ(drive.epoch, N);
    EXPECT_EQ(traps, 0);
    over(&a.frame);
}

/* CO-4, CO-5 */
static void a_suspension_is_resumed_once(void)
{
    uint64_t first;
    setup();
    EXPECT_EQ(step(&a, 2), 0);
    first = drive.epoch;
    EXPECT_EQ(takt_try_resume(&drive, first + 1, 1), TAKT_ERESUME); /* it is not there yet */
    EXPECT_EQ(takt_try_resume(&drive, first, 10), 0);
    EXPECT_EQ(takt_try_resume(&drive, first, 99), TAKT_ERESUME); /* CO-5: stale */
    EXPECT_EQ(drive.epoch, first + 1);
    EXPECT_EQ(takt_drive_op(&drive)->arg.offset, 2); /* and the live step is not disturbed */
    EXPECT_EQ(traps, 0);
    EXPECT_EQ(takt_resume(&drive, first, 99), TAKT_ERESUME); /* CO-4: that is a trap */
    EXPECT_EQ(traps, 1);
    EXPECT_EQ(takt_resume(&drive, first + 1, 20), 1);
    EXPECT_EQ(a.sum, 30);
    EXPECT_EQ(takt_try_resume(&drive, first + 2, 99), TAKT_ERESUME); /* finished */
    EXPECT_EQ(takt_resume(&drive, first + 2, 99), TAKT_ERESUME);
    EXPECT_EQ(traps, 2);
    EXPECT_EQ(a.sum, 30);
    over(&a.frame);
}

/* CO-5 */
static void a_handle_of_an_earlier_coroutine_is_stale(void)
{
    uint64_t first;
    setup();
    EXPECT_EQ(step(&a, 1), 0);
    first = drive.epoch;
    EXPECT(takt_discard(&drive));
    EXPECT_EQ(step(&b, 1), 0);
    EXPECT_EQ(takt_try_resume(&drive, first, 99), TAKT_ERESUME);
    EXPECT_EQ(takt_resume(&drive, drive.epoch, 5), 1);
    EXPECT_EQ(b.sum, 5);
    over(&b.frame);
}

/* CO-6, CO-7, CO-9 */
static void a_discard_runs_the_defers_and_nothing_else_once(void)
{
    uint64_t epoch;
    setup();
    EXPECT(!takt_discard(&drive)); /* nothing is there */
    EXPECT_EQ(step(&a, 2), 0);
    epoch = drive.epoch;
    EXPECT(takt_discard(&drive));
    EXPECT(!a.ended);
    EXPECT_EQ(a.i, 1);
    EXPECT_EQ(a.sum, 0);
    EXPECT_EQ(a.defers, 1); /* CO-9, deviating: what was acquired is given back */
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    EXPECT(!takt_discard(&drive)); /* CO-7: idempotent */
    EXPECT_EQ(drive.discarded, 1);
    EXPECT_EQ(a.defers, 1);
    EXPECT_EQ(takt_try_resume(&drive, epoch, 1), TAKT_ERESUME); /* CO-6 */
    EXPECT_EQ(takt_resume(&drive, epoch, 1), TAKT_ERESUME);
    EXPECT_EQ(traps, 1);
    EXPECT_EQ(srv.asked, 0);
    over(&a.frame);

    EXPECT_EQ(step(&b, 1), 0); /* CO-7: after a resume it is a no-op */
    EXPECT_EQ(takt_resume(&drive, drive.epoch, 1), 1);
    EXPECT(!takt_discard(&drive));
    EXPECT_EQ(drive.discarded, 1);
    EXPECT_EQ(takt_error(&b.frame), 0);
}

/* Holds a descriptor, and says good-bye before it closes it. */
struct polite {
    takt_frame frame;
    int64_t rc;
    struct chain inner;
};

static TAKT_CORO(polite)
{
    TAKT_BEGIN(polite, my);
    TAKT_DEFER {
        note("(");
        TAKT_AWAIT(my->rc, takt_close(3));
        note(")");
    }
    TAKT_DEFER {
        note("<");
        TAKT_AWAIT(my->rc, echo(7)); /* in a discard this fails, and ends the block */
        note(">");
    }
    TAKT_CALL(my->inner, chain, .n = 2);
    note("!");
    TAKT_CATCH { note("?"); }
    TAKT_END;
}

static struct polite polite;

static void step_polite(void)
{
    memset(&polite, 0, sizeof polite);
    EXPECT_EQ(takt_step(&drive, &polite.frame, polite_coro), 0);
}

/* CO-8, CO-9 */
static void a_discard_reaches_every_frame_and_a_close_acts(void)
{
    setup();
    step_polite();
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT(takt_discard(&drive));
    EXPECT_TRACE("<()"); /* CO-9: a cancellation cannot be caught */
    EXPECT_EQ(polite.inner.defers, 1);
    EXPECT(takt_finished(&polite.inner.frame) && !takt_alive(&polite.inner.frame));
    EXPECT_EQ(takt_error(&polite.inner.frame), TAKT_ECANCELED);
    EXPECT_EQ(srv.closed, 1);
    EXPECT_EQ(srv.asked, 2);
    EXPECT_EQ(drive.discarded, 1);
    over(&polite.frame);
}

static void a_discard_in_the_middle_of_the_defers_ends_them(void)
{
    setup();
    step_polite();
    takt_cancel(&polite.frame);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_TRACE("<"); /* under a cancellation a defer may await */
    EXPECT_EQ(takt_drive_op(&drive)->arg.offset, 7);
    EXPECT(takt_discard(&drive));
    EXPECT_TRACE("<()");
    EXPECT_EQ(srv.closed, 1);
    over(&polite.frame);

    setup();
    test_trace[0] = '\0';
    step_polite();
    takt_cancel(&polite.frame);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(takt_drive_op(&drive)->kind, TAKT_OP_CLOSE);
    EXPECT(takt_discard(&drive)); /* at the close itself */
    EXPECT_TRACE("<>()");
    EXPECT_EQ(srv.closed, 1);
    over(&polite.frame);
}

static void a_discard_without_a_dispatcher_closes_nothing(void)
{
    setup();
    takt_drive_init(&drive, NULL);
    step_polite();
    EXPECT(takt_discard(&drive));
    EXPECT_TRACE("<(");
    EXPECT_EQ(polite.rc, -ENOTSUP);
    over(&polite.frame);
}

/* CO-13 */
static void a_frame_or_a_drive_in_use_is_refused(void)
{
    static takt_drive other;
    setup();
    takt_drive_init(&other, &dispatcher);
    EXPECT_EQ(step(&a, 1), 0);
    EXPECT_EQ(takt_step(&other, &a.frame, chain_coro), TAKT_ERUNNING);
    EXPECT_EQ(takt_step(&drive, &b.frame, chain_coro), TAKT_ERUNNING);
    EXPECT_EQ(takt_exec(&dispatcher, &a.frame, chain_coro), TAKT_ERUNNING);
    EXPECT_EQ(takt_advance(&drive), 0);
    over(&a.frame);
    EXPECT_EQ(step(&a, 1), 0); /* and once it is over it starts anew */
    EXPECT_EQ(takt_advance(&drive), 0);
    over(&a.frame);
}

/* CO-15 */
static void what_is_the_callers_stays_as_it_was(void)
{
    static const int codes[] = {0, TAKT_EMORE, TAKT_EWOULDBLOCK, -EIO};
    for (int i = 0; i < 4; i++) {
        setup();
        EXPECT_EQ(step(&a, 1), 0);
        block(codes[i] == TAKT_EWOULDBLOCK);
        srv.more = codes[i] == TAKT_EMORE;
        srv.fail = codes[i] == -EIO ? -EIO : 0;
        EXPECT_EQ(takt_advance(&drive), codes[i]);
        EXPECT(a.context == 0x1234567890abcdef);
        EXPECT_EQ(takt_finished(&a.frame), takt_is_progress(codes[i]));
        takt_discard(&drive);
        EXPECT(a.context == 0x1234567890abcdef);
    }
}

/* -- advance --------------------------------------------------------------------------- */

/* DX-10, DX-11, OC-7: advance, OK */
static void an_advance_asks_once_and_runs_on(void)
{
    setup();
    srv.value = 99;
    EXPECT_EQ(step(&a, 1), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(a.sum, 99);
    EXPECT_EQ(srv.asked, 1);
    over(&a.frame);
    EXPECT_EQ(step(&a, 2), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(srv.asked, 2);
    EXPECT_EQ(drive.epoch, 2);
    EXPECT_EQ(takt_drive_op(&drive)->arg.offset, 2);
    EXPECT(!takt_finished(&a.frame));
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(srv.sleeps, 0);
    over(&a.frame);
}

/* DX-12, OC-7: advance, More */
static void more_runs_on_and_is_told(void)
{
    setup();
    srv.value = 77;
    srv.more = true;
    EXPECT_EQ(step(&a, 2), 0);
    EXPECT_EQ(takt_advance(&drive), TAKT_EMORE);
    EXPECT_EQ(drive.epoch, 1);
    EXPECT_EQ(takt_advance(&drive), TAKT_EMORE);
    EXPECT_EQ(a.sum, 154);
    over(&a.frame);
}

/* DX-9, DX-10, DX-13, DX-14, OC-7: advance, WouldBlock and Failure */
static void would_block_and_failure_change_nothing(void)
{
    const takt_op *op;
    setup();
    EXPECT_EQ(step(&a, 1), 0);
    op = takt_drive_op(&drive);
    block(100);
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(takt_advance(&drive), TAKT_EWOULDBLOCK);
    block(0);
    srv.fail = -EIO;
    EXPECT_EQ(takt_advance(&drive), -EIO);
    EXPECT_EQ(srv.asked, 101);
    EXPECT_EQ(srv.sleeps, 0);
    EXPECT_EQ(drive.epoch, 0);
    EXPECT(drive.frame == &a.frame && takt_drive_op(&drive) == op);
    EXPECT_EQ(op->arg.offset, 1);
    EXPECT_EQ(a.sum, 0);
    EXPECT_EQ(drive.discarded, 0); /* DX-14: the decision is yours: again, */
    srv.fail = 0;
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(a.sum, 1);
    over(&a.frame);
    srv.fail = -EIO;
    EXPECT_EQ(step(&a, 1), 0); /* or thrown in the coroutine */
    EXPECT_EQ(takt_resume(&drive, drive.epoch, takt_advance(&drive)), 1);
    EXPECT_EQ(takt_error(&a.frame), -EIO);
    over(&a.frame);
}

/* DX-8 */
static void an_op_nobody_knows_is_a_failure(void)
{
    setup();
    EXPECT_EQ(step(&a, 1), 0);
    takt_drive_op(&drive)->kind = UNHEARD_OF;
    EXPECT_EQ(takt_advance(&drive), -ENOSYS);
    EXPECT(takt_discard(&drive));
    takt_drive_init(&drive, NULL); /* and so is a dispatcher that is not there */
    EXPECT_EQ(step(&a, 1), 0);
    EXPECT_EQ(takt_advance(&drive), -ENOTSUP);
    dispatcher.dispatch = NULL;
    drive.dispatcher = &dispatcher;
    EXPECT_EQ(takt_advance(&drive), -ENOTSUP);
    EXPECT(takt_discard(&drive));
}

/* DX-15 */
static void to_advance_what_is_finished_is_a_mistake(void)
{
    setup();
    EXPECT_EQ(takt_advance(&drive), TAKT_ERESUME);
    EXPECT_EQ(traps, 1);
    EXPECT_EQ(step(&a, 1), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(takt_advance(&drive), TAKT_ERESUME);
    EXPECT_EQ(traps, 2);
    EXPECT_EQ(srv.asked, 1);
    EXPECT_EQ(a.sum, 1);
}

/* A dispatcher that has gone ahead: it resumed or discarded, and then answers. */
static int go_ahead(void *user, takt_op *op, int64_t *value)
{
    (void)op;
    *value = 5;
    if (user)
        EXPECT(takt_discard(&drive));
    else
        EXPECT_EQ(takt_resume(&drive, drive.epoch, 1000), 0);
    return 0;
}

static void a_dispatcher_may_resume_or_discard_itself(void)
{
    setup();
    dispatcher.dispatch = go_ahead;
    dispatcher.user = NULL;
    dispatcher.now = NULL;
    EXPECT_EQ(step(&a, 2), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(a.sum, 1000); /* not both */
    EXPECT_EQ(drive.epoch, 1);
    dispatcher.user = &srv;
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    over(&a.frame);
    EXPECT_EQ(traps, 0);
}

/* -- exec -------------------------------------------------------------------------------- */

/* DX-1 */
static void exec_of_what_has_no_op_asks_nobody(void)
{
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain), 0);
    EXPECT(a.ended);
    EXPECT_EQ(srv.asked, 0);
    EXPECT(takt_finished(&a.frame) && !takt_alive(&a.frame));
}

/* DX-2, DX-3, OC-7: exec, OK */
static void exec_asks_once_an_op_in_the_order_of_the_program(void)
{
    setup();
    srv.value = 42;
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 1), 0);
    EXPECT_EQ(a.sum, 42);
    EXPECT_EQ(srv.asked, 1);
    EXPECT_EQ(srv.numbers[0], 1);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 20, .i = 3), 0);
    EXPECT_EQ(a.sum, 20 * 42);
    EXPECT_EQ(srv.asked, 21);
    for (int i = 0; i < 20; i++)
        EXPECT_EQ(srv.numbers[1 + i], i + 1);
    EXPECT_EQ(srv.sleeps, 0);
}

/* DX-4, DX-5, DX-9, ER-13, OC-7: exec, WouldBlock */
static void exec_sleeps_while_it_would_block(void)
{
    setup();
    srv.value = 42;
    block(5);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 1), 0);
    EXPECT_EQ(srv.asked, 6);
    EXPECT_EQ(srv.sleeps, 5);
    EXPECT_EQ(a.sum, 42);
    for (int i = 0; i < 5; i++)
        EXPECT(about(srv.slept[i], nominal(i, 500 * TAKT_US, 100 * TAKT_MS)));
    setup();
    block(4);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 3), 0);
    EXPECT_EQ(srv.sleeps, 12);
    for (int i = 0; i < 12; i++) /* DX-5: each op begins anew */
        EXPECT(about(srv.slept[i], nominal(i % 4, 500 * TAKT_US, 100 * TAKT_MS)));
    EXPECT_EQ(dispatcher.backoff.block, 0); /* the pattern is not touched */
    EXPECT_EQ(dispatcher.backoff.seed, 0);
}

/* DX-6, OC-7: exec, More */
static void exec_takes_more_for_done(void)
{
    setup();
    srv.more = true;
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 4), 0);
    EXPECT_EQ(a.sum, 10);
    EXPECT_EQ(srv.asked, 4);
}

/* DX-7, DX-8, ER-13, OC-7: exec, Failure */
static void exec_discards_when_the_dispatcher_fails(void)
{
    setup();
    srv.fail = -EIO;
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 4), -EIO);
    EXPECT_EQ(srv.asked, 1);
    EXPECT_EQ(a.defers, 1);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED); /* it was not its own error */
    EXPECT(!takt_alive(&a.frame));
    srv.fail = 0;
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 4), 0);
    EXPECT_EQ(a.sum, 10);
}

static void a_frame_on_the_stack_can_be_executed(void)
{
    struct chain local;
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, local, chain, .n = 3), 0);
    EXPECT_EQ(local.sum, 6);
}

/* -- errors ------------------------------------------------------------------------------- */

struct thrower {
    takt_frame frame;
    int error;       /* in: 0: none */
    int in_catch;    /* in: thrown by the catch, if not 0 */
    bool echo_first; /* in */
    bool has_catch;  /* in */
    bool clean_up;   /* in: the catch awaits, and throws again */
    int64_t value;
    bool after;
    int caught;
};

static TAKT_CORO(thrower)
{
    TAKT_BEGIN(thrower, my);
    TAKT_DEFER { note("d"); }
    if (my->echo_first) {
        TAKT_AWAIT(my->value, echo(42));
        my->value++;
    }
    if (my->error)
        TAKT_THROW(my->error);
    my->after = true;
    TAKT_CATCH {
        my->caught = my->frame.error;
        if (!my->has_catch)
            TAKT_THROW(my->frame.error);
        if (my->clean_up) {
            TAKT_AWAIT(my->value, echo(50));
            TAKT_THROW(my->caught);
        }
        if (my->in_catch)
            TAKT_THROW(my->in_catch);
        my->value = -my->caught;
    }
    TAKT_END;
}

static struct thrower t;

/* ER-1, ER-2, ER-3, ER-14, OC-7: an error is nobody's op */
static void an_error_or_a_result_never_both(void)
{
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .echo_first = true), 0);
    EXPECT_EQ(t.value, 43); /* ER-1 */
    EXPECT_EQ(takt_error(&t.frame), 0);
    EXPECT(t.after);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .error = -EPERM, .echo_first = true), -EPERM);
    EXPECT_EQ(takt_error(&t.frame), -EPERM); /* ER-2 */
    EXPECT(!t.after);
    EXPECT(takt_finished(&t.frame) && !takt_alive(&t.frame));
    EXPECT_TRACE("dd");
    EXPECT_EQ(srv.asked, 2);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .error = -EPERM), -EPERM);
    EXPECT_EQ(srv.asked, 2); /* ER-3: a throw is nothing for the dispatcher */
    EXPECT_EQ(logged[0], '\0'); /* whoever drives has the error: nobody else is told */
}

/* ER-4, ER-5, ER-8 */
static void a_catch_recovers(void)
{
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .error = -EPERM, .has_catch = true), 0);
    EXPECT_EQ(t.caught, -EPERM); /* ER-4 */
    EXPECT_EQ(t.value, EPERM);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .has_catch = true), 0);
    EXPECT_EQ(t.caught, 0); /* ER-5 */
    EXPECT(t.after);
    EXPECT_EQ(srv.asked, 0);
    memset(&t, 0, sizeof t); /* ER-8, deviating: a catch is no op, and costs no advance */
    t.error = -EPERM;
    t.has_catch = true;
    EXPECT_EQ(takt_step(&drive, &t.frame, thrower_coro), 1);
    EXPECT_EQ(t.caught, -EPERM);
}

/* Calls one that throws; goes on after the catch of its own callee. */
struct outer {
    takt_frame frame;
    struct thrower inner;
    int in_catch; /* in: of the inner one */
    bool try_it;  /* in: TRY_CALL */
    int err, caught;
    bool after;
};

static TAKT_CORO(outer)
{
    TAKT_BEGIN(outer, my);
    if (my->try_it) {
        TAKT_TRY_CALL(my->err, my->inner, thrower, .error = -EPERM, .echo_first = true);
    } else {
        TAKT_CALL(my->inner, thrower, .error = -EPERM, .has_catch = true,
                  .in_catch = my->in_catch);
    }
    my->after = true;
    TAKT_CATCH { my->caught = my->frame.error; }
    TAKT_END;
}

static struct outer o;

/* ER-4, ER-6, ER-14 */
static void a_throw_in_a_catch_goes_to_the_next_one_out(void)
{
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, o, outer), 0);
    EXPECT(o.after && o.caught == 0); /* ER-4: the caller goes on */
    EXPECT_EQ(TAKT_EXEC(&dispatcher, o, outer, .in_catch = -EIO), 0);
    EXPECT_EQ(o.inner.caught, -EPERM);
    EXPECT_EQ(o.caught, -EIO); /* ER-6 */
    EXPECT(!o.after);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .error = -EPERM, .in_catch = -EIO,
                        .has_catch = true),
              -EIO); /* without an outer one it is the result */
    EXPECT_EQ(TAKT_EXEC(&dispatcher, o, outer, .try_it = true), 0);
    EXPECT_EQ(o.err, -EPERM); /* ER-14: the error as a value */
    EXPECT(o.after && o.caught == 0);
}

/* ER-7, ER-16 */
static void a_catch_may_await_and_throw_again(void)
{
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .error = -EPERM, .has_catch = true,
                        .clean_up = true),
              -EPERM); /* ER-16: the same error */
    EXPECT_EQ(t.value, 50); /* ER-7, deviating: better */
    EXPECT_EQ(srv.asked, 1);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, t, thrower, .has_catch = true, .clean_up = true), 0);
    EXPECT_EQ(srv.asked, 1); /* ER-16: not without a throw */
}

/* ER-9, ER-10, ER-11 */
static void throwing_costs_no_advance_and_frees_once(void)
{
    static const int codes[] = {0, TAKT_EMORE, TAKT_EWOULDBLOCK, -EIO};
    for (int i = 0; i < 4; i++) {
        setup();
        test_trace[0] = '\0';
        memset(&t, 0, sizeof t);
        t.echo_first = true;
        t.error = -EPERM;
        EXPECT_EQ(takt_step(&drive, &t.frame, thrower_coro), 0);
        EXPECT(!takt_finished(&t.frame)); /* ER-11: that is the third state */
        EXPECT_EQ(takt_error(&t.frame), 0);
        block(codes[i] == TAKT_EWOULDBLOCK);
        srv.more = codes[i] == TAKT_EMORE;
        srv.fail = codes[i] == -EIO ? -EIO : 0;
        EXPECT_EQ(takt_advance(&drive), codes[i]); /* ER-10 */
        EXPECT_EQ(takt_finished(&t.frame), takt_is_progress(codes[i]));
        if (!takt_is_progress(codes[i])) {
            block(0);
            srv.fail = 0;
            EXPECT_EQ(takt_advance(&drive), 0);
        }
        EXPECT_EQ(takt_error(&t.frame), -EPERM); /* ER-9 */
        EXPECT_TRACE("d");
        over(&t.frame);
    }
}

/* Acquires, uses, releases. */
struct bracket {
    takt_frame frame;
    int acquire, use, release; /* in: errors */
    int released;
    int64_t got;
};

static TAKT_CORO(bracket)
{
    TAKT_BEGIN(bracket, my);
    TAKT_CHECK(my->acquire);
    TAKT_DEFER {
        my->released++;
        TAKT_AWAIT(my->got, echo(3)); /* it may await */
        TAKT_CHECK(my->release);
    }
    TAKT_AWAIT(my->got, echo(1));
    TAKT_CHECK(my->use);
    TAKT_END;
}

/* ER-15 */
static void what_was_acquired_is_released_once(void)
{
    static struct bracket k;
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, k, bracket), 0);
    EXPECT_EQ(k.released, 1);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, k, bracket, .use = -EPERM), -EPERM);
    EXPECT_EQ(k.released, 1);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, k, bracket, .acquire = -EIO), -EIO);
    EXPECT_EQ(k.released, 0);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, k, bracket, .use = -EPERM, .release = -EBADF), -EPERM);
    EXPECT_EQ(k.released, 1); /* deviating: an error of the release ends only that */
}

/* BK-7: an error of the op is the coroutine's; the dispatcher has not failed. */
static void a_negative_value_is_thrown(void)
{
    setup();
    srv.value = -ECONNRESET;
    EXPECT_EQ(TAKT_EXEC(&dispatcher, a, chain, .n = 3), -ECONNRESET);
    EXPECT_EQ(takt_error(&a.frame), -ECONNRESET);
    EXPECT_EQ(srv.asked, 1);
}

/* -- what else a drive can and cannot ------------------------------------------------------- */

struct member {
    takt_frame frame;
};

static TAKT_CORO(member)
{
    TAKT_BEGIN(member, my);
    note("m");
    TAKT_END;
}

enum word { START, WITHIN, ALL, ANY, OPENS, SPAWN, GO, IDLE, NONE_AT_ALL, YIELDS, JOINS };

struct speaker {
    takt_frame frame;
    enum word word;    /* in */
    bool return_early; /* in: without another await */
    struct member child;
    takt_group group;
    takt_idle idle;
    takt_op ops[2];
    takt_stream stream;
    int64_t got;
    int winner;
    bool refused, after;
};

static TAKT_CORO(speaker)
{
    TAKT_BEGIN(speaker, my);
    TAKT_DEFER { note("d"); }
    if (my->word == START)
        TAKT_START(my->child, member);
    if (my->word == WITHIN)
        TAKT_CALL_WITHIN(TAKT_SEC, my->child, member);
    if (my->word == ALL) {
        my->ops[0] = my->ops[1] = echo(1);
        TAKT_AWAIT_ALL(my->ops, 2);
    }
    if (my->word == ANY) {
        my->ops[0] = my->ops[1] = echo(1);
        TAKT_AWAIT_ANY(my->winner, my->ops, 2);
    }
    if (my->word == OPENS)
        TAKT_OPEN(my->stream, takt_every(TAKT_MS));
    if (my->word == SPAWN)
        my->refused = !TAKT_SPAWN(member);
    if (my->word == GO)
        my->refused = !TAKT_GO(my->group, member);
    if (my->word == IDLE)
        takt_idle_start(&my->frame, &my->idle, TAKT_SEC);
    if (my->word == YIELDS)
        TAKT_YIELD;
    if (my->word == JOINS) {
        TAKT_JOIN();
        TAKT_JOIN_GROUP(my->group);
        TAKT_AWAIT_ALL(my->ops, 0);
    }
    if (!my->return_early)
        TAKT_AWAIT(my->got, echo(1));
    my->after = true;
    TAKT_END;
}

static struct speaker speaker;

static void what_needs_a_loop_is_refused_by_name(void)
{
    static const char *const names[] = {"TAKT_START needs", "TAKT_CALL_WITHIN needs",
                                        "TAKT_AWAIT_ALL needs", "TAKT_AWAIT_ANY needs",
                                        "TAKT_OPEN needs", "TAKT_SPAWN needs",
                                        "TAKT_GO needs", "takt_idle_start needs"};
    for (int i = START; i <= IDLE; i++) {
        for (int early = 0; early < 2; early++) {
            setup();
            test_trace[0] = '\0';
            EXPECT_EQ(TAKT_EXEC(&dispatcher, speaker, speaker, .word = (enum word)i,
                                .return_early = early == 1),
                      -ENOTSUP);
            EXPECT(strstr(logged, names[i]));
            EXPECT(strstr(logged, "speaker"));
            EXPECT_EQ(srv.asked, 0);
            EXPECT_TRACE("d");
            EXPECT_EQ(speaker.refused, i == SPAWN || i == GO);
            EXPECT(speaker.after == (early == 1 && i >= SPAWN));
            EXPECT(!takt_alive(&speaker.child.frame));
            EXPECT_EQ(traps, 0);
        }
    }
}

static void what_needs_none_works(void)
{
    for (int i = NONE_AT_ALL; i <= JOINS; i++) {
        setup();
        EXPECT_EQ(TAKT_EXEC(&dispatcher, speaker, speaker, .word = (enum word)i), 0);
        EXPECT(speaker.after);
        EXPECT_EQ(srv.asked, 1);
        EXPECT_EQ(logged[0], '\0');
    }
}

static void nothing_starts_on_a_drive_from_outside(void)
{
    static struct member m;
    setup();
    for (int i = 0; i < 2; i++) {
        EXPECT(!TAKT_START_ON(&drive, m, member));
        EXPECT(!TAKT_SPAWN_ON(&drive, member));
        EXPECT_EQ(step(&a, 1), 0);
        EXPECT(!TAKT_START_ON(&drive, m, member));
        EXPECT_EQ(takt_advance(&drive), 0);
        over(&a.frame);
    }
    EXPECT_TRACE("");
}

/* A group of a loop's: nobody here could ever wake its owner. */
struct lingerer {
    takt_frame frame;
    takt_group *group;
};

static TAKT_CORO(lingerer)
{
    TAKT_BEGIN(lingerer, my);
    TAKT_JOIN_GROUP(*my->group);
    TAKT_END;
}

static void a_wait_that_only_a_loop_could_end_is_refused(void)
{
    static struct lingerer l;
    static takt_group group;
    setup();
    group.count = 1; /* somebody is in it, elsewhere */
    EXPECT_EQ(TAKT_EXEC(&dispatcher, l, lingerer, .group = &group), -ENOTSUP);
    EXPECT(strstr(logged, "needs a loop"));
}

static void a_cancel_takes_the_place_of_the_next_dispatch(void)
{
    setup();
    EXPECT_EQ(step(&a, 3), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    takt_cancel(&a.frame);
    takt_cancel(&a.frame);
    EXPECT(takt_alive(&a.frame)); /* it returns at once */
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(srv.asked, 1);
    EXPECT_EQ(a.defers, 1);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    over(&a.frame);
    EXPECT_EQ(step(&a, 2), 0); /* what completed before it was told is delivered */
    takt_cancel(&a.frame);
    EXPECT_EQ(takt_resume(&drive, drive.epoch, 5), 1);
    EXPECT_EQ(a.sum, 5);
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
    over(&a.frame);
    step_polite(); /* only what was called */
    takt_cancel(&polite.inner.frame);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_TRACE("?<"); /* it throws in the caller, where it can be caught */
    EXPECT(takt_discard(&drive));
}

/* A body that lays hands on what drives it. */
struct meddler {
    takt_frame frame;
    int advanced, resumed, stepped;
    bool discarded;
};

static TAKT_CORO(meddler)
{
    TAKT_BEGIN(meddler, my);
    TAKT_AWAIT(echo(1));
    my->advanced = takt_advance(&drive);
    my->resumed = takt_try_resume(&drive, drive.epoch, 1);
    my->stepped = takt_step(&drive, &b.frame, chain_coro);
    my->discarded = takt_discard(&drive);
    TAKT_END;
}

static void a_body_cannot_drive_itself(void) /* LP-51, for a drive */
{
    static struct meddler m;
    setup();
    memset(&m, 0, sizeof m);
    EXPECT_EQ(takt_step(&drive, &m.frame, meddler_coro), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(m.advanced, TAKT_ERESUME);
    EXPECT_EQ(m.resumed, TAKT_ERESUME);
    EXPECT_EQ(m.stepped, TAKT_ERUNNING);
    EXPECT(!m.discarded);
    EXPECT_EQ(traps, 1);
    EXPECT_EQ(takt_error(&m.frame), 0);
    over(&m.frame);
}

struct asker {
    takt_frame frame;
    int fd;
    takt_ns now;
    bool stopping;
};

static TAKT_CORO(asker)
{
    TAKT_BEGIN(asker, my);
    my->fd = takt_socket(&my->frame, 1, 1, 0);
    my->now = takt_now(&my->frame);
    TAKT_AWAIT(echo(1));
    takt_stop(takt_sched_of(&my->frame), TAKT_FOREVER);
    my->stopping = takt_stopping(&my->frame);
    TAKT_AWAIT(echo(2)); /* what runs may finish */
    TAKT_AWAIT(takt_accept(3, NULL));
    TAKT_END;
}

static void calls_and_the_clock_are_the_dispatchers(void)
{
    static struct asker asker;
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, asker, asker), TAKT_ESTOPPING);
    EXPECT_EQ(asker.fd, 44);
    EXPECT_EQ(srv.calls, 1);
    EXPECT_EQ(asker.now, 1001);
    EXPECT(asker.stopping);
    dispatcher.now = NULL;
    memset(&asker, 0, sizeof asker);
    EXPECT_EQ(takt_step(&drive, &asker.frame, asker_coro), 0);
    EXPECT(asker.now > 0); /* the system's */
    EXPECT(takt_discard(&drive));
    takt_drive_init(&drive, NULL);
    memset(&asker, 0, sizeof asker);
    EXPECT_EQ(takt_step(&drive, &asker.frame, asker_coro), 0);
    EXPECT_EQ(asker.fd, -ENOTSUP);
    EXPECT(takt_discard(&drive));
}

struct careless {
    takt_frame frame;
    int64_t got;
    bool address; /* in */
};

static TAKT_CORO(careless)
{
    TAKT_BEGIN(careless, my);
    if (my->address) {
        takt_addr local;
        TAKT_AWAIT(takt_connect(3, &local));
    } else {
        char local[8];
        TAKT_AWAIT(my->got, takt_op_user(ECHO, local, 1));
    }
    TAKT_END;
}

static void an_op_that_points_into_the_stack_is_refused(void)
{
    static struct careless c;
    setup();
    memset(&c, 0, sizeof c);
    EXPECT_EQ(takt_step(&drive, &c.frame, careless_coro), 1);
    EXPECT_EQ(takt_error(&c.frame), TAKT_ESTACK);
    EXPECT(strstr(logged, "careless"));
    EXPECT_EQ(TAKT_EXEC(&dispatcher, c, careless), TAKT_ESTACK);
    EXPECT_EQ(TAKT_EXEC(&dispatcher, c, careless, .address = true), TAKT_ESTACK);
    EXPECT_EQ(srv.asked, 0);
}

static void ops_of_ones_own_are_nothing_to_the_system(void)
{
    takt_op op = takt_op_user(255, &srv, 12);
    EXPECT_EQ(op.kind, 255);
    EXPECT(op.buf == &srv && op.arg.offset == 12 && op.fd == -1);
    EXPECT(strcmp(takt_op_name(op.kind), "unknown") == 0);
}

/* -- a loop, to compare with ----------------------------------------------------------------- */

typedef struct stub_config {
    int unused;
} stub_config;

/* Every op is answered by the dispatcher at the next poll, or held until it is cancelled. */
typedef struct stub {
    takt_op *first, *last;
} stub;

static int stub_init(stub *s, const stub_config *config, const takt_slots *slots)
{
    (void)config;
    (void)slots;
    memset(s, 0, sizeof *s);
    return 0;
}

static void stub_free(stub *s)
{
    (void)s;
}

static takt_ns stub_now(stub *s)
{
    (void)s;
    return srv.asked * 10 * TAKT_MS;
}

static void stub_queue(stub *s, takt_op *op)
{
    op->next = NULL;
    if (s->first)
        s->last->next = op;
    else
        s->first = op;
    s->last = op;
}

static int stub_submit(stub *s, takt_op *op, takt_token *token)
{
    (void)token;
    op->state = 0;
    if (op->kind != TAKT_OP_RECV)
        stub_queue(s, op);
    return 0;
}

static void stub_cancel(stub *s, takt_op *op)
{
    if (op->kind != TAKT_OP_RECV)
        return; /* too late */
    op->state = 1;
    stub_queue(s, op);
}

static int stub_poll(stub *s, takt_completion *out, int max, takt_ns wait)
{
    int count = 0;
    (void)wait;
    for (; s->first && count < max; count++) {
        takt_op *const op = s->first;
        s->first = op->next;
        memset(&out[count], 0, sizeof *out);
        out[count].token = takt_token_of(op);
        if (op->state)
            out[count].error = -ECANCELED;
        else
            out[count].error = serve(&srv, op, &out[count].value);
    }
    if (!count)
        srv.asked++; /* time passes */
    return count ? count : TAKT_EWOULDBLOCK;
}

static void stub_flush(stub *s)
{
    (void)s;
}

static bool stub_busy(stub *s)
{
    return s->first != NULL;
}

static int stub_fd(stub *s)
{
    (void)s;
    return -1;
}

static int64_t stub_call(stub *s, takt_op *op)
{
    (void)s;
    (void)op;
    return -ENOTSUP;
}

TAKT_LOOP(world, stub);
TAKT_LOOP(net, takt_posix);
static world loop;

static void the_systems_backend_does_not_know_ops_of_ones_own(void)
{
    static net real;
    net_config config = net_defaults();
    setup();
    EXPECT_EQ(net_init(&real, &config), 0);
    EXPECT(TAKT_START_ON(&real, a, chain, .n = 1));
    EXPECT_EQ(net_run(&real), -ENOTSUP);
    EXPECT_EQ(takt_error(&a.frame), -ENOTSUP);
    EXPECT_EQ(net_free(&real), 0);
}

/* -- bodies by hand --------------------------------------------------------------------------- */

/* By hand, with all there is: waits, calls, unwinds with an await. */
struct worker {
    takt_frame frame;
    int n;          /* in: echos of the callee */
    bool hold;      /* in: then waits until it is stopped */
    takt_ns limit;  /* in: at most so long */
    int error;      /* in: ends with it */
    char byte;
    takt_idle idle;
    struct chain inner;
    int64_t seen; /* what the last wait yielded */
    int64_t good_bye;
};

enum { CALLED = 1, HELD, SAID_GOOD_BYE };

static TAKT_CORO(worker)
{
    static const takt_coro coro = {worker_coro, "worker", __FILE__, __LINE__,
                                   sizeof(struct worker)};
    struct worker *my = (struct worker *)(void *)takt_self;
    const int64_t got = takt_result(takt_self);
    switch (takt_enter(takt_self, &coro)) {
    case 0:
        EXPECT_EQ(got, 0);
        note("w");
        if (my->limit)
            takt_idle_start(takt_self, &my->idle, my->limit);
        memset(&my->inner, 0, sizeof my->inner);
        my->inner.n = my->n;
        return takt_call(takt_self, &my->inner.frame, chain_coro, CALLED);
    case CALLED:
        my->seen = got;
        if (got >= 0 && my->hold)
            return takt_yield(takt_self, takt_recv(3, &my->byte, 1), HELD);
        break;
    case HELD:
        my->seen = got;
        EXPECT_EQ(takt_result(takt_self), got); /* to look twice is no mistake */
        break;
    case SAID_GOOD_BYE:
        my->good_bye = got;
        note(".");
        return takt_finish(takt_self, 0);
    default:
        return takt_finish(takt_self, 0);
    }
    takt_unwind(takt_self, my->seen < 0 ? (int)my->seen : my->error);
    return takt_yield(takt_self, echo(9), SAID_GOOD_BYE);
}

static struct worker w;

/* Four styles under three drivers. */
typedef struct style {
    takt_frame *frame;
    takt_body *body;
    const int64_t *sum;
} style;

static struct by_hand hand;

static style prepare(int which, int depth)
{
    style s;
    if (which == 0) {
        memset(&a, 0, sizeof a);
        a.n = depth;
        s.frame = &a.frame;
        s.body = chain_coro;
        s.sum = &a.sum;
    } else if (which == 1) {
        memset(&hand, 0, sizeof hand);
        hand.n = depth;
        s.frame = &hand.frame;
        s.body = by_hand_coro;
        s.sum = &hand.sum;
    } else if (which == 2) {
        memset(nodes, 0, sizeof nodes);
        nodes_used = 1;
        nodes[0].first = 1;
        nodes[0].n = depth;
        s.frame = &nodes[0].frame;
        s.body = nested_coro;
        s.sum = &nodes[0].sum;
    } else {
        memset(&w, 0, sizeof w);
        w.n = depth - 1; /* and one for the good-bye */
        s.frame = &w.frame;
        s.body = worker_coro;
        s.sum = &w.inner.sum;
    }
    return s;
}

static int run_by(int driver, style s)
{
    world_config config = world_defaults();
    int rc = 0;
    if (driver == 0)
        return takt_exec(&dispatcher, s.frame, s.body);
    if (driver == 1) {
        rc = takt_step(&drive, s.frame, s.body);
        while (takt_drive_op(&drive))
            rc = takt_advance(&drive);
        return rc < 0 ? rc : takt_error(s.frame);
    }
    EXPECT_EQ(world_init(&loop, &config), 0);
    EXPECT(world_submit(&loop, s.frame, s.body) >= 0);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(world_free(&loop), 0);
    return takt_error(s.frame);
}

/* DX-16, CO-17, BR-1, BR-2, BR-3, BR-5 */
static void every_style_is_the_same_under_every_driver(void)
{
    for (int depth = 1; depth <= 16; depth++)
        for (int which = 0; which < 4; which++)
            for (int driver = 0; driver < 3; driver++) {
                style s;
                setup();
                srv.value = 7;
                s = prepare(which, depth);
                EXPECT_EQ(run_by(driver, s), 0);
                EXPECT_EQ(*s.sum, 7 * (which == 3 ? depth - 1 : depth)); /* DX-16 */
                EXPECT_EQ(srv.count, depth);
                for (int i = 0; i < srv.count - (which == 3); i++)
                    EXPECT_EQ(srv.numbers[i], i + 1); /* BR-3: the same ops in one order */
                EXPECT(takt_finished(s.frame) && !takt_alive(s.frame));
            }
}

/* BR-1, BR-2: echo 42 and 1 more, in both styles: 43. */
static void both_flavours_give_43(void)
{
    for (int which = 0; which < 2; which++)
        for (int driver = 0; driver < 3; driver++) {
            style s;
            setup();
            s = prepare(which, 1);
            srv.value = 42;
            EXPECT_EQ(run_by(driver, s) + *s.sum + 1, 43);
        }
}

/* BR-4: a frame runs nothing before its step. */
static void nothing_runs_before_the_step(void)
{
    setup();
    memset(&a, 0, sizeof a);
    a.n = 1;
    EXPECT(!a.began);
    EXPECT_EQ(takt_step(&drive, &a.frame, chain_coro), 0);
    EXPECT(a.began);
    EXPECT(takt_discard(&drive));
}

static void a_body_by_hand_fails_as_it_likes(void)
{
    for (int driver = 0; driver < 2; driver++) {
        style s;
        setup();
        s = prepare(3, 2);
        w.error = -EPROTO;
        EXPECT_EQ(run_by(driver, s), -EPROTO);
        EXPECT_EQ(w.good_bye, 9);
        setup();
        srv.value = -EIO; /* an error of the callee */
        s = prepare(3, 2);
        EXPECT_EQ(run_by(driver, s), -EIO);
        EXPECT_EQ(w.inner.defers, 1);
        EXPECT_EQ(w.good_bye, -EIO);
    }
    setup();
    EXPECT_EQ(TAKT_EXEC(&dispatcher, w, worker, .error = 5), TAKT_ERANGE); /* not negative */
}

static void a_body_by_hand_is_cancelled_and_discarded(void)
{
    style s;
    setup();
    s = prepare(3, 2);
    w.hold = true;
    EXPECT_EQ(takt_step(&drive, s.frame, s.body), 0);
    EXPECT_EQ(takt_advance(&drive), 0);
    takt_cancel(&w.frame);
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(w.seen, TAKT_ECANCELED);
    EXPECT_EQ(takt_drive_op(&drive)->arg.offset, 9); /* unwinding, it may await */
    EXPECT_EQ(takt_advance(&drive), 0);
    EXPECT_EQ(w.good_bye, 9);
    EXPECT_EQ(takt_error(&w.frame), TAKT_ECANCELED);
    over(&w.frame);
    setup();
    s = prepare(3, 2);
    w.hold = true;
    EXPECT_EQ(takt_step(&drive, s.frame, s.body), 0);
    EXPECT(takt_discard(&drive)); /* in the callee */
    EXPECT_EQ(w.seen, TAKT_ECANCELED);
    EXPECT_EQ(w.good_bye, TAKT_ECANCELED);
    EXPECT_EQ(srv.asked, 0);
    EXPECT_TRACE("w.w.");
    over(&w.frame);
}

/* -- bodies by hand on a loop ------------------------------------------------------------ */

/* The words work with what was written by hand. */
struct employer {
    takt_frame frame;
    struct worker called, started;
    takt_group group;
    bool spawned;
};

static TAKT_CORO(employer)
{
    TAKT_BEGIN(employer, my);
    my->spawned = TAKT_SPAWN(worker, .n = 1);
    my->spawned = my->spawned && TAKT_GO(my->group, worker, .n = 3);
    TAKT_START(my->started, worker, .n = 4);
    TAKT_CALL(my->called, worker, .n = 2);
    TAKT_JOIN(my->started);
    TAKT_JOIN_GROUP(my->group);
    TAKT_END;
}

static struct employer employer;

static void open_loop(void)
{
    world_config config = world_defaults();
    setup();
    test_trace[0] = '\0';
    TAKT_POOL(config, worker, 4);
    config.loop.strands = 8;
    config.loop.reap_limit = TAKT_SEC;
    EXPECT_EQ(world_init(&loop, &config), 0);
}

static void close_loop(void)
{
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT_EQ(loop.sched.pending, 0);
    EXPECT_EQ(world_free(&loop), 0);
    EXPECT_EQ(traps, 0);
}

static void by_hand_it_can_be_called_started_and_spawned(void)
{
    open_loop();
    EXPECT(TAKT_START_ON(&loop, employer, employer));
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT(employer.spawned);
    EXPECT_EQ(takt_error(&employer.frame), 0);
    EXPECT_EQ(employer.called.inner.sum, 3);
    EXPECT_EQ(employer.started.inner.sum, 10);
    EXPECT_EQ(srv.count, 1 + 3 + 4 + 2 + 4); /* and four good-byes */
    EXPECT_TRACE("wwww....");
    close_loop();
}

static void by_hand_it_is_cancelled_on_a_loop(void)
{
    open_loop();
    for (int i = 0; i < 2; i++) { /* and the strand it left behind is like new */
        memset(&w, 0, sizeof w);
        w.hold = true;
        EXPECT_EQ(world_submit(&loop, &w.frame, worker_coro), 0);
        takt_cancel(&w.frame);
        EXPECT_EQ(world_run(&loop), 0);
        EXPECT_EQ(w.seen, TAKT_ECANCELED);
        EXPECT_EQ(w.good_bye, 9);
        EXPECT_EQ(takt_error(&w.frame), TAKT_ECANCELED);
    }
    close_loop();
}

static void by_hand_it_is_told_why_it_was_interrupted(void)
{
    open_loop();
    memset(&w, 0, sizeof w);
    w.hold = true;
    w.limit = 50 * TAKT_MS;
    EXPECT_EQ(world_submit(&loop, &w.frame, worker_coro), 0);
    EXPECT_EQ(world_run(&loop), -ETIMEDOUT);
    EXPECT_EQ(w.seen, -ETIMEDOUT); /* not just that it was */
    EXPECT_EQ(w.good_bye, 9);
    EXPECT_EQ(takt_error(&w.frame), -ETIMEDOUT);
    EXPECT_EQ(loop.sched.stats.failed, 1); /* the result tells of it, no line does */
    close_loop();
}

/* Waits for what does not come, is told so, and does something else. */
struct patient {
    takt_frame frame;
    takt_idle idle;
    char byte;
    int64_t seen, then;
};

static TAKT_CORO(patient)
{
    static const takt_coro coro = {patient_coro, "patient", __FILE__, __LINE__,
                                   sizeof(struct patient)};
    struct patient *my = (struct patient *)(void *)takt_self;
    const int64_t got = takt_result(takt_self);
    switch (takt_enter(takt_self, &coro)) {
    case 0:
        takt_idle_start(takt_self, &my->idle, 50 * TAKT_MS);
        return takt_yield(takt_self, takt_recv(3, &my->byte, 1), 1);
    case 1:
        my->seen = got;
        return takt_yield(takt_self, echo(5), 2);
    case 2:
        my->then = got;
        return takt_finish(takt_self, 0);
    default:
        return takt_finish(takt_self, 0);
    }
}

static void by_hand_it_can_go_on_after_an_interruption(void)
{
    static struct patient p;
    open_loop();
    EXPECT_EQ(world_submit(&loop, &p.frame, patient_coro), 0);
    EXPECT_EQ(world_run(&loop), 0);
    EXPECT_EQ(p.seen, -ETIMEDOUT);
    EXPECT_EQ(p.then, 5);
    EXPECT_EQ(takt_error(&p.frame), 0);
    close_loop();
}

static void by_hand_it_is_discarded_by_a_drain(void)
{
    open_loop();
    memset(&w, 0, sizeof w);
    w.hold = true;
    EXPECT_EQ(world_submit(&loop, &w.frame, worker_coro), 0);
    EXPECT_EQ(world_drain(&loop), 1);
    EXPECT_EQ(w.seen, TAKT_ECANCELED);
    EXPECT_EQ(w.good_bye, TAKT_ECANCELED);
    EXPECT(!takt_alive(&w.frame));
    close_loop();
}

/* Goes without joining what it has begun: its end waits for that. */
struct master {
    takt_frame frame;
    takt_group group;
    int64_t last;
};

static TAKT_CORO(master)
{
    static const takt_coro coro = {master_coro, "master", __FILE__, __LINE__,
                                   sizeof(struct master)};
    struct master *my = (struct master *)(void *)takt_self;
    const int64_t got = takt_result(takt_self);
    switch (takt_enter(takt_self, &coro)) {
    case 0:
        EXPECT(TAKT_GO(my->group, worker, .n = 1, .hold = true));
        return takt_yield(takt_self, echo(1), 1);
    case 1:
        my->last = got;
        note("l");
        return takt_finish(takt_self, -EPROTO);
    default:
        note("L");
        return takt_finish(takt_self, 0);
    }
}

static void by_hand_it_waits_for_what_it_began(void)
{
    static struct master m;
    open_loop();
    EXPECT_EQ(world_submit(&loop, &m.frame, master_coro), 0);
    EXPECT_EQ(world_run(&loop), -EPROTO);
    EXPECT_EQ(takt_error(&m.frame), -EPROTO); /* what it ends with has not changed */
    EXPECT_TRACE("wl.L");
    close_loop();
}

/* The manual's. */
struct twice {
    takt_frame frame;
    int fd;             // in: closed here
    char buf[2][64];
};

static TAKT_CORO(twice)
{
    static const takt_coro coro = {twice_coro, "twice", __FILE__, __LINE__,
                                   sizeof(struct twice)};
    struct twice *my = (struct twice *)(void *)takt_self;
    int64_t got = takt_result(takt_self);
    switch (takt_enter(takt_self, &coro)) {
    case 0:
        return takt_yield(takt_self, takt_recv(my->fd, my->buf[0], 64), 1);
    case 1:
        if (got <= 0)
            break;
        return takt_yield(takt_self, takt_recv(my->fd, my->buf[1], 64), 2);
    case 2:
        break;
    default: // on its way out: 3, or takt's
        return takt_finish(takt_self, 0);
    }
    takt_unwind(takt_self, got < 0 ? (int)got : 0);
    return takt_yield(takt_self, takt_close(my->fd), 3);
}

static void the_example_of_the_manual_works(void)
{
    static struct twice x;
    for (int64_t first = -1; first <= 1; first++) {
        setup();
        memset(&x, 0, sizeof x);
        x.fd = 3;
        EXPECT_EQ(takt_step(&drive, &x.frame, twice_coro), 0);
        EXPECT(takt_drive_op(&drive)->buf == x.buf[0]);
        EXPECT_EQ(takt_resume(&drive, drive.epoch, first < 0 ? -EIO : first), 0);
        if (first > 0) {
            EXPECT(takt_drive_op(&drive)->buf == x.buf[1]);
            EXPECT_EQ(takt_resume(&drive, drive.epoch, 0), 0);
        }
        EXPECT_EQ(takt_drive_op(&drive)->kind, TAKT_OP_CLOSE);
        EXPECT_EQ(takt_advance(&drive), 0);
        EXPECT_EQ(takt_error(&x.frame), first < 0 ? -EIO : 0);
        EXPECT_EQ(srv.closed, 1);
        over(&x.frame);
    }
}

static void a_state_that_is_none_is_a_mistake(void)
{
    setup();
    EXPECT_EQ(step(&a, 1), 0);
    (void)takt_yield(&a.frame, echo(1), 0);
    (void)takt_yield(&a.frame, echo(1), 0x1000000);
    EXPECT_EQ(traps, 2);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_zeroed_backoff_waits_in_growing_blocks),
        TEST(a_backoff_is_told_its_base_and_its_most),
#ifndef TAKT_NO_POSIX
        TEST(a_wait_goes_on_after_a_signal),
#endif
        TEST(a_reset_begins_anew_and_changes_nothing_else),
        TEST(the_same_seed_gives_the_same_sleeps),
        TEST(what_has_no_op_is_finished_by_its_first_step),
        TEST(a_step_runs_to_the_first_op_and_stops),
        TEST(a_resume_runs_to_the_next_op_or_the_end),
        TEST(a_suspension_is_resumed_once),
        TEST(a_handle_of_an_earlier_coroutine_is_stale),
        TEST(a_discard_runs_the_defers_and_nothing_else_once),
        TEST(a_discard_reaches_every_frame_and_a_close_acts),
        TEST(a_discard_in_the_middle_of_the_defers_ends_them),
        TEST(a_discard_without_a_dispatcher_closes_nothing),
        TEST(a_frame_or_a_drive_in_use_is_refused),
        TEST(what_is_the_callers_stays_as_it_was),
        TEST(an_advance_asks_once_and_runs_on),
        TEST(more_runs_on_and_is_told),
        TEST(would_block_and_failure_change_nothing),
        TEST(an_op_nobody_knows_is_a_failure),
        TEST(to_advance_what_is_finished_is_a_mistake),
        TEST(a_dispatcher_may_resume_or_discard_itself),
        TEST(exec_of_what_has_no_op_asks_nobody),
        TEST(exec_asks_once_an_op_in_the_order_of_the_program),
        TEST(exec_sleeps_while_it_would_block),
        TEST(exec_takes_more_for_done),
        TEST(exec_discards_when_the_dispatcher_fails),
        TEST(a_frame_on_the_stack_can_be_executed),
        TEST(an_error_or_a_result_never_both),
        TEST(a_catch_recovers),
        TEST(a_throw_in_a_catch_goes_to_the_next_one_out),
        TEST(a_catch_may_await_and_throw_again),
        TEST(throwing_costs_no_advance_and_frees_once),
        TEST(what_was_acquired_is_released_once),
        TEST(a_negative_value_is_thrown),
        TEST(what_needs_a_loop_is_refused_by_name),
        TEST(what_needs_none_works),
        TEST(nothing_starts_on_a_drive_from_outside),
        TEST(a_wait_that_only_a_loop_could_end_is_refused),
        TEST(a_cancel_takes_the_place_of_the_next_dispatch),
        TEST(a_body_cannot_drive_itself),
        TEST(calls_and_the_clock_are_the_dispatchers),
        TEST(an_op_that_points_into_the_stack_is_refused),
        TEST(ops_of_ones_own_are_nothing_to_the_system),
        TEST(the_systems_backend_does_not_know_ops_of_ones_own),
        TEST(every_style_is_the_same_under_every_driver),
        TEST(both_flavours_give_43),
        TEST(nothing_runs_before_the_step),
        TEST(a_body_by_hand_fails_as_it_likes),
        TEST(a_body_by_hand_is_cancelled_and_discarded),
        TEST(by_hand_it_can_be_called_started_and_spawned),
        TEST(by_hand_it_is_cancelled_on_a_loop),
        TEST(by_hand_it_is_told_why_it_was_interrupted),
        TEST(by_hand_it_can_go_on_after_an_interruption),
        TEST(by_hand_it_is_discarded_by_a_drain),
        TEST(by_hand_it_waits_for_what_it_began),
        TEST(the_example_of_the_manual_works),
        TEST(a_state_that_is_none_is_a_mistake),
    };
    return RUN_TESTS(argc, argv, tests);
}
