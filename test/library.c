/*
 * library.c - the implementation as one of several files of a program: under sanitizers it is
 * compiled once, and most tests are linked with it. Its log is the test's, if that remembers.
 */
extern void remember(const char *text) __attribute__((weak));

#include <stdio.h>

#define TAKT_LOG(text) (remember ? remember(text) : (void)fprintf(stderr, "%s\n", (text)))
#define TAKT_IMPLEMENTATION
#include "../takt_uring.h"
