/*
 * udp_mmsg.c - the UDP echo server that one writes by hand: recvmmsg(2), sendmmsg(2), epoll(7).
 */
#include "bench.h"

#include <sys/epoll.h>

enum { BATCH = 64, ROOM = 2048 };

static unsigned char rooms[BATCH][ROOM];
static struct sockaddr_in from[BATCH];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];

/* The lengths that the system has written over. */
static void reset(int count)
{
    for (int i = 0; i < count; i++) {
        parts[i].iov_len = ROOM;
        messages[i].msg_hdr.msg_namelen = sizeof from[i];
    }
}

static void answer(int fd, int count)
{
    int sent = 0;
    for (int i = 0; i < count; i++)
        parts[i].iov_len = messages[i].msg_len;
    while (sent < count) {
        const int n = sendmmsg(fd, messages + sent, (unsigned)(count - sent), 0);
        sent += n > 0 ? n : 1; /* one that cannot be sent is passed over */
    }
    reset(count);
}

int main(void)
{
    const int fd = bench_udp(), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    bench_bound();
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        bench_die("epoll_ctl");
    for (int i = 0; i < BATCH; i++) {
        parts[i].iov_base = rooms[i];
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &from[i];
    }
    reset(BATCH);
    while (epoll_wait(epoll, &event, 1, -1) >= 0 || errno == EINTR) {
        int count;
        do {
            count = recvmmsg(fd, messages, BATCH, 0, NULL);
            if (count > 0)
                answer(fd, count);
        } while (count == BATCH); /* with fewer it was empty */
    }
    bench_die("epoll_wait");
}
