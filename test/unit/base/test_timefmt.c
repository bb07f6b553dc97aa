/* test_timefmt.c */
#include "base/timefmt.h"
#include "test.h"

TEST(time_is_written_as_aws_writes_it)
{
    char out[TIME_TEXT_LEN];
    int64_t ns = 784111777 * NS_PER_S + 123456789;
    time_iso(ns, out);
    CHECK_STR(out, "1994-11-06T08:49:37.123Z");
    time_basic(ns, out);
    CHECK_STR(out, "19941106T084937Z");
    time_http(ns, out);
    CHECK_STR(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    time_iso(-1, out);
    CHECK_STR(out, "1969-12-31T23:59:59.999Z");
}

TEST(time_is_read_in_all_its_forms)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"1994-11-06T08:49:37Z", 784111777 * NS_PER_S},
        {"19941106T084937Z", 784111777 * NS_PER_S},
        {"1994-11-06T08:49:37.5Z", 784111777 * NS_PER_S + NS_PER_S / 2},
        {"1994-11-06T09:49:37+01:00", 784111777 * NS_PER_S},
        {"1994-11-06T04:19:37-0430", 784111777 * NS_PER_S},
        {"1994-11-06T09:49:37+01", 784111777 * NS_PER_S},
        {"2024-02-29T00:00:00.1234567891Z", 1709164800 * NS_PER_S + 123456789},
        {"1970-01-01T00:00:00Z", 0},
    };
    static const char *const bad[] = {
        "",
        "1994-11-06",
        "1994-11-06T08:49:37",
        "1994-11-06 08:49:37Z",
        "1994-13-06T08:49:37Z",
        "2023-02-29T00:00:00Z",
        "1994-11-06T24:00:00Z",
        "1994-11-06T08:49:37.Z",
        "1994-11-06T08:49:37Zx",
        "1994-11-06T08:49:37+1:00",
        "1994-11-06T084937Z",
        "9999-12-31T23:59:59Z", /* Past what 64 bits of nanoseconds hold. */
    };
    int64_t ns;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        CHECK(time_parse(good[i].text, &ns));
        CHECK_EQ(ns, good[i].ns);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!time_parse(bad[i], &ns));
    }
    CHECK(time_parse_http("Sun, 06 Nov 1994 08:49:37 GMT", &ns));
    CHECK_EQ(ns, 784111777 * NS_PER_S);
    CHECK(!time_parse_http("Sun, 06 Nov 1994 08:49:37 UTC", &ns));
    CHECK(!time_parse_http("Sun, 06 Nov 1994 08:49:37 GMT ", &ns));
}

TEST(time_round_trips)
{
    char out[TIME_TEXT_LEN];
    for (int64_t s = -2000000000; s < 4000000000; s += 86399 * 37) {
        int64_t ns = s * NS_PER_S, back;
        time_iso(ns, out);
        CHECK(time_parse(out, &back) && back == ns);
        time_basic(ns, out);
        CHECK(time_parse(out, &back) && back == ns);
        time_http(ns, out);
        CHECK(time_parse_http(out, &back) && back == ns);
    }
}
