/* test_main.c - runs every registered TEST through cmocka. */
#include "test.h"

static struct CMUnitTest tests[512];
static size_t count;

void
test_register(const char *name, void (*fn)(void **state))
{
    if (count == ARRAY_LEN(tests)) {
        abort();
    }
    tests[count++] = (struct CMUnitTest){.name = name, .test_func = fn};
}

int
main(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    /* The group's size is only known here, so the macro of the same purpose cannot do. */
    return _cmocka_run_group_tests(argv[0], tests, count, NULL, NULL);
}
