/*
 * chan.c - waiting for each other, without a system call: events, semaphores, channels
 */
void remember(const char *text);
#define TAKT_LOG(text) remember(text)
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

TAKT_LOOP(net, takt_posix);
static net loop;
static takt_event event, enough;
static takt_semaphore semaphore;
static char said[512]; /* the last line of the log */

void remember(const char *text)
{
    snprintf(said, sizeof said, "%s", text);
}

/* Waits for one of the two, and notes its name when it has it. */
struct waiter {
    takt_frame frame;
    const char *name;
    bool acquires;
    takt_ns limit;
    bool holds; /* until `enough` is set */
    int n;
};

static TAKT_CORO(waiter)
{
    TAKT_BEGIN(waiter, my);
    my->n = 1;
    if (my->acquires && my->limit)
        TAKT_TRY_AWAIT(my->n, takt_within(my->limit, takt_acquire(&semaphore)));
    else if (my->acquires)
        TAKT_AWAIT(my->n, takt_acquire(&semaphore));
    else if (my->limit)
        TAKT_TRY_AWAIT(my->n, takt_within(my->limit, takt_event_wait(&event)));
    else
        TAKT_AWAIT(my->n, takt_event_wait(&event));
    note(my->n == 0 ? my->name : "-");
    if (my->n == 0 && my->holds) {
        TAKT_AWAIT(takt_event_wait(&enough));
        takt_release(&semaphore, 1);
    }
    TAKT_END;
}

static struct waiter a, b, c, d;

static void setup(void)
{
    const net_config config = net_defaults();
    memset(&event, 0, sizeof event);
    memset(&enough, 0, sizeof enough);
    memset(&semaphore, 0, sizeof semaphore);
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void turn(void)
{
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

static void finish(void)
{
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(loop.sched.strands_used, 0);
    EXPECT_EQ(loop.sched.wheel.count, 0);
    EXPECT(event.line.first == NULL && event.line.last == NULL);
    EXPECT(semaphore.line.first == NULL && semaphore.line.last == NULL);
    EXPECT_EQ(net_free(&loop), 0);
}

#define START(object, ...) EXPECT(TAKT_START_ON(&loop, object, waiter, __VA_ARGS__))

static void an_event_lets_all_go_on_in_order(void)
{
    setup();
    START(a, .name = "a");
    START(b, .name = "b");
    START(c, .name = "c");
    turn();
    EXPECT_TRACE("");
    takt_event_set(&event);
    EXPECT_TRACE(""); /* not from in here */
    START(d, .name = "d"); /* set already: does not wait */
    turn();
    EXPECT_TRACE("abcd");
    takt_event_set(&event);
    takt_event_reset(&event);
    START(a, .name = "a");
    turn();
    EXPECT_TRACE("abcd");
    takt_event_set(&event);
    finish();
    EXPECT_TRACE("abcda");
}

static void a_reset_does_not_take_back_what_was_set(void)
{
    setup();
    START(a, .name = "a");
    turn();
    takt_event_set(&event);
    takt_event_reset(&event);
    START(b, .name = "b");
    turn();
    EXPECT_TRACE("a");
    takt_event_set(&event);
    finish();
    EXPECT_TRACE("ab");
}

static void a_wait_with_a_limit_leaves_the_line(void)
{
    setup();
    START(a, .name = "a", .limit = 600 * TAKT_SEC);
    START(b, .name = "b", .limit = 1);
    START(c, .name = "c");
    while (takt_alive(&b.frame))
        EXPECT(net_turn(&loop, TAKT_SEC, 0) >= 0);
    EXPECT_EQ(b.n, -ETIMEDOUT);
    EXPECT_EQ(net_pending(&loop), 2);
    takt_event_set(&event);
    finish();
    EXPECT_TRACE("-ac");
    setup();
    START(a, .name = "a", .acquires = true, .limit = 1);
    START(b, .name = "b", .acquires = true, .limit = 600 * TAKT_SEC);
    while (takt_alive(&a.frame))
        EXPECT(net_turn(&loop, TAKT_SEC, 0) >= 0);
    takt_release(&semaphore, 1);
    finish();
    EXPECT_EQ(semaphore.permits, 0); /* the one that gave up took none */
    EXPECT_TRACE("-ac-b");
}

static void a_cancelled_waiter_leaves_the_line(void)
{
    setup();
    START(a, .name = "a");
    START(b, .name = "b", .acquires = true);
    START(c, .name = "c", .acquires = true);
    turn();
    takt_cancel(&a.frame);
    takt_cancel(&b.frame);
    turn();
    EXPECT_EQ(a.n, TAKT_ECANCELED);
    EXPECT_EQ(b.n, TAKT_ECANCELED);
    takt_release(&semaphore, 1);
    finish();
    EXPECT_TRACE("c");
    EXPECT_EQ(takt_error(&a.frame), TAKT_ECANCELED);
}

static void permits_go_to_those_who_came_first(void)
{
    setup();
    semaphore.permits = 2;
    START(a, .name = "a", .acquires = true, .holds = true);
    START(b, .name = "b", .acquires = true, .holds = true);
    START(c, .name = "c", .acquires = true, .holds = true);
    START(d, .name = "d", .acquires = true, .holds = true);
    turn();
    EXPECT_TRACE("ab");
    EXPECT_EQ(semaphore.permits, 0);
    takt_event_set(&enough);
    finish();
    EXPECT_TRACE("abcd");
    EXPECT_EQ(semaphore.permits, 2);
}

/* Nobody is overtaken: a permit that comes back belongs to the first in line at once. */
static void a_newcomer_does_not_overtake(void)
{
    setup();
    START(a, .name = "a", .acquires = true);
    turn();
    takt_release(&semaphore, 1);
    START(b, .name = "b", .acquires = true);
    turn();
    EXPECT_TRACE("a");
    takt_release(&semaphore, 3);
    finish();
    EXPECT_TRACE("ab");
    EXPECT_EQ(semaphore.permits, 2);
}

/* What was granted is delivered, also to one that is cancelled before it runs: it can give
 * the permit back. */
struct holder {
    takt_frame frame;
    int n;
    bool held;
};

static TAKT_CORO(holder)
{
    TAKT_BEGIN(holder, my);
    TAKT_DEFER
    {
        if (my->held)
            takt_release(&semaphore, 1);
    }
    TAKT_AWAIT(my->n, takt_acquire(&semaphore));
    my->held = true;
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    note("never");
    TAKT_END;
}

static void a_grant_is_final(void)
{
    static struct holder holder;
    setup();
    holder.n = 1;
    EXPECT(TAKT_START_ON(&loop, holder, holder));
    turn();
    takt_release(&semaphore, 1);
    EXPECT_EQ(semaphore.permits, 0);
    takt_cancel(&holder.frame);
    finish();
    EXPECT_EQ(holder.n, 0);
    EXPECT(holder.held);
    EXPECT_EQ(semaphore.permits, 1);
    EXPECT_TRACE("");
}

static void a_grant_beats_a_limit_that_passes_later(void)
{
    setup();
    START(a, .name = "a", .acquires = true, .limit = 600 * TAKT_SEC);
    turn();
    EXPECT_EQ(loop.sched.wheel.count, 1);
    takt_release(&semaphore, 1); /* the limit is of no interest any more */
    EXPECT_EQ(loop.sched.wheel.count, 0);
    finish();
    EXPECT_TRACE("a");
    EXPECT_EQ(semaphore.permits, 0);
}

/* Both are ops like others: in a batch, one after the other. */
struct collector {
    takt_frame frame;
    takt_op ops[4];
};

static TAKT_CORO(collector)
{
    TAKT_BEGIN(collector, my);
    my->ops[0] = takt_acquire(&semaphore);
    my->ops[1] = takt_within(1, takt_event_wait(&event));
    my->ops[2] = takt_acquire(&semaphore);
    my->ops[3] = takt_within(TAKT_MS, takt_acquire(&semaphore));
    TAKT_AWAIT_ALL(my->ops, 4);
    EXPECT_EQ(my->ops[0].result, 0);
    EXPECT_EQ(my->ops[1].result, -ETIMEDOUT);
    EXPECT_EQ(my->ops[2].result, 0);
    EXPECT_EQ(my->ops[3].result, -ETIMEDOUT);
    note("!");
    TAKT_END;
}

static void a_batch_waits_for_them_too(void)
{
    static struct collector collector;
    setup();
    semaphore.permits = 1;
    EXPECT(TAKT_START_ON(&loop, collector, collector));
    turn();
    takt_release(&semaphore, 1);
    finish();
    EXPECT_EQ(semaphore.permits, 0);
    EXPECT_TRACE("!");
}

/* Acquires twice in one batch, where there is a strand for one op at a time. */
struct pair_of_permits {
    takt_frame frame;
    takt_op ops[2];
};

static TAKT_CORO(pair_of_permits)
{
    TAKT_BEGIN(pair_of_permits, my);
    my->ops[0] = takt_acquire(&semaphore);
    my->ops[1] = takt_acquire(&semaphore);
    TAKT_AWAIT_ALL(my->ops, 2);
    note("!");
    TAKT_END;
}

static void a_batch_that_goes_on_does_not_overtake(void)
{
    static struct pair_of_permits batch;
    net_config config = net_defaults();
    setup();
    EXPECT_EQ(net_free(&loop), 0);
    config.loop.strands = 2;
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT(TAKT_START_ON(&loop, batch, pair_of_permits));
    START(a, .name = "a", .acquires = true);
    turn();
    takt_release(&semaphore, 2); /* its first; the second begins while one is left: behind a */
    turn();
    EXPECT_TRACE("a");
    EXPECT_EQ(semaphore.permits, 0);
    takt_release(&semaphore, 1);
    finish();
    EXPECT_TRACE("a!");
}

/* -- channels ----------------------------------------------------------------- */

/* Seven bytes: nothing about a channel depends on alignment. */
struct parcel {
    char name[2];
    char rest[5];
};

static takt_channel channel;
static struct parcel ring[3];

static void setup_channel(uint32_t capacity)
{
    setup();
    EXPECT_EQ(takt_channel_init(&channel, capacity ? ring : NULL, sizeof ring[0], capacity), 0);
}

static void finish_channel(void)
{
    finish();
    EXPECT(channel.getters.first == NULL && channel.getters.last == NULL);
    EXPECT(channel.putters.first == NULL && channel.putters.last == NULL);
}

static struct parcel packed(const char *name)
{
    struct parcel item;
    memset(&item, 0, sizeof item);
    item.name[0] = name[0];
    memset(item.rest, name[0], sizeof item.rest);
    return item;
}

static int try_put(const char *name)
{
    const struct parcel item = packed(name);
    return takt_try_put(&channel, &item);
}

/* Notes the name of what it got, or what it was told. */
static int try_get(void)
{
    struct parcel item = packed("?");
    const int rc = takt_try_get(&channel, &item);
    const struct parcel whole = packed(item.name);
    EXPECT(memcmp(&item, &whole, sizeof item) == 0);
    note(item.name);
    return rc;
}

/* Puts the letters of `name`, or gets `count` and notes them. */
struct courier {
    takt_frame frame;
    const char *name;
    int count;
    takt_ns limit;
    struct parcel item;
    int n, done;
};

static TAKT_CORO(courier)
{
    TAKT_BEGIN(courier, my);
    my->n = 99;
    if (!my->limit)
        my->limit = 600 * TAKT_SEC;
    for (; my->name && *my->name; my->name++) {
        my->item = packed(my->name);
        TAKT_AWAIT(my->n, takt_within(my->limit, takt_put(&channel, &my->item)));
        memset(&my->item, '#', sizeof my->item); /* it was copied */
        my->done++;
    }
    for (; my->done < my->count; my->done++) {
        memset(&my->item, 0, sizeof my->item);
        TAKT_AWAIT(my->n, takt_within(my->limit, takt_get(&channel, &my->item)));
        if (my->n == 0)
            break;
        EXPECT_EQ(my->n, 1);
        note(my->item.name);
    }
    TAKT_CATCH { EXPECT_EQ(my->n, my->frame.error); }
    TAKT_END;
}

static struct courier w, x, y, z;

#define SEND(object, ...) EXPECT(TAKT_START_ON(&loop, object, courier, __VA_ARGS__))

static void items_come_out_as_they_went_in(void)
{
    setup_channel(3);
    EXPECT_EQ(try_get(), TAKT_EWOULDBLOCK);
    for (int i = 0; i < 4; i++) { /* its beginning wanders around the ring */
        EXPECT_EQ(try_put("a"), 0);
        EXPECT_EQ(try_put("b"), 0);
        EXPECT_EQ(channel.count, 2);
        EXPECT_EQ(try_get(), 1);
        EXPECT_EQ(try_put("c"), 0);
        EXPECT_EQ(try_put("d"), 0);
        EXPECT_EQ(try_put("e"), TAKT_EWOULDBLOCK);
        EXPECT_EQ(channel.count, 3);
        EXPECT_EQ(try_get(), 1);
        EXPECT_EQ(try_get(), 1);
        EXPECT_EQ(try_get(), 1);
        EXPECT_EQ(try_get(), TAKT_EWOULDBLOCK);
        EXPECT_EQ(try_put("f"), 0);
        EXPECT_EQ(try_get(), 1);
    }
    finish_channel();
    EXPECT_TRACE("?abcd?fabcd?fabcd?fabcd?f");
}

static void a_full_channel_takes_from_those_who_came_first(void)
{
    setup_channel(1);
    SEND(x, .name = "abc");
    turn();
    EXPECT_EQ(x.done, 1);
    SEND(y, .name = "de");
    turn();
    EXPECT_EQ(try_put("f"), TAKT_EWOULDBLOCK);
    EXPECT_EQ(try_get(), 1);
    EXPECT_EQ(channel.count, 1); /* filled up at once: nobody comes in between */
    EXPECT_EQ(try_put("f"), TAKT_EWOULDBLOCK);
    EXPECT_EQ(x.done, 1); /* but nobody runs from in here */
    SEND(z, .count = 4);
    finish_channel();
    EXPECT_TRACE("abdce");
    EXPECT_EQ(channel.count, 0);
}

static void an_empty_channel_gives_to_those_who_came_first(void)
{
    setup_channel(3);
    SEND(x, .count = 1);
    SEND(y, .count = 1);
    turn();
    EXPECT_EQ(net_deadline(&loop) > net_now(&loop), true);
    EXPECT_EQ(try_put("a"), 0);
    EXPECT_EQ(net_deadline(&loop), 0); /* whoever sleeps outside misses nothing */
    EXPECT_EQ(channel.count, 0);       /* it is handed over: no newcomer gets it */
    EXPECT_EQ(try_get(), TAKT_EWOULDBLOCK);
    EXPECT_EQ(try_put("b"), 0);
    EXPECT_EQ(try_put("c"), 0);
    EXPECT_EQ(channel.count, 1);
    EXPECT_EQ(x.item.name[0], 'a');
    EXPECT_EQ(y.item.name[0], 'b');
    finish_channel();
    EXPECT_TRACE("?ab");
}

/* With capacity 0 a put has completed when somebody has got the item. */
static void without_a_ring_items_go_from_hand_to_hand(void)
{
    setup_channel(0);
    EXPECT_EQ(try_put("a"), TAKT_EWOULDBLOCK);
    SEND(x, .name = "ab");
    turn();
    EXPECT_EQ(x.done, 0);
    EXPECT_EQ(try_get(), 1);
    turn();
    EXPECT_EQ(x.done, 1);
    SEND(y, .count = 3);
    turn();
    turn();
    EXPECT_EQ(x.done, 2);
    EXPECT_EQ(y.done, 1);
    EXPECT_EQ(try_put("c"), 0); /* somebody waits for it */
    EXPECT_EQ(try_put("d"), TAKT_EWOULDBLOCK);
    takt_channel_close(&channel);
    finish_channel();
    EXPECT_EQ(y.n, 0);
    EXPECT_TRACE("abc");
}

static void a_closed_channel_is_emptied_and_then_ends(void)
{
    setup_channel(2);
    SEND(x, .name = "abc");
    turn();
    SEND(y, .name = "d");
    turn();
    EXPECT_EQ(channel.count, 2);
    takt_channel_close(&channel);
    takt_channel_close(&channel);
    EXPECT_EQ(channel.count, 2); /* what waited at the door did not come in */
    turn();
    EXPECT_EQ(takt_error(&x.frame), 0); /* caught */
    EXPECT_EQ(x.n, TAKT_ECLOSED);
    EXPECT_EQ(x.done, 2);
    EXPECT_EQ(y.n, TAKT_ECLOSED);
    EXPECT_EQ(y.done, 0);
    EXPECT_EQ(try_put("e"), TAKT_ECLOSED);
    SEND(x, .name = "f");
    SEND(z, .count = 9);
    turn();
    turn();
    turn();
    EXPECT_EQ(x.n, TAKT_ECLOSED);
    EXPECT_EQ(z.n, 0); /* the end, like that of a stream: no error */
    EXPECT_EQ(z.done, 2);
    EXPECT_EQ(try_get(), 0);
    finish_channel();
    EXPECT_TRACE("ab?");
    setup_channel(1); /* those who wait for more are told */
    SEND(x, .count = 1);
    SEND(y, .count = 1);
    turn();
    takt_channel_close(&channel);
    finish_channel();
    EXPECT_EQ(x.n, 0);
    EXPECT_EQ(y.n, 0);
}

/* Got or not, put or not: never both, never neither. */
static void a_cancelled_courier_leaves_the_line_with_empty_hands(void)
{
    setup_channel(1);
    SEND(x, .count = 1);
    SEND(y, .count = 1);
    turn();
    takt_cancel(&x.frame);
    EXPECT_EQ(try_put("a"), 0);
    finish_channel();
    EXPECT_EQ(x.n, TAKT_ECANCELED);
    EXPECT_EQ(y.n, 1);
    EXPECT_TRACE("a");
    setup_channel(1);
    SEND(w, .name = "a");
    SEND(x, .name = "b");
    SEND(y, .name = "c");
    SEND(z, .name = "d");
    turn();
    takt_cancel(&y.frame); /* from the middle of the line */
    turn();
    EXPECT_EQ(y.n, TAKT_ECANCELED);
    EXPECT_EQ(try_get(), 1);
    EXPECT_EQ(try_get(), 1);
    EXPECT_EQ(try_get(), 1);
    EXPECT_EQ(try_get(), TAKT_EWOULDBLOCK);
    finish_channel();
    EXPECT_TRACE("aabd?");
}

static void what_was_handed_over_is_delivered(void)
{
    setup_channel(1);
    SEND(x, .count = 2);
    turn();
    EXPECT_EQ(try_put("a"), 0);
    takt_cancel(&x.frame); /* it has it already */
    finish_channel();
    EXPECT_EQ(x.done, 1);
    EXPECT_EQ(x.n, TAKT_ECANCELED); /* of the second */
    EXPECT_TRACE("a");
    setup_channel(1);
    SEND(x, .name = "bcd");
    turn();
    turn();
    EXPECT_EQ(try_get(), 1);
    takt_cancel(&x.frame); /* c is in the ring already */
    turn();
    EXPECT_EQ(x.done, 2);
    EXPECT_EQ(try_get(), 1);
    EXPECT_EQ(try_get(), TAKT_EWOULDBLOCK);
    finish_channel();
    EXPECT_TRACE("abc?");
}

static void a_put_and_a_get_have_limits(void)
{
    setup_channel(1);
    SEND(x, .name = "ab", .limit = 1);
    while (takt_alive(&x.frame))
        EXPECT(net_turn(&loop, TAKT_SEC, 0) >= 0);
    EXPECT_EQ(x.n, -ETIMEDOUT);
    SEND(y, .count = 2, .limit = 1);
    while (takt_alive(&y.frame))
        EXPECT(net_turn(&loop, TAKT_SEC, 0) >= 0);
    EXPECT_EQ(y.n, -ETIMEDOUT);
    EXPECT_EQ(try_put("c"), 0);
    EXPECT_EQ(try_get(), 1);
    finish_channel();
    EXPECT_TRACE("ac");
}

struct packer {
    takt_frame frame;
    struct parcel in[3], out[3];
    takt_op ops[6];
    int winner;
};

static TAKT_CORO(packer)
{
    TAKT_BEGIN(packer, my);
    for (int i = 0; i < 3; i++) {
        my->in[i] = packed(i == 0 ? "a" : i == 1 ? "b" : "c");
        my->ops[i] = takt_get(&channel, &my->out[i]);
        my->ops[i + 3] = takt_put(&channel, &my->in[i]);
    }
    TAKT_AWAIT_ALL(my->ops, 6);
    for (int i = 0; i < 6; i++)
        EXPECT_EQ(my->ops[i].result, i < 3 ? 1 : 0);
    for (int i = 0; i < 3; i++)
        EXPECT(memcmp(&my->in[i], &my->out[i], sizeof my->in[i]) == 0);
    TAKT_AWAIT_ANY(my->winner, my->ops + 2, 2);
    EXPECT_EQ(my->winner, 0); /* the get came to wait, and then the put served it */
    EXPECT_EQ(my->ops[2].result, 1);
    EXPECT_EQ(my->ops[3].result, 0);
    EXPECT_EQ(my->out[2].name[0], 'a');
    TAKT_AWAIT_ANY(my->winner, my->ops + 3, 3); /* there is room: the first goes in alone */
    EXPECT_EQ(my->winner, 0);
    EXPECT_EQ(my->ops[4].result, TAKT_ECANCELED);
    EXPECT_EQ(channel.count, 1);
    note("!");
    TAKT_END;
}

static void batches_put_and_get(void)
{
    static struct packer packer;
    setup_channel(3);
    EXPECT(TAKT_START_ON(&loop, packer, packer));
    finish_channel();
    EXPECT_TRACE("!");
}

static void a_channel_without_an_init_says_so(void)
{
    setup();
    memset(&channel, 0, sizeof channel);
    SEND(x, .name = "a");
    SEND(y, .count = 1);
    EXPECT_EQ(try_put("a"), -EINVAL);
    EXPECT_EQ(try_get(), -EINVAL);
    EXPECT(strstr(said, "takt_channel_init()"));
    finish_channel();
    EXPECT_EQ(x.n, -EINVAL);
    EXPECT_EQ(y.n, -EINVAL);
    EXPECT_EQ(takt_channel_init(&channel, ring, 0, 3), -EINVAL);
    EXPECT_EQ(takt_channel_init(&channel, NULL, 4, 1), -EINVAL);
    EXPECT_EQ(try_put("a"), -EINVAL); /* and after a failed one */
}

/* From one to the other, a few at a time. */
struct miller {
    takt_frame frame;
    takt_channel *channel;
    uint32_t i, count, item;
    bool gets;
};

static TAKT_CORO(miller)
{
    TAKT_BEGIN(miller, my);
    for (; my->i < my->count && !my->gets; my->i++) {
        my->item = my->i;
        TAKT_AWAIT(takt_put(my->channel, &my->item));
    }
    for (; my->i < my->count; my->i++) {
        TAKT_AWAIT(takt_get(my->channel, &my->item));
        EXPECT_EQ(my->item, my->i);
    }
    TAKT_END;
}

static void many_items_pass_in_order(void)
{
    static takt_channel numbers;
    static uint32_t room[7];
    static struct miller from, to;
    for (uint32_t capacity = 0; capacity <= 7; capacity += 7) {
        setup();
        EXPECT_EQ(takt_channel_init(&numbers, room, sizeof room[0], capacity), 0);
        EXPECT(TAKT_START_ON(&loop, from, miller, .channel = &numbers, .count = 100000));
        EXPECT(TAKT_START_ON(&loop, to, miller, .channel = &numbers, .count = 100000,
                             .gets = true));
        finish();
        EXPECT_EQ(to.i, 100000);
        EXPECT_EQ(numbers.count, 0);
    }
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_event_lets_all_go_on_in_order),
        TEST(a_reset_does_not_take_back_what_was_set),
        TEST(a_wait_with_a_limit_leaves_the_line),
        TEST(a_cancelled_waiter_leaves_the_line),
        TEST(permits_go_to_those_who_came_first),
        TEST(a_newcomer_does_not_overtake),
        TEST(a_grant_is_final),
        TEST(a_grant_beats_a_limit_that_passes_later),
        TEST(a_batch_waits_for_them_too),
        TEST(a_batch_that_goes_on_does_not_overtake),
        TEST(items_come_out_as_they_went_in),
        TEST(a_full_channel_takes_from_those_who_came_first),
        TEST(an_empty_channel_gives_to_those_who_came_first),
        TEST(without_a_ring_items_go_from_hand_to_hand),
        TEST(a_closed_channel_is_emptied_and_then_ends),
        TEST(a_cancelled_courier_leaves_the_line_with_empty_hands),
        TEST(what_was_handed_over_is_delivered),
        TEST(a_put_and_a_get_have_limits),
        TEST(batches_put_and_get),
        TEST(a_channel_without_an_init_says_so),
        TEST(many_items_pass_in_order),
    };
    return RUN_TESTS(argc, argv, tests);
}
