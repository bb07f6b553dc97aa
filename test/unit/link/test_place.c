/* test_place.c - where control processes are, as operators write it. */
#include "base/buf.h"
#include "link/place.h"
#include "test.h"

TEST(places_read_takes_names_addresses_and_several)
{
    struct place p[PLACES_MAX];
    size_t count;
    struct err err;
    CHECK_OK(places_read("a.example:1,192.0.2.1:65535,[2001:db8::1]:6657,a.example:1",
                         p, &count, &err),
             &err);
    CHECK_EQ(count, 3); /* The same one once. */
    CHECK_STR(p[0].host, "a.example");
    CHECK_EQ(p[0].port, 1);
    CHECK_EQ(p[1].port, 65535);
    CHECK_STR(p[2].host, "2001:db8::1");
    CHECK_EQ(p[2].port, 6657);
}

TEST(places_read_refuses_what_is_none_and_changes_nothing)
{
    static const char *const bad[] = {"",        "a",    ":1",    "a:",       "a:0",
                                      "a:65536", "a:1,", ",a:1",  "a:1,,b:2", "a:-1",
                                      "a:1x",    "a: 1", "[]:1x", "a:123456"};
    struct place p[PLACES_MAX] = {{.port = 7}};
    size_t count = 99;
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!places_read(bad[i], p, &count, &err));
        CHECK_EQ(err.code, ERR_INVALID);
        CHECK_EQ(count, 99);
    }
    AUTO(buf) struct buf many = {0};
    for (unsigned i = 0; i <= PLACES_MAX; i++) {
        buf_printf(&many, "%sh%u:1", i ? "," : "", i);
    }
    CHECK(!places_read(buf_str(&many), p, &count, &err));
}

TEST(places_add_keeps_each_once_and_no_more_than_fit)
{
    AUTO(buf) struct buf text = {0};
    places_add(&text, "a:1");
    places_add(&text, "[::1]:2");
    places_add(&text, "a:1");
    places_add(&text, "nonsense");
    CHECK_STR(buf_str(&text), "a:1,[::1]:2");
    for (unsigned i = 0; i < 2 * PLACES_MAX; i++) {
        AUTO(buf) struct buf more = {0};
        buf_printf(&more, "h%u:1", i);
        places_add(&text, buf_str(&more));
    }
    struct place p[PLACES_MAX];
    size_t count;
    struct err err;
    CHECK_OK(places_read(buf_str(&text), p, &count, &err), &err);
    CHECK_EQ(count, PLACES_MAX);
}
