/* loopback.h - TCP over loopback, for tests that need what socket pairs have not: resets, room. */
#ifndef TEST_LOOPBACK_H
#define TEST_LOOPBACK_H

#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection, both ends non-blocking. `room`: bytes that the server's end may hold (SO_RCVBUF);
 * 0: the system decides. */
static void loopback(int *client, int *server, int room)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (room)
        EXPECT_EQ(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    EXPECT_EQ(bind(listener, (struct sockaddr *)&at, len), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    EXPECT_EQ(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(*client, (struct sockaddr *)&at, len), 0);
    *server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    EXPECT(*server >= 0);
    EXPECT_EQ(fcntl(*client, F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

/* Closes it with a reset, which ends what is in either queue, too. */
static void reset(int fd)
{
    const struct linger at_once = {1, 0};
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(fd);
}

#endif
