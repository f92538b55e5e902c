/*
 * panic.c - what is left at its defaults: a mistake ends the program, with a line that
 * says which; and a build that looks for none goes its way
 */
#if defined(__clang__)
#define NDEBUG 1 /* as releases are built; the others are debug builds */
#endif
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

TAKT_LOOP(net, takt_posix);
static net loop;

struct one {
    takt_frame frame;
    int ran;
};

static TAKT_CORO(one)
{
    TAKT_BEGIN(one, my);
    my->ran++;
    TAKT_AWAIT(takt_sleep(1));
    TAKT_END;
}

static void a_mistake_ends_the_program(void)
{
#if TAKT_DEBUG
    static struct one mine;
    char text[1000];
    ssize_t n;
    int pipes[2], status = 0;
    pid_t child;
    EXPECT_EQ(pipe(pipes), 0);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        dup2(pipes[1], 2);
        one_coro(&mine.frame);
        _exit(0);
    }
    close(pipes[1]);
    n = read(pipes[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    close(pipes[0]);
    waitpid(child, &status, 0);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    EXPECT(strstr(text, "panic.c:"));
    EXPECT(strstr(text, ": one: the body was entered"));
#endif
}

static void a_release_looks_for_none_and_works(void)
{
    net_config config = net_defaults();
    static struct one mine;
    EXPECT_EQ(net_init(&loop, &config), 0);
#if !TAKT_DEBUG && !defined(TAKT__ASAN)
    EXPECT(loop.sched.watches == NULL);
#endif
    EXPECT(TAKT_START_ON(&loop, mine, one));
    EXPECT_EQ(net_run(&loop), 0);
    EXPECT_EQ(mine.ran, 1);
    EXPECT_EQ(net_free(&loop), 0);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_mistake_ends_the_program),
        TEST(a_release_looks_for_none_and_works),
    };
    return RUN_TESTS(argc, argv, tests);
}
