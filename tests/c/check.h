/* What the C tests share: a check that says what was expected, and goes on. */
#ifndef CHECK_H
#define CHECK_H

#include "rpc.h"

static int check_failures;

#define CHECK(expression, expected)                                                              \
    do {                                                                                         \
        long long check_is = (long long)(expression);                                            \
        long long check_wanted = (long long)(expected);                                          \
        if (check_is != check_wanted) {                                                          \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #expression,    \
                    check_is, check_wanted);                                                     \
            check_failures++;                                                                    \
        }                                                                                        \
    } while (0)

#define CHECK_TEXT(expression, expected)                                                         \
    do {                                                                                         \
        const char *check_is = (expression);                                                     \
        if (strcmp(check_is, (expected)) != 0) {                                                 \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__,             \
                    #expression, check_is, (expected));                                          \
            check_failures++;                                                                    \
        }                                                                                        \
    } while (0)

static inline int check_result(void)
{
    return check_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
