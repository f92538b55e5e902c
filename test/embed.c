/*
 * embed.c - law 5, in a loop of somebody else's: who sleeps on the loop's descriptor until its
 * deadline misses nothing. On every real backend, with and without deferred task work.
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "refuse.h"
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

TAKT_LOOP(net, takt_uring);

enum { STEPS = 600, ROUNDS = 5000, ASLEEP_MS = 5000 };

static net_config wanted;
static const char *mode_name;
static net loop;
static takt_inbox inbox;

static void setup(void)
{
    net_config config = wanted;
    config.loop.strands = 64;
    EXPECT_EQ(net_init(&loop, &config), 0);
}

static void finish(void)
{
    EXPECT_EQ(net_free(&loop), 0);
}

/* Sleeps as a foreign loop does. True: it was woken, or is to look by itself at the deadline
 * that it was told; false: it would sleep on. */
static bool wakes(void)
{
    const takt_ns deadline = net_deadline(&loop), left = deadline - net_now(&loop);
    struct pollfd watched = {net_fd(&loop), POLLIN, 0};
    if (watched.fd < 0 || left <= 0)
        return true; /* poll(2) has no descriptor: there the host looks now and then */
    if (left < ASLEEP_MS * TAKT_MS)
        return poll(&watched, 1, (int)(left / TAKT_MS) + 1) >= 0;
    return poll(&watched, 1, ASLEEP_MS * test_slow()) > 0;
}

/* Sleeps and turns until `*count` is `goal`. */
static void sleep_until(const int *count, int goal)
{
    for (int i = 0; *count != goal && i < 100000; i++) {
        if (!wakes()) {
            EXPECT(false && "somebody was to wake it");
            printf("on %s\n", mode_name);
            takt_dump(&loop.sched);
            return;
        }
        if (net_turn(&loop, 0, 0) < 0)
            break;
    }
    EXPECT_EQ(*count, goal);
}

/* Turns until there is nothing left to do but to sleep. */
static void settle(void)
{
    struct pollfd watched = {-1, POLLIN, 0};
    do {
        EXPECT(net_turn(&loop, 0, 0) >= 0);
        watched.fd = net_fd(&loop);
    } while (net_deadline(&loop) <= net_now(&loop) || poll(&watched, 1, 0) > 0);
}

static void pair_of(int type, int *pair)
{
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

/* -- whoever waits, for what a host can do to it ----------------------------------------- */

static int done;

enum what { RECV, EVENT, ACQUIRE, PUT, GET, LEASE, STREAM, SLEEP, FOREVER, BURST };

struct waiter {
    takt_frame frame;
    enum what what; /* in */
    int fd;         /* in */
    int64_t n;
    char bytes[64];
    unsigned char *data;
    takt_stream stream;
    takt_item item;
    takt_packet packet;
};

static takt_event event;
static takt_semaphore semaphore;
static takt_channel channel;
static takt_bufs bufs;

static takt_op op_of(struct waiter *my)
{
    switch (my->what) {
    case EVENT:
        return takt_event_wait(&event);
    case ACQUIRE:
        return takt_acquire(&semaphore);
    case PUT:
        return takt_put(&channel, my->bytes);
    case GET:
        return takt_get(&channel, my->bytes);
    case LEASE:
        return takt_recv_lease(my->fd, &bufs, &my->data);
    case SLEEP:
        return takt_sleep(3 * TAKT_MS);
    case BURST:
        return takt_send_burst(my->fd, &my->packet, 1);
    case FOREVER:
        return takt_sleep(600 * TAKT_SEC);
    default:
        return takt_recv(my->fd, my->bytes, sizeof my->bytes);
    }
}

static TAKT_CORO(waiter)
{
    TAKT_BEGIN(waiter, my);
    TAKT_DEFER { done++; }
    my->packet.data = "x";
    my->packet.len = 1;
    TAKT_TRY_AWAIT(my->n, op_of(my));
    takt_bufs_put(&bufs, &my->data);
    TAKT_END;
}

/* One that waits, and nothing else to do. */
static struct waiter *one_waits(enum what what, int fd)
{
    static struct waiter waiter;
    done = 0;
    EXPECT(TAKT_START_ON(&loop, waiter, waiter, .what = what, .fd = fd));
    settle();
    EXPECT(takt_alive(&waiter.frame));
    return &waiter;
}

/* -- each way to be woken, by itself ----------------------------------------------------- */

/* A descriptor that nobody had asked for tells of what came before that, too. */
static void a_descriptor_that_is_asked_for_late(void)
{
    int pair[2];
    struct pollfd watched = {-1, POLLIN, 0};
    takt_ns deadline;
    static struct waiter waiter;
    setup();
    done = 0;
    pair_of(SOCK_STREAM, pair);
    EXPECT(TAKT_START_ON(&loop, waiter, waiter, .what = RECV, .fd = pair[0]));
    for (int i = 0; i < 3 || net_deadline(&loop) <= net_now(&loop); i++)
        EXPECT(net_turn(&loop, 0, 0) >= 0);
    deadline = net_deadline(&loop);
    EXPECT_EQ(deadline, TAKT_FOREVER);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    watched.fd = net_fd(&loop);
    if (watched.fd >= 0)
        EXPECT_EQ(poll(&watched, 1, ASLEEP_MS), 1);
    sleep_until(&done, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static void a_completion(void)
{
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    one_waits(RECV, pair[0]);
    EXPECT_EQ(net_deadline(&loop), TAKT_FOREVER);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    sleep_until(&done, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static void a_timer(void)
{
    setup();
    one_waits(SLEEP, -1);
    EXPECT(net_deadline(&loop) < TAKT_FOREVER);
    sleep_until(&done, 1);
    finish();
}

static void what_is_started_from_outside(void)
{
    static struct waiter second, third;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    one_waits(FOREVER, -1);
    event.set = true;
    EXPECT(TAKT_START_ON(&loop, second, waiter, .what = EVENT));
    sleep_until(&done, 1);
    settle();
    memset((void *)&third, 0, sizeof third); /* runs at once: its op is under way, or to be */
    third.fd = pair[0];
    EXPECT_EQ(net_submit(&loop, &third.frame, waiter_coro), 0);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    sleep_until(&done, 2);
    event.set = false;
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* -- one op by itself, with a callback ------------------------------------------------------ */

static int64_t result;

static void told(void *user, int64_t value)
{
    result = value;
    ++*(int *)user;
}

static void told_and_goes_on(void *user, int64_t value)
{
    told(user, value);
    if (*(int *)user < 5)
        EXPECT(net_submit_op(&loop, takt_sleep(TAKT_MS), told_and_goes_on, user));
}

static void a_single_op(void)
{
    static char bytes[8];
    net_config config = wanted;
    int pair[2];
    pair_of(SOCK_STREAM, pair);
    TAKT_POOL(config, takt_request, 2);
    EXPECT_EQ(net_init(&loop, &config), 0);
    settle();
    done = 0;
    EXPECT(net_submit_op(&loop, takt_recv(pair[0], bytes, sizeof bytes), told, &done));
    settle();
    EXPECT_EQ(done, 0);
    EXPECT_EQ(write(pair[1], "four", 4), 4);
    sleep_until(&done, 1);
    EXPECT_EQ(result, 4);
    EXPECT(net_submit_op(&loop, takt_every(TAKT_MS), told, &done)); /* for streams alone */
    sleep_until(&done, 2);
    EXPECT_EQ(result, -EINVAL);
    done = 1;
    EXPECT(net_submit_op(&loop, takt_recv(-1, bytes, sizeof bytes), told, &done));
    sleep_until(&done, 2);
    EXPECT_EQ(result, -EBADF);
    EXPECT(net_submit_op(&loop, takt_within(TAKT_MS, takt_recv(pair[0], bytes, 1)), told, &done));
    sleep_until(&done, 3);
    EXPECT_EQ(result, -ETIMEDOUT);
    done = 0;
    EXPECT(net_submit_op(&loop, takt_sleep(TAKT_MS), told_and_goes_on, &done));
    sleep_until(&done, 5);
    EXPECT_EQ(result, 0);

    /* beyond its room it is refused, and at the end each is told, once */
    done = 0;
    EXPECT(net_submit_op(&loop, takt_recv(pair[0], bytes, 1), told, &done));
    EXPECT(net_submit_op(&loop, takt_sleep(600 * TAKT_SEC), told, &done));
    EXPECT(!net_submit_op(&loop, takt_nop(), told, &done));
    net_stop(&loop, 0);
    sleep_until(&done, 2);
    EXPECT_EQ(result, TAKT_ECANCELED);
    EXPECT(!net_submit_op(&loop, takt_nop(), told, &done));
    finish();
    EXPECT_EQ(done, 2);

    EXPECT_EQ(net_init(&loop, &config), 0);
    done = 0;
    EXPECT(net_submit_op(&loop, takt_recv(pair[0], bytes, 1), told, &done));
    finish(); /* which drains */
    EXPECT_EQ(done, 1);
    EXPECT_EQ(result, TAKT_ECANCELED);
    close(pair[0]);
    close(pair[1]);
}

static void what_is_done_to_one_that_waits(void)
{
    struct waiter *it;
    char ring[64], bytes[64] = "";
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    it = one_waits(RECV, pair[0]);
    takt_cancel(&it->frame);
    sleep_until(&done, 1);
    it = one_waits(FOREVER, -1);
    takt_cancel(&it->frame);
    sleep_until(&done, 1);
    one_waits(EVENT, -1);
    takt_event_set(&event);
    sleep_until(&done, 1);
    takt_event_reset(&event);
    one_waits(ACQUIRE, -1);
    takt_release(&semaphore, 1);
    sleep_until(&done, 1);
    EXPECT_EQ(takt_channel_init(&channel, ring, sizeof ring, 1), 0);
    one_waits(GET, -1);
    EXPECT_EQ(takt_try_put(&channel, bytes), 0);
    sleep_until(&done, 1);
    EXPECT_EQ(takt_try_put(&channel, bytes), 0);
    one_waits(PUT, -1);
    EXPECT_EQ(takt_try_get(&channel, bytes), 1);
    sleep_until(&done, 1);
    one_waits(PUT, -1);
    takt_channel_close(&channel);
    sleep_until(&done, 1);
    one_waits(FOREVER, -1);
    net_stop(&loop, 3 * TAKT_MS);
    EXPECT(net_deadline(&loop) < TAKT_FOREVER);
    sleep_until(&done, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static void a_buffer_that_comes_back(void)
{
    unsigned char *mine;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(takt_bufs_init(&bufs, 1, 64), 0);
    mine = takt_bufs_take(&bufs);
    EXPECT_EQ(write(pair[1], "x", 1), 1);
    one_waits(LEASE, pair[0]);
    EXPECT_EQ(takt_bufs_put(&bufs, &mine), 0);
    sleep_until(&done, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
    takt_bufs_free(&bufs);
}

static void room_to_send(void)
{
    char bytes[64];
    int pair[2];
    setup();
    pair_of(SOCK_DGRAM, pair);
    while (send(pair[0], "x", 1, 0) == 1)
        ;
    one_waits(BURST, pair[0]);
    while (recv(pair[1], bytes, sizeof bytes, 0) > 0)
        ;
    sleep_until(&done, 1);
    close(pair[0]);
    close(pair[1]);
    finish();
}

/* Its line is full, and the host takes from it: the request has to begin anew. */
struct many {
    takt_frame frame;
    int fd;
    takt_stream stream;
};

static TAKT_CORO(many)
{
    TAKT_BEGIN(many, my);
    my->stream.limit = 4;
    TAKT_OPEN(my->stream, takt_recvmsg_multishot(my->fd, &bufs));
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

static void a_stream_from_which_the_host_takes(void)
{
    static struct many many;
    enum { ALL = 100 };
    takt_item item;
    int pair[2], sent = 0, got = 0;
    setup();
    pair_of(SOCK_DGRAM, pair);
    EXPECT_EQ(takt_bufs_init(&bufs, 16, 512), 0);
    EXPECT(TAKT_START_ON(&loop, many, many, .fd = pair[0]));
    settle();
    while (got < ALL) {
        while (sent < ALL && send(pair[1], &sent, sizeof sent, 0) > 0)
            sent++;
        if (!wakes()) {
            EXPECT(false && "there is more");
            break;
        }
        EXPECT(net_turn(&loop, 0, 0) >= 0);
        while (takt_stream_take(&many.stream, &item)) {
            int number;
            memcpy(&number, ((takt_datagram *)(void *)item.data)->data, sizeof number);
            EXPECT_EQ(number, got);
            got++;
            takt_bufs_put(&bufs, &item.data);
        }
    }
    takt_cancel(&many.frame);
    EXPECT_EQ(net_run(&loop), 0);
    close(pair[0]);
    close(pair[1]);
    finish();
    takt_bufs_free(&bufs);
}

/* -- all of them, at random ---------------------------------------------------------------- */

static uint64_t seed;
static int written, received, slept, woken, set, seen, posted, delivered;

static uint32_t random_below(uint32_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % limit;
}

struct reader {
    takt_frame frame;
    int fd; /* in */
    int n;
    char bytes[4];
};

static TAKT_CORO(reader)
{
    TAKT_BEGIN(reader, my);
    for (;;) {
        TAKT_AWAIT(my->n, takt_recv(my->fd, my->bytes, sizeof my->bytes));
        received += my->n;
        if (my->n > 2)
            TAKT_YIELD;
        if (my->n > 3)
            TAKT_AWAIT(takt_nop());
    }
    TAKT_END;
}

struct sleeper {
    takt_frame frame;
    takt_ns ns; /* in */
};

static TAKT_CORO(sleeper)
{
    TAKT_BEGIN(sleeper, my);
    TAKT_AWAIT(takt_sleep(my->ns));
    woken++;
    TAKT_END;
}

struct watcher {
    takt_frame frame;
};

static TAKT_CORO(watcher)
{
    TAKT_BEGIN(watcher, my);
    for (;;) {
        TAKT_AWAIT(takt_acquire(&semaphore));
        seen++;
    }
    TAKT_END;
}

static void deliver(takt_message *message)
{
    (void)message;
    delivered++;
}

/* What may happen at any moment, as others do it. */
static void from_afar(const int *pair)
{
    static takt_message message;
    const uint32_t dice = random_below(4);
    if (dice == 0 && posted == delivered) { /* it is only one */
        message.run = deliver;
        posted++;
        EXPECT_EQ(takt_post(&inbox, &message), 0);
    } else if (dice < 3 && written - received < 200) {
        const uint32_t count = 1 + random_below(5);
        EXPECT_EQ(write(pair[1], "12345", count), (ssize_t)count);
        written += (int)count;
    }
}

/* What the host does itself, before it asks how long it may sleep. */
static void from_outside(void)
{
    const uint32_t dice = random_below(4);
    if (dice == 0 && TAKT_SPAWN_ON(&loop, sleeper, .ns = random_below(400) * TAKT_US)) {
        slept++;
    } else if (dice == 1) {
        set++;
        takt_release(&semaphore, 1);
    }
}

static void one_schedule(void)
{
    static struct reader reader;
    static struct watcher watcher;
    static takt_delivery delivery;
    int pair[2];
    pair_of(SOCK_STREAM, pair);
    EXPECT_EQ(takt_inbox_init(&inbox), 0);
    memset(&semaphore, 0, sizeof semaphore);
    written = received = slept = woken = set = seen = posted = delivered = 0;
    EXPECT(TAKT_START_ON(&loop, reader, reader, .fd = pair[0]) &&
           TAKT_START_ON(&loop, watcher, watcher) &&
           TAKT_START_ON(&loop, delivery, takt_delivery, .inbox = &inbox));
    for (int i = 0; i < STEPS; i++) {
        struct pollfd watched;
        takt_ns deadline;
        from_afar(pair);
        EXPECT(net_turn(&loop, 0, (int)random_below(3)) >= 0);
        from_outside();
        if (random_below(2))
            from_afar(pair);
        if (written == received && slept == woken && set == seen && posted == delivered)
            continue;
        deadline = net_deadline(&loop);
        watched.fd = net_fd(&loop);
        watched.events = POLLIN;
        if (random_below(2))
            from_afar(pair);
        if (watched.fd < 0 || deadline <= net_now(&loop))
            continue;
        deadline -= net_now(&loop);
        if (poll(&watched, 1, deadline < TAKT_SEC ? 1 : ASLEEP_MS) == 0 && deadline >= TAKT_SEC) {
            EXPECT(false && "it slept on");
            printf("on %s: %d %d, %d %d, %d %d, %d %d\n", mode_name, written, received, slept,
                   woken, set, seen, posted, delivered);
            break;
        }
    }
    sleep_until(&received, written);
    sleep_until(&woken, slept);
    sleep_until(&seen, set);
    sleep_until(&delivered, posted);
    takt_cancel(&reader.frame);
    takt_cancel(&watcher.frame);
    takt_cancel(&delivery.frame);
    EXPECT_EQ(net_run(&loop), 0);
    takt_inbox_free(&inbox);
    close(pair[0]);
    close(pair[1]);
}

/* Law 5 */
static void no_schedule_loses_a_wake_up(void)
{
    const char *const text = getenv("SEED");
    const uint64_t first = text ? strtoull(text, NULL, 10) : 1;
    for (uint64_t i = 0; i < 10 && !test_failures; i++) {
        net_config config = wanted;
        seed = (first + i) * 0x9e3779b97f4a7c15u;
        config.loop.strands = 64;
        TAKT_POOL(config, sleeper, 32);
        EXPECT_EQ(net_init(&loop, &config), 0);
        one_schedule();
        finish();
        if (test_failures)
            printf("SEED=%llu\n", (unsigned long long)(first + i));
    }
}

/* -- at moments that nobody chooses ------------------------------------------------------------ */

static int answered, other_end;

struct answerer {
    takt_frame frame;
    int fd; /* in */
    char c;
};

static TAKT_CORO(answerer)
{
    TAKT_BEGIN(answerer, my);
    while (answered < ROUNDS) {
        TAKT_AWAIT(takt_recv(my->fd, &my->c, 1));
        __atomic_add_fetch(&answered, 1, __ATOMIC_RELEASE);
    }
    TAKT_END;
}

/* Says the next thing as soon as it sees that the last was heard, or a little later: while the
 * turn that heard it goes on, is over, or the host is about to sleep. */
static void *one_by_one(void *user)
{
    (void)user;
    for (int i = 0; i < ROUNDS; i++) {
        for (volatile int wait = i % 64 * 16; wait > 0; wait--)
            ;
        while (__atomic_load_n(&answered, __ATOMIC_ACQUIRE) < i)
            sched_yield();
        EXPECT_EQ(write(other_end, "x", 1), 1);
    }
    return NULL;
}

static void no_moment_loses_a_wake_up(void)
{
    static struct answerer answerer;
    pthread_t thread;
    int pair[2];
    setup();
    pair_of(SOCK_STREAM, pair);
    answered = 0;
    other_end = pair[1];
    EXPECT(TAKT_START_ON(&loop, answerer, answerer, .fd = pair[0]));
    EXPECT_EQ(pthread_create(&thread, NULL, one_by_one, NULL), 0);
    while (takt_alive(&answerer.frame)) {
        if (!wakes()) {
            EXPECT(false && "it slept on");
            printf("on %s, after %d\n", mode_name, answered);
        }
        for (int i = answered % 4; i >= 0; i--) /* in the middle of one it is to come, too */
            EXPECT(net_turn(&loop, net_fd(&loop) < 0 ? TAKT_MS : 0, 0) >= 0);
    }
    EXPECT_EQ(answered, ROUNDS);
    pthread_join(thread, NULL);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static const struct mode {
    const char *name;
    takt_uring_mode mode;
    uint32_t disable;
    bool poll, refused;
} modes[] = {
    {"epoll", TAKT_URING_NEVER, 0, false, false},
    {"poll", TAKT_URING_NEVER, 0, true, false},
    {"uring", TAKT_URING_AUTO, 0, false, false},
    {"uring without defer_taskrun", TAKT_URING_AUTO, TAKT_URING_NO_DEFER_TASKRUN, false, false},
    {"uring without multishot, buffer rings or registered rings", TAKT_URING_AUTO,
     TAKT_URING_NO_MULTISHOT | TAKT_URING_NO_BUFFER_RING | TAKT_URING_NO_REGISTERED_RING, false,
     false},
    {"refused", TAKT_URING_AUTO, 0, false, true},
};

/* What a mode asks for. */
static int enter(size_t m)
{
    if (modes[m].refused && refuse(425, EPERM) < 0)
        return 0;
    wanted = net_defaults();
    wanted.backend.mode = modes[m].mode;
    wanted.backend.disable = modes[m].disable;
    wanted.backend.posix.poll_instead = modes[m].poll;
    mode_name = modes[m].name;
    return 1;
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_descriptor_that_is_asked_for_late),
        TEST(a_completion),
        TEST(a_timer),
        TEST(what_is_started_from_outside),
        TEST(a_single_op),
        TEST(what_is_done_to_one_that_waits),
        TEST(a_buffer_that_comes_back),
        TEST(room_to_send),
        TEST(a_stream_from_which_the_host_takes),
        TEST(no_schedule_loses_a_wake_up),
        TEST(no_moment_loses_a_wake_up),
    };
    return RUN_MODES(argc, argv, tests, modes, enter);
}
