/*
 * outcome.c - what an error code means, and its words
 */
#define TAKT_IMPLEMENTATION
#include "../takt.h"

#include "test.h"

/* OC-1, OC-2, OC-6: the table of the predicates. */
static void a_code_is_classified_by_itself_alone(void)
{
    static const struct {
        int64_t code;
        takt_outcome outcome;
        bool semantic, nonfailure, progress;
    } rows[] = {
        {0, TAKT_OUTCOME_OK, false, true, true},
        {1, TAKT_OUTCOME_OK, false, true, true},
        {INT64_MAX, TAKT_OUTCOME_OK, false, true, true},
        {TAKT_EWOULDBLOCK, TAKT_OUTCOME_WOULD_BLOCK, true, true, false},
        {TAKT_EMORE, TAKT_OUTCOME_MORE, true, true, true},
        {-EAGAIN, TAKT_OUTCOME_FAILURE, false, false, false},
        {-EIO, TAKT_OUTCOME_FAILURE, false, false, false},
        {TAKT_ECANCELED, TAKT_OUTCOME_FAILURE, false, false, false},
        {TAKT_ECLOSED, TAKT_OUTCOME_FAILURE, false, false, false},
        {INT64_MIN, TAKT_OUTCOME_FAILURE, false, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        EXPECT_EQ(takt_classify(rows[i].code), rows[i].outcome);
        EXPECT_EQ(takt_is_semantic(rows[i].code), rows[i].semantic);
        EXPECT_EQ(takt_is_nonfailure(rows[i].code), rows[i].nonfailure);
        EXPECT_EQ(takt_is_progress(rows[i].code), rows[i].progress);
    }
}

/* OC-5: a zeroed outcome does not read as success. */
static void what_is_unknown_is_a_failure(void)
{
    EXPECT_EQ(TAKT_OUTCOME_FAILURE, 0);
    EXPECT(strcmp(takt_outcome_name(TAKT_OUTCOME_FAILURE), "Failure") == 0);
    EXPECT(strcmp(takt_outcome_name(TAKT_OUTCOME_OK), "OK") == 0);
    EXPECT(strcmp(takt_outcome_name(TAKT_OUTCOME_WOULD_BLOCK), "WouldBlock") == 0);
    EXPECT(strcmp(takt_outcome_name(TAKT_OUTCOME_MORE), "More") == 0);
    EXPECT(strcmp(takt_outcome_name((takt_outcome)3), "More") == 0);
}

static const int codes[] = {
#define X(name, value, text) name,
    TAKT_ERRORS(X)
#undef X
};

/* OC-4: one code, one meaning; none is an errno's. */
static void every_code_is_its_own(void)
{
    const size_t count = sizeof codes / sizeof codes[0];
    for (size_t i = 0; i < count; i++) {
        EXPECT(codes[i] < -4095);
        for (size_t k = 0; k < i; k++)
            EXPECT(codes[i] != codes[k]);
    }
}

static void every_code_has_words_of_its_own(void)
{
    const size_t count = sizeof codes / sizeof codes[0];
    for (size_t i = 0; i < count; i++) {
        EXPECT(strlen(takt_strerror(codes[i])) > 10);
        EXPECT(strcmp(takt_strerror(codes[i]), takt_strerror(-4095)) != 0);
        for (size_t k = 0; k < i; k++)
            EXPECT(strcmp(takt_strerror(codes[i]), takt_strerror(codes[k])) != 0);
    }
    for (int number = 0; number <= 4096; number++)
        EXPECT(takt_strerror(-number) != NULL && *takt_strerror(-number) != '\0');
    EXPECT(strcmp(takt_strerror(0), "no error") == 0);
    EXPECT(strstr(takt_strerror(-ECONNREFUSED), "refused"));
    EXPECT(strstr(takt_strerror(-EMFILE), "ulimit -n")); /* what to do about it */
    EXPECT(strstr(takt_strerror(EIO), "negative")); /* the wrong sign is named */
    EXPECT(takt_strerror(INT32_MAX) != NULL && takt_strerror(INT32_MIN) != NULL);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(a_code_is_classified_by_itself_alone),
        TEST(what_is_unknown_is_a_failure),
        TEST(every_code_is_its_own),
        TEST(every_code_has_words_of_its_own),
    };
    return RUN_TESTS(argc, argv, tests);
}
