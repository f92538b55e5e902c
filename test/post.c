/*
 * post.c - messages from other threads, and jobs on them, on epoll, poll and io_uring
 *
 * What threads do is timed by semaphores and by what has arrived, never by sleeping.
 */
#include <errno.h>
#include <unistd.h>

static int pipe_error, write_errors[2]; /* of the next calls; 0: none */

static int some_pipe(int *ends)
{
    const int error = pipe_error;
    pipe_error = 0;
    if (!error)
        return pipe(ends);
    errno = error;
    return -1;
}

static ssize_t some_write(int fd, const void *at, size_t len)
{
    const int error = write_errors[0];
    write_errors[0] = write_errors[1];
    write_errors[1] = 0;
    if (!error)
        return write(fd, at, len);
    errno = error;
    return -1;
}

#define pipe(ends) some_pipe(ends)
#define write(...) some_write(__VA_ARGS__)
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"
#undef pipe
#undef write

#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

enum { THREADS = 4, EACH = 5000 };

TAKT_LOOP(net, takt_uring);

static const char *backend_name;
static net_config wanted;
static net loop;
static takt_inbox inbox;
static struct takt_delivery delivery;

static void setup(void)
{
    net_config config = wanted;
    config.loop.strands = 16;
    EXPECT_EQ(net_init(&loop, &config), 0);
    EXPECT_EQ(takt_inbox_init(&inbox), 0);
    memset((void *)&delivery, 0, sizeof delivery);
}

static void deliver(void)
{
    EXPECT(TAKT_START_ON(&loop, delivery, takt_delivery, .inbox = &inbox));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

/* Turns until `*count` is `wanted_count`, ten seconds at most. */
static void turn_until(const int *count, int wanted_count)
{
    const takt_ns limit = net_now(&loop) + 10 * TAKT_SEC;
    while (*count < wanted_count && net_now(&loop) < limit)
        EXPECT(net_turn(&loop, 10 * TAKT_MS, 0) >= 0);
    EXPECT_EQ(*count, wanted_count);
}

static void finish(void)
{
    takt_cancel(&delivery.frame);
    EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(net_drain(&loop) >= 0);
    EXPECT_EQ(net_free(&loop), 0);
    takt_inbox_free(&inbox);
}

/* -- messages ---------------------------------------------------------------- */

typedef struct numbered {
    takt_message message; /* first */
    int thread, number;
} numbered;

static numbered sent[THREADS][EACH];
static int expected[THREADS]; /* the next number of each */
static int out_of_order, received;

static void receive(takt_message *message)
{
    numbered *const it = (numbered *)(void *)message;
    out_of_order += it->number != expected[it->thread];
    expected[it->thread] = it->number + 1;
    received++;
    memset((void *)it, 0xdb, sizeof *it); /* it is ours */
}

static void post_numbered(int thread, int number)
{
    numbered *const it = &sent[thread][number];
    it->message.run = receive;
    it->thread = thread;
    it->number = number;
    EXPECT_EQ(takt_post(&inbox, &it->message), 0);
}

static void *sender(void *user)
{
    const int thread = (int)(intptr_t)user;
    for (int i = 0; i < EACH; i++)
        post_numbered(thread, i);
    return NULL;
}

static void forget(void)
{
    memset(expected, 0, sizeof expected);
    out_of_order = received = 0;
}

/* NEEDS 34: never lost, each once, those of one thread in their order. */
static void everything_arrives_once_and_in_order(void)
{
    pthread_t threads[THREADS];
    setup();
    forget();
    deliver();
    for (intptr_t i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, sender, (void *)i), 0);
    turn_until(&received, THREADS * EACH);
    EXPECT_EQ(out_of_order, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    finish();
}

/* One at a time, each only when the one before has arrived: a wake-up that is lost hangs. */
static sem_t may_send;

static void receive_and_ask(takt_message *message)
{
    (void)message;
    received++;
    sem_post(&may_send);
}

static void *one_by_one(void *user)
{
    static takt_message message;
    (void)user;
    message.run = receive_and_ask;
    for (int i = 0; i < EACH / 5; i++) {
        while (sem_wait(&may_send) < 0)
            ;
        EXPECT_EQ(takt_post(&inbox, &message), 0);
    }
    return NULL;
}

/* Law 5: in a loop that has nothing else to do. */
static void no_wake_up_is_lost_asleep(void)
{
    pthread_t thread;
    setup();
    forget();
    sem_init(&may_send, 0, 1);
    deliver();
    EXPECT_EQ(pthread_create(&thread, NULL, one_by_one, NULL), 0);
    turn_until(&received, EACH / 5);
    pthread_join(thread, NULL);
    sem_destroy(&may_send);
    finish();
}

/* Law 5: the loop lives in somebody else's poll(2), and is turned when that says so. */
static void no_wake_up_is_lost_in_a_foreign_loop(void)
{
    struct pollfd on_loop;
    pthread_t thread;
    setup();
    if (net_fd(&loop) < 0) { /* poll(2) has none */
        finish();
        return;
    }
    forget();
    sem_init(&may_send, 0, 1);
    deliver();
    on_loop.fd = net_fd(&loop);
    on_loop.events = POLLIN;
    EXPECT_EQ(pthread_create(&thread, NULL, one_by_one, NULL), 0);
    while (received < EACH / 5) {
        const takt_ns due = net_deadline(&loop);
        const bool now = due <= net_now(&loop);
        on_loop.revents = 0;
        if (poll(&on_loop, 1, now ? 0 : 10000) == 0 && !now) {
            EXPECT(now); /* it slept for ten seconds */
            break;
        }
        EXPECT(net_turn(&loop, 0, 0) >= 0);
    }
    EXPECT_EQ(received, EACH / 5);
    pthread_join(thread, NULL);
    sem_destroy(&may_send);
    finish();
}

static uint64_t wakes(void)
{
    char bytes[64];
    const ssize_t n = read(inbox.out, bytes, sizeof bytes);
    return n > 0 ? (uint64_t)n : 0;
}

/* The loop is told once of many, and of what was posted before it listens. */
static void many_wake_it_once(void)
{
    setup();
    forget();
    for (int i = 0; i < 300; i++)
        post_numbered(0, i);
    EXPECT_EQ(wakes(), 1);
    post_numbered(0, 300);
    EXPECT_EQ(wakes(), 0);
    EXPECT_EQ(write(inbox.in, "", 1), 1); /* what the test has taken */
    deliver();
    turn_until(&received, 301);
    EXPECT_EQ(out_of_order, 0);
    post_numbered(1, 0);
    post_numbered(1, 1);
    turn_until(&received, 303);
    EXPECT_EQ(out_of_order, 0);
    finish();
}

struct bystander {
    takt_frame frame;
    int seen; /* how many messages had been run at its second turn */
};

static TAKT_CORO(bystander)
{
    TAKT_BEGIN(bystander, my);
    TAKT_AWAIT(takt_ready(inbox.in, TAKT_WRITABLE)); /* at once */
    TAKT_YIELD;
    my->seen = received;
    TAKT_END;
}

/* R9, law 6: a flood of messages does not keep the others waiting. */
static void others_have_their_turn(void)
{
    static struct bystander bystander;
    setup();
    forget();
    for (int i = 0; i < 1000; i++)
        post_numbered(0, i);
    deliver();
    memset((void *)&bystander, 0, sizeof bystander);
    EXPECT(TAKT_START_ON(&loop, bystander, bystander));
    turn_until(&received, 1000);
    for (int i = 0; i < 100 && takt_alive(&bystander.frame); i++)
        net_turn(&loop, 0, 0);
    EXPECT(bystander.seen < 1000);
    finish();
}

static bool posted_late;

static void post_another(takt_message *message)
{
    static takt_message late;
    (void)message;
    received++;
    late.run = receive;
    posted_late = takt_post(&inbox, &late) == 0;
}

/* What was posted before the end is run; what comes after is refused, and stays the sender's. */
static void after_the_end_posts_are_refused(void)
{
    static takt_message last;
    setup();
    forget();
    deliver();
    for (int i = 0; i < 100; i++)
        post_numbered(2, i);
    last.run = post_another;
    EXPECT_EQ(takt_post(&inbox, &last), 0);
    takt_cancel(&delivery.frame);
    for (int i = 0; i < 10; i++)
        EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(takt_finished(&delivery.frame));
    EXPECT_EQ(received, 101 + posted_late); /* if it was not yet the end, it is run */
    EXPECT_EQ(takt_post(&inbox, &sent[3][0].message), TAKT_ECLOSED);
    takt_inbox_free(&inbox);
    EXPECT_EQ(takt_inbox_init(&inbox), 0);
    deliver();
    post_numbered(0, 0);
    turn_until(&received, 102 + posted_late);
    finish();
}

static void on_signal(int number)
{
    const int before = errno;
    (void)number;
    errno = EILSEQ;
    post_numbered(0, 0);
    EXPECT_EQ(errno, EILSEQ);
    errno = before;
}

/* H2: a signal handler may post. */
static void a_signal_handler_may_post(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    setup();
    forget();
    deliver();
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    turn_until(&received, 1);
    finish();
}

/* -- jobs --------------------------------------------------------------------- */

typedef struct squaring {
    takt_job job; /* first */
    sem_t may_work;
    int number, result;
    int dropped;
} squaring;

static void work(takt_job *job)
{
    squaring *const it = (squaring *)(void *)job;
    while (sem_wait(&it->may_work) < 0)
        ;
    it->result = it->number * it->number;
}

static void drop(takt_job *job)
{
    __atomic_add_fetch(&((squaring *)(void *)job)->dropped, 1, __ATOMIC_RELEASE);
}

static pthread_t worker;

static void *work_on(void *user)
{
    takt_job_run((takt_job *)user);
    return NULL;
}

/* One thread a job. */
static int execute(void *executor, takt_job *job)
{
    (void)executor;
    return pthread_create(&worker, NULL, work_on, job) == 0 ? 0 : -EAGAIN;
}

static int execute_nothing(void *executor, takt_job *job)
{
    (void)executor;
    (void)job;
    return -EAGAIN;
}

struct asker {
    takt_frame frame;
    squaring *square; /* in */
    int (*execute)(void *executor, takt_job *job); /* in */
    struct takt_offload offload;
    int answer;
};

static TAKT_CORO(asker)
{
    TAKT_BEGIN(asker, my);
    TAKT_CALL(my->offload, takt_offload, .job = &my->square->job, .inbox = &inbox,
              .execute = my->execute);
    my->answer = my->square->result;
    TAKT_END;
}

static struct asker asker;
static squaring nine;

static void ask(int (*with)(void *executor, takt_job *job), void (*dropping)(takt_job *job))
{
    setup();
    deliver();
    memset((void *)&nine, 0, sizeof nine);
    memset((void *)&asker, 0, sizeof asker);
    sem_init(&nine.may_work, 0, 0);
    nine.number = 9;
    nine.job.work = work;
    nine.job.drop = dropping;
    EXPECT(TAKT_START_ON(&loop, asker, asker, .square = &nine, .execute = with));
    EXPECT(net_turn(&loop, 0, 0) >= 0);
}

static void turn_while_alive(const takt_frame *frame)
{
    const takt_ns limit = net_now(&loop) + 10 * TAKT_SEC;
    while (takt_alive(frame) && net_now(&loop) < limit)
        EXPECT(net_turn(&loop, 10 * TAKT_MS, 0) >= 0);
    EXPECT(!takt_alive(frame));
}

/* NEEDS 43: a blocking call is awaited, and the loop goes on meanwhile. */
static void a_job_is_awaited(void)
{
    ask(execute, NULL);
    EXPECT(takt_alive(&asker.frame));
    post_numbered(0, 0);
    forget();
    turn_until(&received, 1);
    EXPECT(takt_alive(&asker.frame));
    sem_post(&nine.may_work);
    turn_while_alive(&asker.frame);
    EXPECT_EQ(asker.answer, 81);
    pthread_join(worker, NULL);
    finish();
}

static void what_the_executor_refuses_is_thrown(void)
{
    ask(execute_nothing, drop);
    EXPECT(takt_finished(&asker.frame));
    EXPECT_EQ(takt_error(&asker.frame), -EAGAIN);
    EXPECT_EQ(nine.dropped, 0);
    finish();
}

/* Cancelled, a job without `drop` is waited for: a thread works in its memory. */
static void a_cancelled_job_is_waited_for(void)
{
    ask(execute, NULL);
    takt_cancel(&asker.frame);
    for (int i = 0; i < 10; i++)
        EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(takt_alive(&asker.frame));
    sem_post(&nine.may_work);
    turn_while_alive(&asker.frame);
    EXPECT_EQ(takt_error(&asker.frame), TAKT_ECANCELED);
    EXPECT_EQ(nine.result, 81);
    pthread_join(worker, NULL);
    finish();
}

/* One with `drop` is left to itself at once, and dropped when its work is done. */
static void a_cancelled_job_may_be_dropped(void)
{
    ask(execute, drop);
    takt_cancel(&asker.frame);
    for (int i = 0; i < 10; i++)
        EXPECT(net_turn(&loop, 0, 0) >= 0);
    EXPECT(takt_finished(&asker.frame));
    EXPECT_EQ(nine.dropped, 0);
    sem_post(&nine.may_work);
    turn_until(&nine.dropped, 1);
    pthread_join(worker, NULL);
    finish();
}

/* The loop is gone when the work is done: it is dropped where it is. */
static void a_job_may_outlive_its_loop(void)
{
    ask(execute, drop);
    EXPECT_EQ(net_drain(&loop), 2);
    EXPECT_EQ(net_free(&loop), 0);
    EXPECT_EQ(nine.dropped, 0);
    sem_post(&nine.may_work);
    pthread_join(worker, NULL);
    EXPECT_EQ(nine.dropped, 1);
    takt_inbox_free(&inbox);
}

static void *later(void *user)
{
    const struct timespec moment = {0, 20000000}; /* that the drain may begin: no matter if not */
    (void)user;
    nanosleep(&moment, NULL);
    sem_post(&nine.may_work);
    return NULL;
}

/* Where no defer may await, a job without `drop` is waited for all the same. */
static void a_drain_waits_for_a_job(void)
{
    pthread_t releaser;
    ask(execute, NULL);
    EXPECT_EQ(pthread_create(&releaser, NULL, later, NULL), 0);
    EXPECT_EQ(net_drain(&loop), 2);
    EXPECT_EQ(nine.result, 81);
    EXPECT_EQ(net_free(&loop), 0);
    pthread_join(worker, NULL);
    pthread_join(releaser, NULL);
    takt_inbox_free(&inbox);
}

/* -- what hardly ever happens -------------------------------------------------------------- */

static int worked, dropped;

static void works(takt_job *job)
{
    (void)job;
    worked++;
}

static void drops(takt_job *job)
{
    (void)job;
    dropped++;
}

static void an_inbox_without_descriptors_is_none(void)
{
    takt_inbox box;
    pipe_error = EMFILE;
    EXPECT_EQ(takt_inbox_init(&box), -EMFILE);
}

/* A signal in the middle of it; or a pipe that is full, and so wakes the loop already. */
static void a_post_wakes_or_need_not(void)
{
    takt_inbox box;
    takt_message message;
    char c[4];
    EXPECT_EQ(takt_inbox_init(&box), 0);
    write_errors[0] = EINTR;
    EXPECT_EQ(takt_post(&box, &message), 0);
    EXPECT_EQ(read(box.out, c, sizeof c), 1);
    EXPECT(takt__post_take(&box, NULL) == &message);
    write_errors[0] = EAGAIN;
    errno = EDOM;
    EXPECT_EQ(takt_post(&box, &message), 0);
    EXPECT_EQ(errno, EDOM);
    EXPECT_EQ(read(box.out, c, sizeof c), -1);
    EXPECT(takt__post_take(&box, NULL) == &message);
    takt_inbox_free(&box);
}

static void begin_job(takt_job *job, takt_offload *my, takt_inbox *box)
{
    memset((void *)job, 0, sizeof *job);
    memset((void *)my, 0, sizeof *my);
    worked = dropped = 0;
    job->work = works;
    my->job = job;
    my->inbox = box;
    my->begun = true;
    EXPECT_EQ(takt_inbox_init(box), 0);
    takt__job_begin(job, box);
}

static void *run_late(void *job)
{
    usleep(5000);
    takt_job_run((takt_job *)job);
    return NULL;
}

/* The inbox takes nothing any more: who waits is told by the job itself. */
static void a_job_that_nobody_takes_back_says_that_it_is_done(void)
{
    takt_job job;
    takt_offload my;
    takt_inbox box;
    pthread_t thread;
    begin_job(&job, &my, &box);
    takt__post_take(&box, takt__post_closed(&box));
    EXPECT(takt__job_busy(&my)); /* it cannot be dropped: it is waited for */
    EXPECT_EQ(pthread_create(&thread, NULL, run_late, &job), 0);
    takt__job_wait(&my);
    EXPECT_EQ(worked, 1);
    EXPECT_EQ(job.state, TAKT__JOB_DONE);
    pthread_join(thread, NULL);
    takt_inbox_free(&box);
}

/* Whoever comes second drops it. */
static void a_job_is_dropped_once(void)
{
    takt_job job;
    takt_offload my;
    takt_inbox box;
    for (int first = 0; first < 2; first++) {
        begin_job(&job, &my, &box);
        job.drop = drops;
        takt__post_take(&box, takt__post_closed(&box));
        if (first) /* it is done before it is left */
            takt_job_run(&job);
        EXPECT_EQ(dropped, 0);
        EXPECT(!takt__job_busy(&my));
        if (!first)
            takt_job_run(&job);
        EXPECT_EQ(worked, 1);
        EXPECT_EQ(dropped, 1);
        takt_inbox_free(&box);
    }
    begin_job(&job, &my, &box);
    my.begun = false; /* nobody has taken it */
    EXPECT(!takt__job_busy(&my));
    my.begun = true;
    takt_job_run(&job);
    takt__job_wait(&my); /* what was posted is run */
    EXPECT(job.over);
    EXPECT(!takt__job_busy(&my));
    takt_inbox_free(&box);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(an_inbox_without_descriptors_is_none),
        TEST(a_post_wakes_or_need_not),
        TEST(a_job_that_nobody_takes_back_says_that_it_is_done),
        TEST(a_job_is_dropped_once),
        TEST(everything_arrives_once_and_in_order),
        TEST(no_wake_up_is_lost_asleep),
        TEST(no_wake_up_is_lost_in_a_foreign_loop),
        TEST(many_wake_it_once),
        TEST(others_have_their_turn),
        TEST(after_the_end_posts_are_refused),
        TEST(a_signal_handler_may_post),
        TEST(a_job_is_awaited),
        TEST(what_the_executor_refuses_is_thrown),
        TEST(a_cancelled_job_is_waited_for),
        TEST(a_cancelled_job_may_be_dropped),
        TEST(a_job_may_outlive_its_loop),
        TEST(a_drain_waits_for_a_job),
    };
    static const char *const names[] = {"epoll", "poll", "uring"};
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(200);
    for (size_t b = 0; b < sizeof names / sizeof names[0]; b++) {
        backend_name = names[b];
        wanted = net_defaults();
        wanted.backend.mode = b < 2 ? TAKT_URING_NEVER : TAKT_URING_AUTO;
        wanted.backend.posix.poll_instead = b == 1;
        for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
            if (!test_wanted(tests[i].name, argc, argv))
                continue;
            test_failures = 0;
            tests[i].run();
            if (test_failures)
                printf("FAIL %s on %s\n", tests[i].name, backend_name);
            failed += test_failures > 0;
            passed += test_failures == 0;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
