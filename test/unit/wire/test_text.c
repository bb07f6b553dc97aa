/* test_text.c - text that XML can carry, and times as AWS writes them. */
#include "base/timefmt.h"
#include "test.h"
#include "wire/text.h"

TEST(text_put_time_agrees_with_the_calendar)
{
    static const int64_t times_ns[] = {0,
                                       1,
                                       -1,
                                       -NS_PER_S,
                                       951782400 * NS_PER_S /* 2000-02-29 */,
                                       951868799 * NS_PER_S,
                                       4107542400 * NS_PER_S /* 2100-03-01 */,
                                       1769903999 * NS_PER_S + 123456789,
                                       INT64_MAX / 2};
    for (size_t i = 0; i < ARRAY_LEN(times_ns); i++) {
        AUTO(buf) struct buf out = {0};
        char want[TIME_TEXT_LEN];
        time_iso(times_ns[i], want);
        text_put_time(&out, times_ns[i]);
        CHECK_STR(out.data, want);
    }
}

TEST(text_is_clean_refuses_what_xml_cannot_carry)
{
    static const char *const clean[] = {"", "a", "\t\n\r", "\xc3\xa5",
                                        "\xf0\x9f\x98\x80"};
    static const char *const dirty[] = {
        "\x01",     "\x1f",         "\xff",         "\xc3",
        "\xc0\x80", "\xed\xa0\x80", "\xef\xbf\xbe", "\xf4\x90\x80\x80"};
    for (size_t i = 0; i < ARRAY_LEN(clean); i++) {
        CHECK(text_is_clean(clean[i], strlen(clean[i])));
    }
    for (size_t i = 0; i < ARRAY_LEN(dirty); i++) {
        CHECK(!text_is_clean(dirty[i], strlen(dirty[i])));
    }
}

TEST(text_put_xml_escapes_and_replaces)
{
    AUTO(buf) struct buf out = {0};
    text_put_xml(&out, "<a href=\"x\">&'\r\n\xc3\xa5\x02\xff\xc3");
    CHECK_STR(out.data, "&lt;a href=&quot;x&quot;&gt;&amp;'&#xD;\n\xc3\xa5\xef\xbf\xbd"
                        "\xef\xbf\xbd\xef\xbf\xbd");
}
