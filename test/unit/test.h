/* test.h - how a unit test is written: TEST(module_does_what_when) { CHECK(...); }
 *
 * Each test file is linked with test_main.c, which runs every TEST through cmocka and
 * prints cmocka's summary. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

void test_register(const char *name, void (*fn)(void **state));

#define TEST(name) \
    static void name(void **state); \
    __attribute__((constructor)) static void register_##name(void) \
    { \
        test_register(#name, name); \
    } \
    static void name(void **state UNUSED)

#define CHECK(cond) assert_true(cond)
#define CHECK_EQ(a, b) assert_int_equal((a), (b))
#define CHECK_STR(a, b) assert_string_equal((a), (b))
#define CHECK_NULL(a) assert_null(a)
/* 'call' fills 'err'; a failure prints its message. */
#define CHECK_OK(call, err) \
    do { \
        if (!(call)) { \
            fail_msg("%s: %s", #call, (err)->msg); \
        } \
    } while (0)
