/*
 * cxx.cc - takt in C++17: the words, loops, groups and pools, on both backends, and a class
 * that owns coroutines the way a game server would.
 *
 * A coroutine's struct is plain data; a class owns it as a member, starts it from outside
 * with TAKT_START_ON, and cancels it in its shutdown.
 */
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"

#include "test.h"

#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <type_traits>
#include <unistd.h>
#include <vector>

TAKT_LOOP(portable, takt_posix);
TAKT_LOOP(ring, takt_uring);

/* The functions of a loop, by its type. */
template <class Loop> struct api;
#define API(name)                                                                            \
    template <> struct api<name> {                                                           \
        using config = name##_config;                                                        \
        static config defaults() { return name##_defaults(); }                               \
        static int init(name *loop, const config *c) { return name##_init(loop, c); }        \
        static int turn(name *loop, takt_ns wait) { return name##_turn(loop, wait, 0); }     \
        static int run(name *loop) { return name##_run(loop); }                              \
        static int pending(const name *loop) { return name##_pending(loop); }                \
        static int drain(name *loop) { return name##_drain(loop); }                          \
        static int free(name *loop) { return name##_free(loop); }                            \
        static void stop(name *loop) { name##_stop(loop, 0); }                               \
        static takt_ns deadline(name *loop) { return name##_deadline(loop); }                \
        static int fd(name *loop) { return name##_fd(loop); }                                \
        static int failed(const name *loop) { return name##_failed(loop); }                  \
        static bool later(name *loop) { return name##_now(loop) > 0; }                       \
        static int submit(name *loop, takt_frame *frame, takt_body *body)                    \
        {                                                                                    \
            return name##_submit(loop, frame, body);                                         \
        }                                                                                    \
    }
API(portable);
API(ring);

/* -- words: every one of them, once ------------------------------------------------ */

struct leaf {
    takt_frame frame;
    const char *name;
    takt_ns ns;
    int fail;
    int twice; /* out */
};

static TAKT_CORO(leaf)
{
    TAKT_BEGIN(leaf, my);
    note(my->name);
    TAKT_DEFER { note("~"); }
    if (my->ns)
        TAKT_AWAIT(takt_sleep(my->ns));
    if (my->fail)
        TAKT_THROW(my->fail);
    my->twice = 2;
    TAKT_END;
}

struct calls {
    takt_frame frame;
    int error, winner;
    leaf a, b; /* without `struct`: the body does not bear the struct's name */
};

static TAKT_CORO(calls)
{
    TAKT_BEGIN(calls, my);
    TAKT_DEFER
    {
        note("<");
        TAKT_AWAIT(takt_sleep(1)); /* a defer may suspend */
        note(">");
    }
    TAKT_CALL(my->a, leaf, .name = "a", .ns = 1);
    note(my->a.twice == 2 ? "2" : "?");
    TAKT_TRY_CALL(my->error, my->a, leaf, .name = "b", .fail = -EPERM);
    note(my->error == -EPERM ? "P" : "?");
    TAKT_START(my->a, leaf, .name = "c", .ns = 60 * TAKT_SEC);
    TAKT_START(my->b, leaf, .name = "d", .ns = 1);
    TAKT_RACE(my->winner, my->a, my->b);
    note(my->winner == 1 ? "R" : "?");
    TAKT_START(my->a, leaf, .name = "e");
    TAKT_JOIN(my->a);
    TAKT_START(my->a, leaf, .name = "f");
    TAKT_JOIN();
    TAKT_YIELD;
    TAKT_CALL_WITHIN(TAKT_MS, my->a, leaf, .name = "g", .ns = 60 * TAKT_SEC);
    note("never");
    TAKT_CATCH { note(my->frame.error == -ETIMEDOUT ? "T" : "?"); }
    TAKT_END;
}

struct awaits {
    takt_frame frame;
    int pair[2]; /* in */
    int n;
    char c;
    unsigned char *data;
    takt_bufs *bufs; /* in */
    takt_op ops[2];
    takt_event event;
    takt_semaphore permits;
    takt_idle idle;
};

static TAKT_CORO(awaits)
{
    TAKT_BEGIN(awaits, my);
    takt_idle_start(&my->frame, &my->idle, 60 * TAKT_SEC);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->pair[0])); }
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->pair[1])); }
    TAKT_TRY_AWAIT(my->n, takt_within(TAKT_MS, takt_recv(my->pair[0], &my->c, 1)));
    note(my->n == -ETIMEDOUT ? "t" : "?");
    my->ops[0] = takt_send(my->pair[1], "k", 1);
    my->ops[1] = takt_recv(my->pair[0], &my->c, 1);
    TAKT_AWAIT_ALL(my->ops, 2);
    note(my->ops[1].result == 1 && my->c == 'k' ? "k" : "?");
    TAKT_SYS(my->n, static_cast<int>(write(my->pair[1], "lease", 5)));
    TAKT_AWAIT(my->n, takt_recv_lease(my->pair[0], my->bufs, &my->data));
    note(my->n == 5 && memcmp(my->data, "lease", 5) == 0 ? "l" : "?");
    TAKT_CHECK(takt_bufs_put(my->bufs, &my->data));
    takt_event_set(&my->event);
    TAKT_AWAIT(takt_event_wait(&my->event));
    takt_release(&my->permits, 1);
    TAKT_AWAIT(takt_acquire(&my->permits));
    takt_idle_touch(&my->idle);
    note("e");
    if (my->n == 5)
        TAKT_RETURN;
    note("never");
    TAKT_END;
}

struct herd {
    takt_frame frame;
    int i;
    takt_group group;
};

static TAKT_CORO(herd)
{
    TAKT_BEGIN(herd, my);
    for (my->i = 0; my->i < 3; my->i++)
        if (!TAKT_GO(my->group, leaf, .name = "m", .ns = 1, .fail = my->i == 1 ? -EIO : 0))
            note("!"); /* the pool has room for two */
    TAKT_JOIN_GROUP(my->group);
    note(my->group.count == 0 && my->group.first_error == -EIO ? "J" : "?");
    if (!TAKT_SPAWN(leaf, .name = "s"))
        note("?");
    TAKT_END;
}

/* -- a fresh loop for each test ------------------------------------------------------- */

template <class Loop> struct Fixture {
    std::unique_ptr<Loop> loop = std::make_unique<Loop>(); /* must not move: on the heap */

    Fixture()
    {
        auto config = api<Loop>::defaults();
        TAKT_POOL(config, calls, 1, .strands = 3);
        TAKT_POOL(config, awaits, 1, .strands = 3);
        TAKT_POOL(config, herd, 1);
        TAKT_POOL(config, leaf, 2);
        config.loop.strands = 8;
        config.loop.on_failure = [](void *, const char *, int, const char *, int) {};
        test_trace[0] = '\0';
        EXPECT_EQ(api<Loop>::init(loop.get(), &config), 0);
    }

    ~Fixture()
    {
        EXPECT_EQ(api<Loop>::free(loop.get()), 0);
        EXPECT_EQ(loop->sched.strands_used, 0);
    }

    Fixture(const Fixture &) = delete;
    Fixture &operator=(const Fixture &) = delete;

    int run() { return api<Loop>::run(loop.get()); }
};

template <class Loop> static void the_words_mean_what_they_mean_in_c()
{
    {
        Fixture<Loop> on;
        EXPECT(TAKT_SPAWN_ON(on.loop.get(), calls, .error = 0));
        EXPECT_EQ(on.run(), 0);
        EXPECT_TRACE("a~2b~Pcd~~Re~f~g~T<>");
    }
    Fixture<Loop> on;
    takt_bufs bufs;
    int pair[2];
    EXPECT_EQ(takt_bufs_init(&bufs, 2, 64), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT(TAKT_SPAWN_ON(on.loop.get(), awaits, .bufs = &bufs, .pair[0] = pair[0],
                         .pair[1] = pair[1]));
    EXPECT_EQ(on.run(), 0);
    EXPECT_TRACE("tkle");
    EXPECT_EQ(bufs.in_use, 0);
    takt_bufs_free(&bufs);
}

template <class Loop> static void groups_and_pools_are_bounded()
{
    Fixture<Loop> on;
    EXPECT(TAKT_SPAWN_ON(on.loop.get(), herd));
    on.run();
    EXPECT_TRACE("!mm~~Js~");
}

/* The arguments of a spawn are C++ expressions; a group may stand in an object. */
template <class Loop> static void a_group_stands_in_an_object()
{
    Fixture<Loop> on;
    struct Owner {
        takt_group group = {};
        std::vector<std::string> names = {"x", "y"};
    } owner;
    for (const auto &name : owner.names)
        EXPECT(TAKT_GO_ON(on.loop.get(), owner.group, leaf, .name = name.c_str(),
                          .ns = 60 * TAKT_SEC));
    api<Loop>::turn(on.loop.get(), 0);
    EXPECT_EQ(owner.group.count, 2);
    takt_group_cancel(&owner.group);
    EXPECT_EQ(on.run(), 0);
    EXPECT_EQ(owner.group.count, 0);
    EXPECT_TRACE("xy~~");
}

/* -- a game server: a class that owns its coroutines ------------------------------------- */

struct ticker {
    takt_frame frame;
    takt_ns period;    /* in */
    int *ticks;        /* in */
    bool *tidied;      /* in */
};

static TAKT_CORO(ticker)
{
    TAKT_BEGIN(ticker, my);
    TAKT_DEFER
    {
        TAKT_AWAIT(takt_sleep(1)); /* a goodbye takes a moment, also under cancellation */
        *my->tidied = true;
    }
    for (;;) {
        TAKT_AWAIT(takt_sleep(my->period));
        ++*my->ticks;
    }
    TAKT_END;
}

struct listener {
    takt_frame frame;
    int fd; /* in: closed here */
    int n;
    char message[64];
    std::string *last;  /* in: lives in the class; the struct only points to it */
};

static TAKT_CORO(listener)
{
    TAKT_BEGIN(listener, my);
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    for (;;) {
        TAKT_AWAIT(my->n, takt_recv(my->fd, my->message, sizeof my->message));
        if (my->n == 0)
            TAKT_RETURN;
        my->last->assign(my->message, static_cast<size_t>(my->n));
    }
    TAKT_END;
}

static_assert(std::is_trivially_copyable<ticker>::value, "a coroutine's struct is plain data");

template <class Loop> class GameServer {
public:
    GameServer()
    {
        auto config = api<Loop>::defaults();
        config.loop.strands = 4;
        EXPECT_EQ(api<Loop>::init(&loop, &config), 0);
    }

    ~GameServer()
    {
        shutdown();
        EXPECT_EQ(api<Loop>::free(&loop), 0);
    }

    GameServer(const GameServer &) = delete;
    GameServer &operator=(const GameServer &) = delete;

    bool start(int fd)
    {
        return TAKT_START_ON(&loop, tick, ticker, .period = TAKT_MS, .ticks = &ticks,
                             .tidied = &tidied) &&
               TAKT_START_ON(&loop, listen, listener, .fd = fd, .last = &last);
    }

    /* One frame of the game: never waits longer than it may. */
    void frame(takt_ns wait)
    {
        EXPECT(api<Loop>::turn(&loop, wait) >= 0);
        frames++;
    }

    void shutdown()
    {
        takt_cancel(&tick.frame);
        takt_cancel(&listen.frame);
        while (alive())
            api<Loop>::turn(&loop, TAKT_MS);
    }

    bool alive() const { return takt_alive(&tick.frame) || takt_alive(&listen.frame); }

    Loop loop;
    ticker tick = {};
    listener listen = {};
    std::string last;
    int ticks = 0, frames = 0;
    bool tidied = false;
};

template <class Loop> static void a_class_owns_and_cancels_its_coroutines()
{
    auto server = std::make_unique<GameServer<Loop>>();
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT(!server->alive());
    EXPECT(server->start(pair[0]));
    EXPECT(server->alive());
    EXPECT_EQ(write(pair[1], "jump", 4), 4);
    for (int i = 0; i < 100000 && (server->ticks < 3 || server->last.empty()); i++)
        server->frame(TAKT_MS);
    EXPECT(server->ticks >= 3);
    EXPECT(server->last == "jump");
    EXPECT_EQ(api<Loop>::pending(&server->loop), 2);

    server->shutdown();
    EXPECT(!server->alive());
    EXPECT(server->tidied);
    EXPECT(takt_finished(&server->tick.frame));
    EXPECT_EQ(takt_error(&server->tick.frame), TAKT_ECANCELED);
    EXPECT_EQ(takt_error(&server->listen.frame), TAKT_ECANCELED);
    EXPECT_EQ(api<Loop>::pending(&server->loop), 0);
    EXPECT_EQ(read(pair[1], &pair[0], 1), 0); /* its end was closed */

    /* The same objects once more, and a peer that leaves first. */
    server->tidied = false;
    close(pair[1]);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    EXPECT(server->start(pair[0]));
    close(pair[1]);
    for (int i = 0; i < 100000 && takt_alive(&server->listen.frame); i++)
        server->frame(TAKT_MS);
    EXPECT_EQ(takt_error(&server->listen.frame), 0);
    server.reset(); /* the destructor does the rest */
}

/* -- a frame loop: datagrams, players on the heap, one flush a tick ------------------------ */

enum class Farewell : uint8_t { none, left, kicked };

struct Guest; /* has members that a coroutine's struct must not have */

struct session {
    takt_frame frame;
    Guest *guest; /* in */
    takt_event leaves;
    Farewell farewell;
};

struct Guest {
    session coroutine = {};
    takt_addr addr = {};
    std::string name;
    std::vector<int> inputs;
    Farewell *told = nullptr;
};

static TAKT_CORO(session)
{
    TAKT_BEGIN(session, my);
    TAKT_DEFER { *my->guest->told = my->farewell; }
    my->farewell = Farewell::kicked;
    my->guest->name += "!";
    TAKT_AWAIT(takt_event_wait(&my->leaves));
    my->farewell = Farewell::left;
    TAKT_END;
}

struct door {
    takt_frame frame;
    takt_addr addr;
    takt_bufs *bufs; /* in */
    int fd;
    takt_stream arrivals;
};

static TAKT_CORO(door)
{
    TAKT_BEGIN(door, my);
    TAKT_CHECK(takt_addr_parse(&my->addr, "127.0.0.1:0"));
    TAKT_CHECK(my->fd = takt_udp_bind(&my->frame, &my->addr));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_CHECK(takt_sockname(&my->frame, my->fd, &my->addr));
    TAKT_OPEN(my->arrivals, takt_recvmsg_multishot(my->fd, my->bufs));
    TAKT_AWAIT(takt_sleep(600 * TAKT_SEC));
    TAKT_END;
}

/* Owns a loop; neither is copied, and the loop does not move: it stands on the heap. */
template <class Loop> class Arena {
public:
    Arena()
    {
        EXPECT_EQ(takt_bufs_init(&bufs, 64, 512), 0);
        EXPECT(TAKT_START_ON(on.loop.get(), entrance, door, .bufs = &bufs));
        api<Loop>::turn(on.loop.get(), 0);
    }

    ~Arena()
    {
        for (auto &guest : guests)
            takt_cancel(&guest.second->coroutine.frame);
        takt_cancel(&entrance.frame);
        EXPECT_EQ(on.run(), 0);
        EXPECT_EQ(bufs.in_use, 0);
        takt_bufs_free(&bufs);
    }

    Arena(const Arena &) = delete;
    Arena &operator=(const Arena &) = delete;

    /* One frame: what has come, a callback of the game's, a word to each, and who is gone. */
    template <class Step> int frame(Step &&step)
    {
        takt_item item;
        EXPECT(api<Loop>::turn(on.loop.get(), 0) >= 0);
        while (takt_stream_take(&entrance.arrivals, &item)) {
            const auto &d = *reinterpret_cast<const takt_datagram *>(item.data);
            if (Guest *const guest = find(d.from))
                guest->inputs.push_back(d.len ? d.data[0] : -1);
            EXPECT_EQ(takt_bufs_put(&bufs, &item.data), 0);
        }
        for (auto &guest : guests)
            step(*guest.second);
        packets.clear();
        for (auto &guest : guests)
            packets.push_back({"tick", 4, 0, &guest.second->addr, nullptr});
        const int sent = takt_try_send_burst(&entrance.frame, entrance.fd, packets.data(),
                                             packets.size());
        for (auto it = guests.begin(); it != guests.end();)
            it = takt_alive(&it->second->coroutine.frame) ? std::next(it) : guests.erase(it);
        return sent;
    }

    /* Whoever speaks is let in. */
    Guest *find(const takt_addr &from)
    {
        static const uint64_t key[2] = {1, 2};
        auto &guest = guests[takt_addr_hash(&from, key)];
        if (!guest) {
            guest = std::make_unique<Guest>();
            guest->addr = from;
            guest->name = "guest " + std::to_string(guests.size());
            guest->told = &told;
            EXPECT(TAKT_START_ON(on.loop.get(), guest->coroutine, session,
                                 .guest = guest.get()));
        }
        return guest.get();
    }

    Fixture<Loop> on;
    takt_bufs bufs = {};
    door entrance = {};
    std::map<uint64_t, std::unique_ptr<Guest>> guests;
    std::vector<takt_packet> packets;
    Farewell told = Farewell::none;
};

template <class Loop> static void a_frame_loop_plays_with_datagrams()
{
    Arena<Loop> arena;
    int players[3], heard = 0;
    char bytes[16];
    for (int &player : players) {
        player = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        const auto *to = reinterpret_cast<const sockaddr *>(&arena.entrance.addr.sockaddr);
        EXPECT_EQ(connect(player, to, arena.entrance.addr.len), 0);
        EXPECT_EQ(send(player, "\5", 1, 0), 1);
    }
    const auto nothing = [](Guest &) {};
    for (int i = 0; i < 100000 && arena.guests.size() < 3; i++)
        arena.frame(nothing);
    EXPECT_EQ(arena.guests.size(), 3);
    EXPECT_EQ(arena.frame(nothing), 3);
    for (int player : players)
        while (recv(player, bytes, sizeof bytes, 0) == 4)
            heard++;
    EXPECT(heard >= 3);
    arena.frame([&](Guest &guest) { /* a kick from within the frame, by a lambda */
        EXPECT(guest.name.back() == '!' && guest.inputs.at(0) == 5);
        if (&guest == arena.guests.begin()->second.get())
            takt_cancel(&guest.coroutine.frame);
    });
    for (int i = 0; i < 1000 && arena.guests.size() == 3; i++)
        arena.frame(nothing);
    EXPECT(arena.told == Farewell::kicked);
    takt_event_set(&arena.guests.begin()->second->coroutine.leaves);
    for (int i = 0; i < 1000 && arena.guests.size() == 2; i++)
        arena.frame(nothing);
    EXPECT(arena.told == Farewell::left);
    EXPECT_EQ(arena.guests.size(), 1);
    for (int player : players)
        close(player);
}

/* A foreign loop drives this one: submit, turn without waiting, deadline, stop, drain. */
template <class Loop> static void a_foreign_loop_drives_it()
{
    Fixture<Loop> on;
    Loop *const loop = on.loop.get();
    leaf one = {}, two = {};
    one.name = "1";
    one.ns = 1;
    two.name = "2";
    EXPECT(api<Loop>::fd(loop) >= -1);
    EXPECT(api<Loop>::later(loop));
    EXPECT_EQ(api<Loop>::submit(loop, &one.frame, leaf_coro), 0);
    EXPECT_EQ(api<Loop>::submit(loop, &two.frame, leaf_coro), 1);
    EXPECT(api<Loop>::deadline(loop) < TAKT_FOREVER);
    while (takt_alive(&one.frame))
        EXPECT(api<Loop>::turn(loop, TAKT_MS) >= 0);
    EXPECT_TRACE("12~~");
    one.ns = 60 * TAKT_SEC;
    EXPECT_EQ(api<Loop>::submit(loop, &one.frame, leaf_coro), 0);
    api<Loop>::stop(loop);
    EXPECT(!TAKT_SPAWN_ON(loop, leaf, .name = "never"));
    EXPECT_EQ(on.run(), 0);
    EXPECT_EQ(takt_error(&one.frame), TAKT_ECANCELED);
    EXPECT_EQ(api<Loop>::drain(loop), 0);
    EXPECT_EQ(api<Loop>::failed(loop), TAKT_EDISPOSED);
}

/* An exception must not leave a body; one that is caught in it, between two awaits, may. */
struct careful {
    takt_frame frame;
    int error; /* out */
};

static int parse(const char *text)
{
    try {
        return std::stoi(text);
    } catch (const std::exception &) {
        return -EINVAL;
    }
}

static TAKT_CORO(careful)
{
    TAKT_BEGIN(careful, my);
    TAKT_AWAIT(takt_sleep(1));
    {
        const std::string text = "no number"; /* lives between two awaits */
        my->error = parse(text.c_str());
    }
    TAKT_AWAIT(takt_sleep(1));
    TAKT_CHECK(my->error);
    TAKT_END;
}

template <class Loop> static void exceptions_stay_between_two_awaits()
{
    Fixture<Loop> on;
    careful object = {};
    EXPECT(TAKT_START_ON(on.loop.get(), object, careful));
    on.run();
    EXPECT_EQ(takt_error(&object.frame), -EINVAL);
}

int main(int argc, char **argv)
{
#define ON_BOTH(name)                                                                        \
    {#name "_on_posix", name<portable>}, {#name "_on_uring", name<ring>}
    static const test tests[] = {
        ON_BOTH(the_words_mean_what_they_mean_in_c),
        ON_BOTH(groups_and_pools_are_bounded),
        ON_BOTH(a_group_stands_in_an_object),
        ON_BOTH(a_class_owns_and_cancels_its_coroutines),
        ON_BOTH(a_foreign_loop_drives_it),
        ON_BOTH(a_frame_loop_plays_with_datagrams),
        ON_BOTH(exceptions_stay_between_two_awaits),
    };
    return RUN_TESTS(argc, argv, tests);
}
