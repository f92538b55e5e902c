/*
 * resolve.c - looks up names on threads of its own, each once for all who ask for it.
 *
 *     cc -O2 -D_GNU_SOURCE -I. examples/resolve.c -luring -pthread -o resolve
 *     ./resolve --askers 1000 localhost example.org
 *
 * getaddrinfo(3) blocks: so it is called on a few threads, by takt_offload. Whoever asks for a
 * name that is being looked up waits for the same answer; it is kept for a while, a failure too.
 * One who waits no longer, being cancelled or out of time, changes nothing for the others. While
 * HOSTS names are being looked up, or wait for that, another one fails with -EAGAIN at once.
 */
#define TAKT_IMPLEMENTATION
#include "takt_uring.h"

#include "server.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>

enum { THREADS = 16, HOSTS = 64, NAME = 255, ADDRS = 8, ASKERS = 100000, NAMES = 256 };

/* -- an executor: threads that run what they are handed ------------------------------ */

struct executor {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    takt_job *jobs[THREADS]; /* one that waits for each of those who hand them over, at most */
    unsigned first, count;
    bool over;
    int threads;
    pthread_t thread[THREADS];
};

static int execute(void *user, takt_job *job)
{
    struct executor *const executor = (struct executor *)user;
    bool full;
    pthread_mutex_lock(&executor->lock);
    full = executor->count == THREADS;
    if (!full)
        executor->jobs[(executor->first + executor->count++) % THREADS] = job;
    pthread_cond_signal(&executor->changed);
    pthread_mutex_unlock(&executor->lock);
    return full ? -EBUSY : 0;
}

static void *run_jobs(void *user)
{
    struct executor *const executor = (struct executor *)user;
    pthread_mutex_lock(&executor->lock);
    for (;;) {
        while (executor->count == 0 && !executor->over)
            pthread_cond_wait(&executor->changed, &executor->lock);
        if (executor->count == 0)
            break;
        takt_job *const job = executor->jobs[executor->first++ % THREADS];
        executor->count--;
        pthread_mutex_unlock(&executor->lock);
        takt_job_run(job);
        pthread_mutex_lock(&executor->lock);
    }
    pthread_mutex_unlock(&executor->lock);
    return NULL;
}

static bool executor_begin(struct executor *executor, int threads)
{
    pthread_mutex_init(&executor->lock, NULL);
    pthread_cond_init(&executor->changed, NULL);
    while (executor->threads < threads &&
           pthread_create(&executor->thread[executor->threads], NULL, run_jobs, executor) == 0)
        executor->threads++;
    return executor->threads > 0;
}

/* Waits for what is running: there is no way to break off a getaddrinfo(). */
static void executor_end(struct executor *executor)
{
    pthread_mutex_lock(&executor->lock);
    executor->over = true;
    pthread_cond_broadcast(&executor->changed);
    pthread_mutex_unlock(&executor->lock);
    while (executor->threads > 0)
        pthread_join(executor->thread[--executor->threads], NULL);
}

/* -- names, known and wanted: plain data of one loop ------------------------------------- */

struct host {
    takt_job job; /* first */
    char name[NAME + 1];
    takt_addr addrs[ADDRS]; /* out: of the work, as the next two */
    int count, error;
    bool wanted;      /* it is being looked up, or waits for that */
    takt_ns until;    /* then it is forgotten */
    unsigned waiters; /* while there are any it stays */
    takt_event answer;
};

struct book {
    struct host hosts[HOSTS];
    takt_channel wanted; /* of pointers to them */
    struct host *line[HOSTS];
    takt_ns keep;
    bool closed;
    unsigned asked, looked_up, shared, known, refused;
};

/* The host of that name, maybe one to be looked up; NULL if there is no place for it. */
static struct host *find(struct book *book, const char *name, takt_ns now)
{
    struct host *oldest = NULL;
    book->asked++;
    for (int i = 0; i < HOSTS; i++) {
        struct host *const host = &book->hosts[i];
        if (strcasecmp(host->name, name) == 0 && (host->wanted || now < host->until)) {
            book->shared += host->wanted;
            book->known += !host->wanted;
            return host;
        }
        if (!host->wanted && host->waiters == 0 && (!oldest || host->until < oldest->until))
            oldest = host;
    }
    if (!oldest || book->closed) {
        book->refused++;
        return NULL;
    }
    strcpy(oldest->name, name);
    oldest->wanted = true;
    takt_event_reset(&oldest->answer);
    return takt_try_put(&book->wanted, &oldest) == 0 ? oldest : NULL; /* there is room for all */
}

/* On a thread of the executor's. */
static void look_up(takt_job *job)
{
    struct host *const host = (struct host *)(void *)job;
    struct addrinfo hints, *list = NULL;
    int rc;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM; /* or each address would come three times */
    rc = getaddrinfo(host->name, NULL, &hints, &list);
    host->error = rc == 0             ? 0
                  : rc == EAI_SYSTEM  ? -errno
                  : rc == EAI_AGAIN   ? -ETIMEDOUT
                  : rc == EAI_MEMORY  ? -ENOMEM
                                      : -ENOENT;
    host->count = 0;
    for (struct addrinfo *at = list; at && host->count < ADDRS; at = at->ai_next) {
        takt_addr *const addr = &host->addrs[host->count++];
        memset(addr, 0, sizeof *addr);
        memcpy(&addr->sockaddr, at->ai_addr, addr->len = at->ai_addrlen);
    }
    if (list)
        freeaddrinfo(list);
}

/* Nobody waits any more, and its memory is there for as long as the program. */
static void left(takt_job *job)
{
    (void)job;
}

/* -- who looks them up, and who asks --------------------------------------------------------- */

struct lookup { /* one name at a time */
    takt_frame frame;
    struct resolver *resolver; /* in */
    struct host *host;
    takt_offload offload;
    int rc;
};

struct resolver { /* runs until it is cancelled */
    takt_frame frame;
    struct executor *executor; /* in */
    struct book *book;         /* in */
    takt_inbox *inbox;         /* in: its own */
    takt_delivery delivery;
    struct lookup lookups[THREADS];
    int i;
};

static TAKT_CORO(lookup)
{
    TAKT_BEGIN(lookup, my);
    for (;;) {
        TAKT_AWAIT(takt_get(&my->resolver->book->wanted, &my->host));
        my->host->job.work = look_up;
        my->host->job.drop = left;
        TAKT_TRY_CALL(my->rc, my->offload, takt_offload, .job = &my->host->job,
                      .inbox = my->resolver->inbox, .execute = execute,
                      .executor = my->resolver->executor);
        if (my->rc < 0)
            my->host->error = my->rc;
        my->host->until = takt_after(takt_now(&my->frame), my->resolver->book->keep);
        my->host->wanted = false;
        my->resolver->book->looked_up++;
        takt_event_set(&my->host->answer);
    }
    TAKT_END;
}

static TAKT_CORO(resolver)
{
    TAKT_BEGIN(resolver, my);
    TAKT_CHECK(takt_channel_init(&my->book->wanted, my->book->line, sizeof my->book->line[0],
                                 HOSTS));
    TAKT_DEFER
    {
        my->book->closed = true; /* what is still being looked up nobody will hear */
        for (int i = 0; i < HOSTS; i++)
            takt_event_set(&my->book->hosts[i].answer);
    }
    TAKT_START(my->delivery, takt_delivery, .inbox = my->inbox);
    for (my->i = 0; my->i < my->executor->threads; my->i++)
        TAKT_START(my->lookups[my->i], lookup, .resolver = my);
    TAKT_JOIN();
    TAKT_END;
}

/* The addresses of a name, for TAKT_CALL or TAKT_CALL_WITHIN. Fails with -ENOENT: there is no
 * such name; -ETIMEDOUT: the name server does not answer; -EAGAIN: too many names are asked for;
 * -EINVAL: it is too long; TAKT_ESTOPPING. */
struct resolve {
    takt_frame frame;
    struct book *book; /* in */
    const char *name;  /* in */
    int port;          /* in */
    takt_addr addrs[ADDRS]; /* out */
    int count;              /* out: 1 or more */
    struct host *host;
};

static TAKT_CORO(resolve)
{
    TAKT_BEGIN(resolve, my);
    TAKT_CHECK(strlen(my->name) <= NAME ? 0 : -EINVAL);
    my->host = find(my->book, my->name, takt_now(&my->frame));
    TAKT_CHECK(my->host ? 0 : my->book->closed ? TAKT_ESTOPPING : -EAGAIN);
    my->host->waiters++;
    TAKT_DEFER { my->host->waiters--; }
    TAKT_AWAIT(takt_event_wait(&my->host->answer));
    TAKT_CHECK(my->host->wanted ? TAKT_ESTOPPING : my->host->error);
    my->count = my->host->count;
    memcpy(my->addrs, my->host->addrs, sizeof my->addrs);
    for (int i = 0; i < my->count; i++) { /* the port stands in the same place in both families */
        const uint16_t port = htons((uint16_t)my->port);
        memcpy(my->addrs[i].sockaddr.bytes + offsetof(struct sockaddr_in, sin_port), &port,
               sizeof port);
    }
    TAKT_END;
}

/* -- the program: many who ask for a few ----------------------------------------------------- */

struct target {
    const char *name;
    takt_ns patience;
    unsigned answered, failed;
    int error; /* of the last that failed */
    char text[TAKT_ADDR_TEXT];
};

static struct {
    struct executor executor;
    struct book book;
    takt_inbox inbox;
    struct target targets[NAMES];
    int names, askers, rounds, threads;
    takt_ns timeout, pause;
} app;

struct asker {
    takt_frame frame;
    struct target *target; /* in */
    struct resolve resolve;
};

static TAKT_CORO(asker)
{
    TAKT_BEGIN(asker, my);
    TAKT_CALL_WITHIN(my->target->patience, my->resolve, resolve, .book = &app.book,
                     .name = my->target->name, .port = 443);
    my->target->answered++;
    takt_addr_format(&my->resolve.addrs[0], my->target->text, sizeof my->target->text);
    TAKT_CATCH
    {
        my->target->failed++;
        my->target->error = my->frame.error;
    }
    TAKT_END;
}

struct signals {
    takt_frame frame;
    int fd, number;
};

static TAKT_CORO(signals)
{
    TAKT_BEGIN(signals, my);
    TAKT_CHECK(my->fd = takt_signals(&my->frame, 1u << SIGINT | 1u << SIGTERM));
    TAKT_DEFER { TAKT_AWAIT(takt_close(my->fd)); }
    TAKT_AWAIT(my->number, takt_signal(my->fd));
    takt_stop(takt_sched_of(&my->frame), 0);
    TAKT_END;
}

struct crowd {
    takt_frame frame;
    struct signals signals;
    struct resolver resolver;
    takt_group askers;
    int round;
};

static TAKT_CORO(crowd)
{
    TAKT_BEGIN(crowd, my);
    TAKT_START(my->signals, signals);
    TAKT_START(my->resolver, resolver, .executor = &app.executor, .book = &app.book,
               .inbox = &app.inbox);
    TAKT_YIELD; /* by now they are ready */
    for (my->round = 0; my->round < app.rounds; my->round++) {
        if (my->round > 0)
            TAKT_AWAIT(takt_sleep(app.pause));
        for (int i = 0; i < app.askers; i++)
            if (!TAKT_GO(my->askers, asker, .target = &app.targets[i % app.names]))
                TAKT_THROW(TAKT_ESTRANDS);
        TAKT_JOIN_GROUP(my->askers);
    }
    TAKT_END;
}

TAKT_LOOP(net, takt_uring);

static void report(void)
{
    for (int i = 0; i < app.names; i++) {
        const struct target *const target = &app.targets[i];
        printf("%s: ", target->name);
        if (target->answered)
            printf("%s, %u times%s", target->text, target->answered, target->failed ? "; " : "");
        if (target->failed)
            printf("%s, %u times", target->error == -ENOENT ? "no such name"
                                                            : takt_strerror(target->error),
                   target->failed);
        puts("");
    }
    fprintf(stderr, "resolve: %u asked, %u looked up, %u shared, %u known, %u refused\n",
            app.book.asked, app.book.looked_up, app.book.shared, app.book.known,
            app.book.refused);
}

static const char *take_name(const struct server_option *it, const char *value)
{
    (void)it;
    if (app.names == NAMES)
        return "too much";
    app.targets[app.names].patience = app.timeout;
    app.targets[app.names++].name = value;
    return NULL;
}

static const char usage[] =
    "usage: resolve [options] NAME... [options NAME...]\n"
    "  --askers N       who ask at the same time, for one name each in turn      (100)\n"
    "  --rounds N       so many times                                            (1)\n"
    "  --pause TIME     between these                                            (none)\n"
    "  --timeout TIME   how long those wait who ask for the names that follow    (5s)\n"
    "  --keep TIME      how long an answer is kept                               (5s)\n"
    "  --threads N      that call getaddrinfo(3), 1 to 16                        (4)\n"
    "  --backend NAME   auto (io_uring if it works, else epoll), uring or poll\n"
    "  TIME             a number with ms, s, m or h\n"
    "SIGTERM or SIGINT: it ends, once the calls that run have returned.\n";

int main(int argc, char **argv)
{
    static const struct server_option options[] = {
        {"--askers", server_count, &app.askers, ASKERS},
        {"--rounds", server_count, &app.rounds, 1000},
        {"--pause", server_time, &app.pause, 0},
        {"--timeout", server_time, &app.timeout, 0},
        {"--keep", server_time, &app.book.keep, 0},
        {"--threads", server_count, &app.threads, THREADS},
        {"", take_name, NULL, 0},
        {NULL, NULL, NULL, 0},
    };
    static net loop;
    static struct crowd crowd;
    net_config config = net_defaults();
    sigset_t signals;
    int rc;
    app.askers = 100;
    app.rounds = 1;
    app.threads = 4;
    app.timeout = app.book.keep = 5 * TAKT_SEC;
    server_options("resolve", usage, options, &config.backend, argc, argv);
    if (app.names == 0)
        server_wrong("resolve", "a NAME is needed");
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in every thread: the loop reads them */
    TAKT_POOL(config, asker, (uint32_t)app.askers, .strands = 2);
    if ((rc = net_init(&loop, &config)) < 0 || (rc = takt_inbox_init(&app.inbox)) < 0)
        return server_fail("resolve", "cannot start", rc);
    if (!executor_begin(&app.executor, app.threads) || !TAKT_START_ON(&loop, crowd, crowd))
        return 1;
    net_run(&loop);
    report();
    net_free(&loop);
    executor_end(&app.executor);
    takt_inbox_free(&app.inbox); /* now that nobody posts any more */
    return takt_error(&crowd.frame) < 0 && takt_error(&crowd.frame) != TAKT_ECANCELED;
}
