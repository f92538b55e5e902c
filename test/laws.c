/*
 * laws.c - the laws under random schedules
 *
 *     laws              seeds 1 to 2000
 *     laws SEED         that one, again
 *     laws SEED for N   from that one on, for N seconds
 *
 * A seed makes a program: a tree of coroutines, each of which draws what it does next, be it
 * in its body, its catch or its defers; and a backend that draws when an op ends and how,
 * refuses some, answers a cancel now, later or not at all, and writes into what it was lent
 * until the op is over. Between any two polls everything is counted anew and compared with
 * what the engine believes. What fails prints its seed.
 */
static void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include <time.h>

#include "test.h"

static uint32_t seed_now; /* of the program that runs */

static void broken(const char *law, int line)
{
    if (test_failures++ == 0)
        printf("seed %u: line %d: %s\n", (unsigned)seed_now, line, law);
}

#define LAW(cond, words) ((cond) ? (void)0 : broken(words, __LINE__))

static uint32_t roll(uint32_t *rng, uint32_t sides)
{
    *rng ^= *rng << 13;
    *rng ^= *rng >> 17;
    *rng ^= *rng << 5;
    return (*rng >> 3) % sides;
}

/* -- storm: a backend that draws -------------------------------------------------- */

enum { HELD_MAX = 128, LENT = 0x1e97, OURS = 0x0a25 };

/* What an op points to: the kernel's while it is lent, else the coroutine's. */
typedef struct lent {
    int whose;
    unsigned char bytes[12];
} lent;

typedef struct held {
    takt_op *op;
    takt_token token;
    takt_ns due;
    int64_t result;
} held;

typedef struct storm_config {
    uint32_t seed;
} storm_config;

typedef struct storm {
    const takt_slots *slots;
    takt_ns now;
    uint32_t rng;
    held out[HELD_MAX];
    int count;
    int opens, closes;
    uint64_t given, strays; /* completions of ops, and of none */
    int fails_in;           /* polls, if it fails for good */
    bool stuck;             /* nothing will ever happen again */
    bool freed;
} storm;

static int storm_init(storm *s, const storm_config *config, const takt_slots *slots)
{
    memset(s, 0, sizeof *s);
    s->slots = slots;
    s->rng = config->seed * 2654435761u | 1;
    roll(&s->rng, 2);
    s->fails_in = roll(&s->rng, 20) == 0 ? 1 + (int)roll(&s->rng, 60) : 0;
    return 0;
}

static void storm_free(storm *s)
{
    LAW(s->count == 0, "the backend is freed with ops in flight");
    s->freed = true;
}

static takt_ns storm_now(storm *s)
{
    return s->now;
}

static takt_ns storm_latency(storm *s)
{
    static const uint32_t ms[] = {1, 3, 20, 200};
    return roll(&s->rng, 4) == 0 ? 0 : (takt_ns)roll(&s->rng, ms[roll(&s->rng, 4)]) * TAKT_MS;
}

static int storm_submit(storm *s, takt_op *op, takt_token *token)
{
    const uint32_t fate = roll(&s->rng, 20);
    held *const it = &s->out[s->count];
    const bool close = op->kind == TAKT_OP_CLOSE;
    if (fate == 0 && !close)
        return -ENOBUFS;
    LAW(s->count < HELD_MAX, "more ops than strands");
    it->op = op;
    it->token = *token;
    it->due = s->now + storm_latency(s);
    it->result = fate == 1 && !close ? -EPIPE : 0;
    op->state = (uint16_t)s->count++;
    return 0;
}

static void storm_cancel(storm *s, takt_op *op)
{
    held *const it = &s->out[op->state];
    LAW(op->kind != TAKT_OP_CLOSE, "a close is cancelled");
    if (op->state >= s->count || it->op != op)
        return; /* done already, and in the loop's hands */
    switch (roll(&s->rng, 4)) {
    case 0: /* it was too late */
        return;
    case 1: /* it takes its time */
        it->result = -ECANCELED;
        it->due = s->now + storm_latency(s);
        return;
    default:
        it->result = -ECANCELED;
        it->due = s->now;
    }
}

/* The kernel is at work: it writes where it may. */
static void storm_scribble(storm *s)
{
    for (int i = 0; i < s->count; i++) {
        takt_op *const op = s->out[i].op;
        lent *const memory = (lent *)op->buf;
        LAW(takt_token_of(op) == s->out[i].token, "a slot is used again while its op is out");
        if (op->kind != TAKT_OP_RECV)
            continue;
        LAW(memory->whose == LENT, "memory is used again while the kernel has it");
        memset(memory->bytes, (int)roll(&s->rng, 256), sizeof memory->bytes);
    }
}

static void storm_finish(storm *s, int index, takt_completion *done)
{
    held *const it = &s->out[index];
    int64_t result = it->result;
    if (it->op->kind == TAKT_OP_ACCEPT && result == 0)
        result = 100 + s->opens++;
    if (it->op->kind == TAKT_OP_CLOSE)
        s->closes++;
    memset(done, 0, sizeof *done);
    done->token = it->token;
    done->value = result;
    done->error = result < 0 ? (int32_t)result : 0;
    s->given++;
    *it = s->out[--s->count];
    it->op->state = (uint16_t)index;
}

/* Some of those that are due, in any order; all at once, or one by one. */
static int storm_collect(storm *s, takt_completion *done, int max)
{
    int count = 0;
    for (int left = s->count; left > 0 && count < max; left--) {
        const int start = (int)roll(&s->rng, (uint32_t)s->count);
        int i = start;
        do {
            if (s->out[i].due <= s->now)
                break;
            i = (i + 1) % s->count;
        } while (i != start);
        if (s->out[i].due > s->now || (count && roll(&s->rng, 8) == 0))
            break;
        storm_finish(s, i, &done[count++]);
        if (s->count == 0)
            break;
    }
    return count;
}

static void check_everything(void);

static int storm_poll(storm *s, takt_completion *done, int max, takt_ns wait)
{
    int count;
    check_everything();
    storm_scribble(s);
    if (s->fails_in && --s->fails_in == 0)
        return -EIO;
    if (roll(&s->rng, 50) == 0 && s->slots->count) { /* of somebody's past */
        const uint32_t index = roll(&s->rng, s->slots->count);
        memset(done, 0, sizeof *done);
        done->token = takt_token_make(takt_slot_at(s->slots, index)->generation + 12345, index);
        s->strays++;
        return 1;
    }
    count = storm_collect(s, done, max);
    if (count || wait <= 0)
        return count ? count : TAKT_EWOULDBLOCK;
    for (int i = 0; i < s->count; i++)
        if (s->out[i].due - s->now < wait)
            wait = s->out[i].due - s->now;
    s->stuck = wait == TAKT_FOREVER;
    s->now += s->stuck ? 0 : wait;
    count = storm_collect(s, done, max);
    return count ? count : TAKT_EWOULDBLOCK;
}

static void storm_flush(storm *s)
{
    (void)s;
}

static bool storm_busy(storm *s)
{
    for (int i = 0; i < s->count; i++)
        if (s->out[i].due <= s->now)
            return true;
    return false;
}

static int storm_fd(storm *s)
{
    (void)s;
    return -1;
}

static int64_t storm_call(storm *s, takt_op *op)
{
    if (op->kind != TAKT_OP_CLOSE) /* as a broken loop asks for it */
        return -ENOTSUP;
    s->closes++;
    return 0;
}

TAKT_LOOP(net, storm);
static net loop;

static void remember(const char *text)
{
    (void)text;
}

/* -- node: a coroutine that draws what it does -------------------------------------- */

enum { KIDS = 3, OPS = 4, ARENA = 128, UNIQUE = 100000, PERMITS = 2, EVENTS = 3, BLAMED = 8 };

enum {
    AWAIT, TRY, ALL, ACCEPT, ACQUIRE, RELEASE, CALL, TRY_CALL, WITHIN, START, START_2, JOIN,
    JOIN_ALL, RACE, GO, JOIN_GROUP, CANCEL_GROUP, SPAWN, YIELD, CANCEL, TOUCH, IDLE, THROW,
    RETURN, CLOSE, WHATS
};

struct node {
    takt_frame frame;
    uint32_t seed;
    int depth;
    struct node *up; /* who will be told of its failure */
    bool pooled;     /* in memory of the loop's */
    /* Its own: */
    uint32_t rng;
    int steps, what, farewell, winner, err;
    int registered, ran; /* defers, by bits */
    bool told;           /* it must see the failure of a child */
    bool ordered;        /* somebody has cancelled it */
    bool watched;        /* it has an idle limit */
    int permits;         /* of the semaphore, held */
    int blamed[BLAMED], blames; /* errors that have a reason */
    int64_t got;
    bool limited; /* what it awaited had a limit */
    int fd, fds[OPS + 2], fd_count;
    int op_count; /* of the batch that is not yet looked through */
    struct node *kid, *kids[KIDS];
    takt_group group;
    takt_idle idle;
    takt_op ops[OPS];
    lent memory[OPS];
};

static struct world {
    uint32_t rng;
    int budget;        /* nodes that may still be made */
    int entered, left; /* bodies begun and ended */
    int errors;        /* that were thrown, each a number of its own */
    int failures;      /* told by the hook, or with a result */
    bool ordered;      /* stop or drain: everybody */
    bool ending;
    takt_event events[EVENTS];
    takt_semaphore semaphore;
    struct node *alive[2 * ARENA];
    int alive_count;
    struct {
        struct node node;
        bool used;
    } arena[ARENA];
} world;

static bool is_clean(const struct node *node)
{
    const unsigned char *const bytes = (const unsigned char *)node;
    return bytes[0] == 0xdd && memcmp(bytes, bytes + 1, sizeof *node - 1) == 0;
}

static struct node *arena_take(void)
{
    for (int i = 0; i < ARENA; i++)
        if (!world.arena[i].used) {
            world.arena[i].used = true;
            LAW(is_clean(&world.arena[i].node), "somebody wrote into what was given back");
            return &world.arena[i].node;
        }
    return NULL;
}

static void arena_give(struct node *node)
{
    for (int i = 0; i < ARENA; i++)
        if (&world.arena[i].node == node) {
            LAW(world.arena[i].used, "given back twice");
            world.arena[i].used = false;
            memset((void *)node, 0xdd, sizeof *node);
            return;
        }
}

/* A place for one child more, in my->kid; it lies full of rubbish. */
static bool new_kid(struct node *my)
{
    if (my->depth > 5 || world.budget <= 0)
        return false;
    for (int i = 0; i < KIDS; i++) {
        if (my->kids[i] && takt_alive(&my->kids[i]->frame))
            continue;
        if (my->kids[i])
            arena_give(my->kids[i]);
        my->kid = my->kids[i] = arena_take();
        if (my->kid) /* in case it is named before it was ever started */
            memset((void *)&my->kid->frame, 0, sizeof my->kid->frame);
        world.budget -= my->kid != NULL;
        return my->kid != NULL;
    }
    return false;
}

/* The body runs: nothing of its memory can be out. */
static void regain(struct node *my)
{
    for (int i = 0; i < OPS; i++)
        my->memory[i].whose = OURS;
}

static void blame(struct node *my, int error)
{
    my->blamed[my->blames++ % BLAMED] = error;
}

static int own_error(struct node *my)
{
    const int error = -(UNIQUE + ++world.errors);
    blame(my, error);
    return error;
}

static void enter(struct node *my)
{
    world.entered++;
    world.alive[world.alive_count++] = my;
    my->rng = my->seed | 1;
    my->steps = 1 + (int)roll(&my->rng, 16);
    my->farewell = (int)roll(&my->rng, 12);
    my->group.fail_fast = roll(&my->rng, 2);
    my->registered = 1;
    regain(my);
}

/* A defer begins: once, and the last registered first. */
static void ran(struct node *my, int bit)
{
    regain(my);
    LAW(!(my->ran & bit), "a defer runs twice");
    LAW(my->ran == 0 || (my->ran & -my->ran) > bit, "defers run last first");
    LAW(my->registered & bit, "a defer runs that was never registered");
    LAW(my->frame.children == 0, "a defer runs before the children have ended");
    my->ran |= bit;
}

/* In a defer it was done with its awaits: nobody ends those but a drain. */
static void shielded(const struct node *my)
{
    LAW(my->got != TAKT_ECANCELED || loop.sched.discarding, "a defer's await is cancelled");
    LAW(my->err != TAKT_ECANCELED || loop.sched.discarding || my->kid->ordered,
        "a defer's call is cancelled");
}

/* Its last defer: its error is what it ends with. */
static void leave(struct node *my)
{
    const takt_strand *const strand = my->frame.strand;
    const bool root = my->frame.bits & TAKT__ROOT;
    const int error = my->frame.error;
    struct node *const up = my->up;
    int at = 0;
    ran(my, 1);
    LAW(my->ran == my->registered, "a defer has not run");
    LAW(my->frame.children == 0, "a child outlives its parent");
    LAW(my->group.count == 0, "a member outlives its group's frame");
    LAW(my->permits == 0 && my->fd_count == 0, "what it had is given back");
    LAW(!my->told || error < 0, "the failure of a child is lost");
    LAW(error != TAKT_ECANCELED || my->up || my->ordered || world.ordered,
        "cancelled, and by nobody");
    if (my->frame.bits & TAKT__SUBMITTED && error < 0 && !(strand->flags & TAKT__CANCELLED))
        world.failures++; /* told with its result, and not to the hook */
    if (up && error < 0) {
        const int wait = up->frame.strand->wait;
        const bool handed = !root || (strand->flags & TAKT__AWAITED &&
                                      (wait == TAKT__ON_RACE || wait == TAKT__ON_SCOPE));
        const bool grouped = my->frame.bits & TAKT__GROUPED;
        if (handed || !(strand->flags & TAKT__CANCELLED))
            blame(up, error);
        if (handed && error == TAKT_ECANCELED)
            up->ordered = true; /* it may hand that on */
        if (!handed && !grouped && !(strand->flags & TAKT__CANCELLED) &&
            up->frame.state != TAKT__UNWINDING)
            up->told = true;
    }
    for (int i = 0; i < KIDS; i++)
        if (my->kids[i]) {
            LAW(!takt_alive(&my->kids[i]->frame), "a child is alive after its parent");
            arena_give(my->kids[i]);
        }
    while (world.alive[at] != my)
        at++;
    world.alive[at] = world.alive[--world.alive_count];
    world.left++;
}

static void caught(struct node *my)
{
    const int error = my->frame.error;
    /* of the backend, a limit, a bound; but not an order to stop: that cannot be caught */
    bool known = error > -UNIQUE && error != TAKT_ECANCELED;
    regain(my);
    for (int i = 0; my->what == RACE && i < 2; i++) /* that of one which had ended before */
        known = known || takt_error(&my->kids[i]->frame) == error;
    for (int i = 0; i < BLAMED; i++)
        known = known || my->blamed[i] == error;
    LAW(known, "somebody else's error is thrown here");
    LAW(error < 0, "a catch without an error");
    LAW(my->frame.children == 0, "a catch runs before the children have ended");
    my->told = false;
}

static takt_op lend(struct node *my, int at)
{
    my->memory[at].whose = LENT;
    return takt_recv(7, &my->memory[at], sizeof my->memory[at]);
}

/* Any op; `limited`: it ends by itself. */
static takt_op any_op(struct node *my, int at, bool limited)
{
    const takt_ns some = (takt_ns)(1 + roll(&my->rng, 30)) * TAKT_MS;
    takt_op op;
    switch (roll(&my->rng, 6)) {
    case 0:
        op = takt_nop();
        break;
    case 1:
        op = takt_sleep(some);
        break;
    case 2:
        op = takt_event_wait(&world.events[roll(&my->rng, EVENTS)]);
        break;
    default:
        op = lend(my, at);
    }
    my->limited = (op.kind == TAKT_OP_EVENT && (limited || roll(&my->rng, 4))) ||
                  roll(&my->rng, 3) == 0;
    return my->limited ? takt_within(some, op) : op;
}

static size_t any_batch(struct node *my)
{
    my->op_count = (int)roll(&my->rng, OPS + 1);
    for (int i = 0; i < my->op_count; i++) {
        my->ops[i] = my->fd_count || roll(&my->rng, 3) ? any_op(my, i, false)
                                                       : takt_accept(5, NULL);
        my->ops[i].result = UNIQUE;
    }
    return (size_t)my->op_count;
}

/* Descriptors are kept, to be closed. */
static void keep(struct node *my, int64_t fd)
{
    if (fd >= 100)
        my->fds[my->fd_count++] = (int)fd;
}

static void keep_batch(struct node *my)
{
    for (int i = 0; i < my->op_count; i++)
        if (my->ops[i].kind == TAKT_OP_ACCEPT)
            keep(my, my->ops[i].result);
    my->op_count = 0;
}

static bool next_fd(struct node *my)
{
    keep_batch(my);
    my->fd = my->fd_count ? my->fds[--my->fd_count] : -1;
    return my->fd >= 0;
}

static void give_permits(struct node *my)
{
    if (my->permits)
        takt_release(&world.semaphore, my->permits);
    my->permits = 0;
}

static void cancel_somebody(struct node *my)
{
    struct node *const it = world.alive[roll(&my->rng, (uint32_t)world.alive_count)];
    it->ordered = true;
    takt_cancel(&it->frame);
}

static void touch_an_event(struct node *my)
{
    takt_event *const event = &world.events[roll(&my->rng, EVENTS)];
    if (roll(&my->rng, 2))
        takt_event_set(event);
    else
        takt_event_reset(event);
}


static bool is_told(const struct node *my)
{
    return my->frame.strand->flags & TAKT__STOP && takt__told(&my->frame) != TAKT__GO_ON;
}

/* The last word has let it go on: is that so? */
static void look_back(const struct node *my)
{
    struct node *const *const kids = my->kids;
    switch (my->what) {
    case TRY:
    case TRY_CALL:
        LAW(!is_told(my) || (my->what == TRY ? my->got : my->err) >= 0, "an order is handed over");
        LAW(my->what == TRY_CALL || my->got != -ETIMEDOUT || my->limited, "a limit of nobody's");
        LAW(my->what == TRY || takt_error(&my->kid->frame) == my->err, "an error is lost");
        break;
    case ALL:
        for (int i = 0; i < my->op_count; i++)
            LAW(my->ops[i].result != UNIQUE && my->ops[i].result != TAKT_ECANCELED,
                "a batch goes on before all its ops are done");
        break;
    case CALL:
    case WITHIN:
        LAW(takt_finished(&my->kid->frame) && takt_error(&my->kid->frame) == 0, "a call's error");
        break;
    case RACE:
        LAW(my->winner == 0 || my->winner == 1, "a race without a winner");
        LAW(!takt_error(&kids[my->winner]->frame), "a winner that failed");
        LAW(!takt_alive(&kids[0]->frame) && !takt_alive(&kids[1]->frame), "a loser is left");
        break;
    case JOIN:
        LAW(!takt_alive(&kids[0]->frame) && !takt_alive(&kids[1]->frame), "a join too early");
        break;
    case JOIN_ALL:
        LAW(my->frame.children == 0, "a join too early");
        break;
    case JOIN_GROUP:
        LAW(my->group.count == 0, "a join too early");
        break;
    default:
        break;
    }
}

/* What to do next, of what can be done. */
static int pick(struct node *my)
{
    int what = (int)roll(&my->rng, WHATS);
    regain(my);
    look_back(my);
    keep_batch(my);
    if (what == ACCEPT && my->fd_count)
        what = CLOSE;
    if (what == CALL || what == TRY_CALL || what == WITHIN || what == START || what == START_2)
        return new_kid(my) ? what : YIELD;
    if ((what == RACE || what == JOIN) && !(my->kids[0] && my->kids[1]))
        return JOIN_ALL;
    if (what == GO || what == SPAWN)
        return my->depth < 5 && world.budget-- > 0 ? what : TRY;
    if (what == ACQUIRE && my->permits)
        return RELEASE;
    return what == CLOSE && !next_fd(my) ? AWAIT : what;
}

static void act(struct node *my)
{
    if (my->what == RELEASE)
        give_permits(my);
    else if (my->what == CANCEL)
        cancel_somebody(my);
    else if (my->what == CANCEL_GROUP)
        takt_group_cancel(&my->group);
    else if (my->what == TOUCH)
        touch_an_event(my);
    else if (my->what == IDLE)
        takt_idle_start(&my->frame, &my->idle, (takt_ns)roll(&my->rng, 100) * TAKT_MS);
    my->watched = my->watched || my->what == IDLE;
    if (my->up && my->up->watched && roll(&my->rng, 2)) /* be it on its way out */
        takt_idle_touch(&my->up->idle);
}

#define KID                                                                                  \
    node, .seed = roll(&my->rng, 1u << 30), .depth = my->depth + 1, .up = my
#define TASK node, .seed = roll(&my->rng, 1u << 30), .depth = my->depth + 1, .pooled = true
#define SOME ((takt_ns)(1 + roll(&my->rng, 50)) * TAKT_MS)

static TAKT_CORO(node)
{
    TAKT_BEGIN(node, my);
    enter(my);
    TAKT_DEFER { leave(my); }
    my->registered |= 2;
    TAKT_DEFER {
        ran(my, 2);
        give_permits(my);
        while (next_fd(my))
            TAKT_AWAIT(takt_close(my->fd));
    }
    if (my->farewell < 8) {
        my->registered |= 4;
        TAKT_DEFER {
            ran(my, 4);
            my->got = my->err = 0;
            if (my->farewell == 1) TAKT_AWAIT(any_op(my, 0, true));
            if (my->farewell == 2) TAKT_TRY_AWAIT(my->got, any_op(my, 0, true));
            if (my->farewell == 3) TAKT_THROW(own_error(my));
            if (my->farewell == 4) break;
            if (my->farewell == 5 && new_kid(my)) TAKT_TRY_CALL(my->err, *my->kid, KID);
            if (my->farewell == 6 && new_kid(my)) TAKT_START(*my->kid, KID);
            TAKT_YIELD;
            shielded(my);
        }
    }
    while (my->steps-- > 0) {
        my->what = pick(my);
        if (my->what == AWAIT) TAKT_AWAIT(any_op(my, 0, false));
        if (my->what == TRY) TAKT_TRY_AWAIT(my->got, any_op(my, 0, false));
        if (my->what == ALL) TAKT_AWAIT_ALL(my->ops, any_batch(my));
        if (my->what == ACCEPT) TAKT_AWAIT(my->got, takt_accept(5, NULL));
        if (my->what == ACCEPT) keep(my, my->got);
        if (my->what == ACQUIRE) TAKT_AWAIT(takt_within(SOME, takt_acquire(&world.semaphore)));
        if (my->what == ACQUIRE) my->permits++;
        if (my->what == CLOSE) TAKT_AWAIT(takt_close(my->fd));
        if (my->what == CALL) TAKT_CALL(*my->kid, KID);
        if (my->what == TRY_CALL) TAKT_TRY_CALL(my->err, *my->kid, KID);
        if (my->what == WITHIN) TAKT_CALL_WITHIN(SOME, *my->kid, KID);
        if (my->what == START || my->what == START_2) TAKT_START(*my->kid, KID);
        if (my->what == JOIN) TAKT_JOIN(*my->kids[0], *my->kids[1]);
        if (my->what == JOIN_ALL) TAKT_JOIN();
        if (my->what == RACE) TAKT_RACE(my->winner, *my->kids[0], *my->kids[1]);
        if (my->what == GO) (void)!TAKT_GO(my->group, TASK, .up = my);
        if (my->what == SPAWN) (void)!TAKT_SPAWN(TASK);
        if (my->what == JOIN_GROUP) TAKT_JOIN_GROUP(my->group);
        if (my->what == YIELD) TAKT_YIELD;
        if (my->what == THROW) TAKT_THROW(own_error(my));
        if (my->what == RETURN) TAKT_RETURN;
        act(my);
    }
    TAKT_CATCH {
        caught(my);
        if (my->farewell & 1) TAKT_AWAIT(any_op(my, 0, true));
        if (my->farewell == 8) TAKT_THROW(own_error(my));
        if (my->farewell == 10 && new_kid(my)) TAKT_START(*my->kid, KID);
        if (my->farewell > 9) TAKT_TRY_AWAIT(my->got, any_op(my, 0, true));
    }
    TAKT_END;
}

/* -- counting anew ----------------------------------------------------------------------- */

static int list_length(uint32_t first)
{
    int length = 0;
    for (const takt_strand *it = takt__strand_at(&loop.sched, first); it && length < 1000;
         it = takt__strand_at(&loop.sched, it->next))
        length++;
    return length;
}

/* Nobody runs: what the engine keeps must be what there is. */
static void check_everything(void)
{
    const takt_sched *const s = &loop.sched;
    int used = 0, on_op = 0, frames = 0, pending = 0, ready = 0, starved = 0, pooled = 0;
    for (uint32_t i = 0; i < s->fresh; i++) {
        const takt_strand *const strand = takt__strand_at(s, i + 1);
        const takt_frame *f = strand->who.leaf;
        if (strand->wait == TAKT__FREE)
            continue;
        used++;
        on_op += strand->wait == TAKT__ON_OP;
        starved += (strand->flags & TAKT__STARVED) != 0;
        if (strand->flags & TAKT__REQUEST) {
            LAW(strand->who.owner->wait == TAKT__ON_BATCH, "a request without its batch");
            continue;
        }
        ready += strand->wait == TAKT__READY;
        for (; !(f->bits & TAKT__ROOT); f = f->parent, frames++)
            LAW(f->strand == strand, "a frame is not on its strand");
        LAW(f->strand == strand, "a frame is not on its strand");
        frames += !(strand->flags & TAKT__NEW);
        pending += f->bits & TAKT__GROUPED || !f->parent;
        pooled += (f->bits & TAKT__POOLED) != 0;
    }
    LAW((uint32_t)used == s->strands_used, "strands_used is what lives");
    LAW((uint32_t)pending == s->pending, "pending is what is pending");
    LAW((uint32_t)pooled == s->config.pools[0].used, "the pool's count is exact");
    LAW(frames == world.alive_count, "the frames are those that live");
    LAW(on_op == loop.backend.count, "who awaits an op and the ops in flight are as many");
    LAW(ready == list_length(s->ready_first) + list_length(s->later_first),
        "who is ready is in the list, once");
    LAW(starved == list_length(s->starved_first), "who starves is in the list, once");
}

/* -- one program ---------------------------------------------------------------------------- */

static void on_failure(void *user, const char *name, int error, const char *file, int line)
{
    (void)user, (void)name, (void)file, (void)line;
    LAW(error < 0, "a failure without an error");
    world.failures++;
}

static void begin(uint32_t seed)
{
    static net_config config;
    seed_now = seed;
    memset((void *)&world, 0, sizeof world);
    world.rng = seed * 747796405u | 1;
    roll(&world.rng, 2);
    world.budget = 4 + (int)roll(&world.rng, 300);
    world.semaphore.permits = PERMITS;
    for (int i = 0; i < ARENA; i++)
        memset((void *)&world.arena[i].node, 0xdd, sizeof world.arena[i].node);
    config = net_defaults();
    TAKT_POOL(config, node, 1 + roll(&world.rng, 6));
    config.loop.pools[0].strands = 1 + roll(&world.rng, 3);
    config.loop.strands = 1 + roll(&world.rng, 8);
    config.loop.completions = 1 + roll(&world.rng, 8);
    config.loop.reap_limit = 1000000 * TAKT_SEC;
    config.loop.on_failure = on_failure;
    config.backend.seed = seed;
    LAW(net_init(&loop, &config) == 0, "init");
}

/* How it ends: let it, stop it, drain it, cancel all. */
static void order_the_end(void)
{
    const uint32_t how = roll(&world.rng, 6);
    if (how <= 2)
        world.ordered = true;
    if (how == 0)
        net_stop(&loop, 0);
    else if (how == 1)
        net_stop(&loop, (takt_ns)roll(&world.rng, 100) * TAKT_MS);
    else if (how == 2)
        net_drain(&loop);
    else if (how == 3)
        for (int i = 0; i < world.alive_count; i++) {
            world.alive[i]->ordered = true;
            takt_cancel(&world.alive[i]->frame);
        }
}

static void turn_until_it_ends(void)
{
    const uint32_t end_at = roll(&world.rng, 400);
    for (uint32_t turns = 0; loop.sched.pending && !loop.sched.fatal; turns++) {
        const uint32_t die = roll(&world.rng, 6);
        if (turns == end_at || turns == end_at + 20)
            order_the_end();
        else
            net_turn(&loop, die == 0 ? 0 : die == 1 ? TAKT_MS : TAKT_FOREVER, die < 4 ? 0 : 1);
        if (loop.backend.stuck) /* all wait for events that nobody sets */
            for (int i = 0; i < EVENTS; i++)
                takt_event_set(&world.events[i]);
        loop.backend.stuck = false;
        LAW(turns < 5000, "it does not end");
        if (test_failures)
            return;
    }
}

/* The backend has failed for good: what it holds is kept, and whoever waits for that; all
 * others end, and run their defers. */
static void check_the_wreck(void)
{
    const takt_sched *const s = &loop.sched;
    world.ordered = true;
    net_drain(&loop);
    for (uint32_t i = 0; i < s->fresh; i++) {
        const takt_strand *const strand = takt__strand_at(s, i + 1);
        const int wait = strand->wait;
        LAW(wait == TAKT__FREE || wait == TAKT__ON_OP ||
                (wait == TAKT__ON_BATCH && strand->slot.op.bits) ||
                ((wait == TAKT__ON_JOIN || wait == TAKT__ON_RACE || wait == TAKT__ON_SCOPE) &&
                 strand->who.leaf->children) ||
                (wait == TAKT__ON_CHILDREN &&
                 (strand->who.leaf->children || strand->on.attached)),
            "what the backend does not hold is reached");
    }
    LAW(net_failed(&loop) == -EIO, "the first error stands");
    LAW(net_free(&loop) == (s->strands_used ? -EBUSY : 0), "its memory is kept");
    if (s->slab)
        takt__sched_free(&loop.sched, &loop.completions);
}

static void check_the_end(void)
{
    const takt_sched *const s = &loop.sched;
    check_everything();
    LAW(s->strands_used == 0 && s->pending == 0, "all strands have come back");
    LAW(s->wheel.count == 0, "all timers are disarmed");
    LAW(world.entered == world.left, "who begins ends");
    LAW(loop.backend.opens == loop.backend.closes, "no descriptor is lost");
    LAW(world.semaphore.permits == PERMITS, "no permit is lost");
    LAW(!world.semaphore.line.first, "nobody is left in a line");
    for (int i = 0; i < EVENTS; i++)
        LAW(!world.events[i].line.first, "nobody is left in a line");
    LAW(s->stats.stale == loop.backend.strays, "what is stale is counted");
    LAW(s->stats.completions == loop.backend.given + loop.backend.strays, "completions");
    LAW(s->stats.failed == (uint64_t)world.failures, "failures");
    LAW(net_free(&loop) == 0 && loop.backend.freed, "the loop can be freed");
}

static int64_t steps; /* resumptions, in all programs */

static void run_program(uint32_t seed)
{
    struct node *roots[3];
    int count = 0;
    begin(seed);
    for (int roots_wanted = 1 + (int)roll(&world.rng, 3); count < roots_wanted;) {
        struct node *const root = roots[count++] = arena_take();
        if (roll(&world.rng, 3) == 0) { /* runs at once */
            memset((void *)root, 0, sizeof *root);
            root->seed = roll(&world.rng, 1u << 30);
            LAW(net_submit(&loop, &root->frame, node_coro) != -EINVAL, "a submit is refused");
        } else if (!TAKT_START_ON(&loop, *root, node, .seed = roll(&world.rng, 1u << 30))) {
            LAW(loop.sched.strands_used + 1 == loop.sched.slots.count, "a start is refused");
        }
        if (!TAKT_SPAWN_ON(&loop, node, .seed = roll(&world.rng, 1u << 30), .pooled = true))
            break;
    }
    turn_until_it_ends();
    if (test_failures)
        return;
    if (loop.sched.fatal == -EIO) {
        loop.backend.count = 0; /* it is asked nothing any more */
        check_the_wreck();
        return;
    }
    check_the_end();
    steps += (int64_t)loop.sched.stats.resumed;
    while (count-- > 0)
        arena_give(roots[count]);
    for (int i = 0; i < ARENA; i++)
        LAW(!world.arena[i].used && is_clean(&world.arena[i].node), "all memory is given back");
}

int main(int argc, char **argv)
{
    const time_t began = time(NULL);
    uint32_t first = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 1;
    const long seconds = argc > 3 ? strtol(argv[3], NULL, 0) : 0;
    const uint32_t last = argc > 1 ? first : 2000;
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; seconds ? time(NULL) - began < seconds : first <= last; first++) {
        test_failures = 0;
        run_program(first);
        failed += test_failures > 0;
        passed += test_failures == 0;
        if (failed == 5)
            break;
    }
    printf("seeds to %u, %lld resumptions\n", (unsigned)first - 1, (long long)steps);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
