/*
 * udp_load.c - datagrams for an echo server, in a closed loop.
 *
 *     udp_load 127.0.0.1:PORT PID FLOWS SIZE COUNT MS [joined]
 *
 * Each of FLOWS sockets sends COUNT datagrams of SIZE bytes, and sends again when as many are
 * back: by one sendmmsg(2); `joined`: as one, which the system takes apart (UDP_SEGMENT), and
 * what comes back may come joined too (UDP_GRO). Prints
 *
 *     datagrams seconds server_cpu_ns lost
 *
 * from silence to silence: before and after, the server sleeps. What is not back after 300 ms
 * counts as lost. Plain POSIX, no takt: it must not share a mistake with what it measures.
 * Exit: 0; 1 a datagram differed; 2 usage.
 */
#include "bench.h"

#include <fcntl.h>
#include <netinet/udp.h>
#include <sys/epoll.h>

enum { FLOWS_MAX = 256, COUNT_MAX = 64, ROOM = 65536 };

struct flow {
    int fd;
    unsigned back; /* of what was sent last */
    uint64_t when;
};

static struct flow flows[FLOWS_MAX];
static unsigned char out[ROOM], in[ROOM];
static struct mmsghdr messages[COUNT_MAX];
static struct iovec parts[COUNT_MAX];
static unsigned flow_count, size, count;
static uint64_t datagrams, lost;
static bool joined;
static int epoll, pid;

static void send_all(struct flow *flow)
{
    flow->back = 0;
    flow->when = bench_now();
    if (joined) {
        if (send(flow->fd, out, (size_t)size * count, 0) < 0)
            bench_die("send");
    } else if (sendmmsg(flow->fd, messages, count, 0) != (int)count) {
        bench_die("sendmmsg");
    }
}

static void receive(struct flow *flow)
{
    for (;;) {
        const ssize_t n = recv(flow->fd, in, sizeof in, 0);
        if (n < 0)
            return;
        if (n == 0 || n % size || memcmp(in, out, (size_t)n) != 0) {
            fputs("udp_load: not what was sent\n", stderr);
            exit(1);
        }
        flow->back += (unsigned)n / size;
        datagrams += (unsigned)n / size;
    }
}

static void open_flows(const char *address)
{
    const char *const colon = strchr(address, ':');
    const int segment = (int)size, on = 1, room = 4 << 20;
    struct sockaddr_in addr;
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons((uint16_t)(colon ? atoi(colon + 1) : 0));
    epoll = epoll_create1(0);
    for (unsigned i = 0; i < flow_count; i++) {
        struct epoll_event event;
        const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        flows[i].fd = fd;
        memset(&event, 0, sizeof event);
        event.events = EPOLLIN;
        event.data.ptr = &flows[i];
        if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) < 0 ||
            (joined && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) < 0) ||
            (joined && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) < 0))
            bench_die("a flow");
    }
}

/* Sends for so long, then waits for the rest. */
static uint64_t run_for(uint64_t ns)
{
    const uint64_t start = bench_now();
    unsigned busy = flow_count;
    datagrams = lost = 0;
    for (unsigned i = 0; i < flow_count; i++)
        send_all(&flows[i]);
    while (busy > 0) {
        struct epoll_event events[FLOWS_MAX];
        const int ready = epoll_wait(epoll, events, FLOWS_MAX, 20);
        const uint64_t now = bench_now();
        for (int i = 0; i < ready; i++)
            receive((struct flow *)events[i].data.ptr);
        busy = 0;
        for (unsigned i = 0; i < flow_count; i++) {
            struct flow *const flow = &flows[i];
            if (flow->back < count && now - flow->when > 300000000u) {
                lost += count - flow->back;
                flow->back = count;
            }
            if (flow->back >= count && now - start < ns)
                send_all(flow);
            busy += flow->back < count;
        }
    }
    return bench_now() - start;
}

int main(int argc, char **argv)
{
    uint64_t cpu, ns;
    bench_bound();
    if (argc < 7)
        return 2;
    pid = atoi(argv[2]);
    flow_count = (unsigned)bench_number(argc, argv, 3, 1);
    size = (unsigned)bench_number(argc, argv, 4, 64);
    count = (unsigned)bench_number(argc, argv, 5, 1);
    joined = argc > 7;
    if (flow_count > FLOWS_MAX || count > COUNT_MAX || size * count > ROOM - 64)
        return 2;
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (unsigned char)(i % size * 7);
    for (unsigned i = 0; i < count; i++) {
        parts[i].iov_base = out + i * size;
        parts[i].iov_len = size;
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    open_flows(argv[1]);
    run_for(30000000);
    usleep(3000); /* to silence */
    cpu = bench_cpu_of(pid, true);
    ns = run_for(bench_number(argc, argv, 6, 100) * 1000000);
    usleep(3000);
    cpu = bench_cpu_of(pid, true) - cpu;
    printf("%llu %.6f %llu %llu\n", (unsigned long long)datagrams, (double)ns / 1e9,
           (unsigned long long)cpu, (unsigned long long)lost);
    return 0;
}
