/*
 * hold.c - a getaddrinfo() for test/resolve/resolve.py: names that begin with "held" it says on
 * stderr, and holds up until somebody opens the fifo HOLD to write; then they are 127.0.0.7. All
 * others go to the system's. At the end it says how often it was called.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int calls;

typedef int getaddrinfo_type(const char *, const char *, const struct addrinfo *,
                             struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    getaddrinfo_type *const systems =
        (getaddrinfo_type *)(uintptr_t)dlsym(RTLD_NEXT, "getaddrinfo");
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (strncmp(name, "held", 4) == 0) {
        int fd;
        fprintf(stderr, "held %s\n", name);
        fd = open(getenv("HOLD"), O_RDONLY);
        if (fd >= 0)
            close(fd);
        name = "127.0.0.7";
    }
    return systems(name, service, hints, list);
}

__attribute__((destructor)) static void tell(void)
{
    fprintf(stderr, "getaddrinfo: %d calls\n", __atomic_load_n(&calls, __ATOMIC_SEQ_CST));
}
