/*
 * server.h - the command line of the programs in here, and what they say when they cannot start.
 */
#ifndef SERVER_H
#define SERVER_H

#include "takt_uring.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* One option. `take` puts its value where `to` points; NULL, or what the value has to be. */
struct server_option {
    const char *name; /* "": of words that are no options; NULL: the end of the table */
    const char *(*take)(const struct server_option *, const char *value);
    void *to;
    int most; /* of a number */
};

/* Takes a takt_addr. */
static inline const char *server_address(const struct server_option *it, const char *value)
{
    return takt_addr_parse((takt_addr *)it->to, value) == 0 ? NULL
                                                            : "an address, as 127.0.0.1:7000";
}

/* Takes an int, 0 to .most. */
static inline const char *server_number(const struct server_option *it, const char *value)
{
    char *end;
    const long number = strtol(value, &end, 10);
    const bool good = end != value && !*end && number >= 0 && number <= it->most;
    *(int *)it->to = good ? (int)number : 0;
    return good ? NULL : "a number from 0";
}

/* Takes an int, 1 to .most. */
static inline const char *server_count(const struct server_option *it, const char *value)
{
    return !server_number(it, value) && *(int *)it->to > 0 ? NULL : "a number from 1";
}

/* Takes a takt_ns, above 0. */
static inline const char *server_time(const struct server_option *it, const char *value)
{
    static const char *const units[] = {"ms", "s", "m", "h"};
    static const takt_ns lengths[] = {TAKT_MS, TAKT_SEC, 60 * TAKT_SEC, 3600 * TAKT_SEC};
    char *end;
    const long number = strtol(value, &end, 10);
    for (int i = 0; end != value && number > 0 && number <= 1000000 && i < 4; i++) {
        *(takt_ns *)it->to = number * lengths[i];
        if (strcmp(end, units[i]) == 0)
            return NULL;
    }
    return "a time, as 500ms, 5s, 2m or 1h";
}

/* Takes nothing: an int is 1 then. */
static inline const char *server_flag(const struct server_option *it, const char *value)
{
    (void)value;
    *(int *)it->to = 1;
    return NULL;
}

static inline const char *server_backend(const struct server_option *it, const char *value)
{
    static const char *const modes[] = {"auto", "uring", "poll"}; /* in their order */
    for (int i = 0; i < 3; i++) {
        *(takt_uring_mode *)it->to = (takt_uring_mode)i;
        if (strcmp(value, modes[i]) == 0)
            return NULL;
    }
    return "auto, uring or poll";
}

/* Says on stderr what is wrong with the command line, and exits. */
static inline void server_wrong(const char *program, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, arguments);
    fputs("; see --help\n", stderr);
    va_end(arguments);
    exit(2);
}

/* Says on stderr what has failed, and how. For `return server_fail(...)` from main(). */
static inline int server_fail(const char *program, const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s\n", program, what, takt_strerror(error));
    return 1;
}

/* Reads the environment (TAKT_BACKEND ...), then the command line: --backend, --help and what
 * `options` lists. At --help, and at the first thing that is wrong, it says so and exits. */
static inline void server_options(const char *program, const char *usage,
                                  const struct server_option *options, takt_uring_config *config,
                                  int argc, char **argv)
{
    const struct server_option backend = {"--backend", server_backend, &config->mode, 0};
    const bool known = takt_uring_config_from_env(config) == 0;
    for (int i = 1; i < argc; i++) {
        const struct server_option *it = options;
        const char *value = argv[i], *wanted;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        while (it->name && strcmp(argv[i][0] == '-' ? argv[i] : "", it->name) != 0)
            it++;
        if (!it->name && strcmp(argv[i], backend.name) == 0)
            it = &backend;
        if (!it->name)
            server_wrong(program, "there is no option %s", argv[i]);
        if (it->name[0] && it->take != server_flag && (value = argv[++i]) == NULL)
            server_wrong(program, "%s needs a value", it->name);
        wanted = it->take(it, value);
        if (wanted && it->most)
            server_wrong(program, "%s %s is not %s to %d", it->name, value, wanted, it->most);
        if (wanted)
            server_wrong(program, "%s %s is not %s", it->name, value, wanted);
    }
    if (!known)
        server_wrong(program, "TAKT_BACKEND, TAKT_DISABLE or TAKT_RESTRICT is not understood");
}

#endif
