/* test_jsonio.c - there and back, and errors that say where. */
#include "base/jsonio.h"
#include "sample.h"
#include "test.h"

static bool
parse(struct arena *arena, const char *text, unsigned flags, struct test_sample *out,
      struct err *err)
{
    return json_read_text(&test_sample_desc, text, strlen(text), flags, arena, out,
                          err);
}

TEST(json_round_trips_every_kind)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf text = {0};
    struct test_sample back;
    struct err err;
    json_write(&test_sample_desc, &sample_full, JSONIO_TIME_TEXT, &text);
    CHECK_OK(
        parse(arena, buf_str(&text), JSONIO_STRICT | JSONIO_TIME_TEXT, &back, &err),
        &err);
    CHECK(desc_equal(&test_sample_desc, &back, &sample_full));
}

TEST(json_times_are_seconds_unless_text_is_asked_for)
{
    AUTO(buf) struct buf text = {0};
    struct test_sample s = {.id = "x", .at = 1420070400123000000};
    json_write(&test_sample_desc, &s, 0, &text);
    CHECK_STR(buf_str(&text), "{\"id\":\"x\",\"at\":1420070400.123}");
    buf_clear(&text);
    json_write(&test_sample_desc, &s, JSONIO_TIME_TEXT, &text);
    CHECK_STR(buf_str(&text), "{\"id\":\"x\",\"at\":\"2015-01-01T00:00:00.123Z\"}");
    AUTO(arena) struct arena *arena = arena_create();
    struct err err;
    CHECK_OK(parse(arena, "{\"at\":1420070400.123}", 0, &s, &err), &err);
    CHECK_EQ(s.at, 1420070400123000000);
}

TEST(json_empty_lists_are_written_when_asked_for)
{
    AUTO(buf) struct buf text = {0};
    struct test_sample s = {.names = {sample_names, 0}};
    json_write(&test_sample_desc, &s, 0, &text);
    CHECK_STR(buf_str(&text), "{}");
    buf_clear(&text);
    json_write(&test_sample_desc, &s, JSONIO_KEEP_EMPTY, &text);
    CHECK_STR(buf_str(&text), "{\"names\":[]}");
}

TEST(json_strings_are_escaped_and_made_valid)
{
    AUTO(buf) struct buf text = {0};
    static const char in[] =
        "a\"\\\n\x01\xc3\xa5\xff\xc0\x80\xed\xa0\x80\xf0\x9f\x98\x80";
    json_put_string(&text, in, sizeof in - 1);
    json_t *back = json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
    CHECK(back != NULL);
    CHECK_STR(json_string_value(back),
              "a\"\\\n\x01\xc3\xa5\xef\xbf\xbd\xef\xbf\xbd"
              "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
              "\xf0\x9f\x98\x80");
    json_decref(back);
}

TEST(json_errors_name_the_path)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"count\":\"1\"}", "count: must be a whole number"},
        {"{\"count\":1.5}", "count: must be a whole number"},
        {"{\"branches\":[{},{\"leaves\":[{\"size\":true}]}]}",
         "branches[1].leaves[0].size: must be a whole number"},
        {"{\"branch\":{\"leaves\":{}}}", "branch.leaves: must be a list"},
        {"{\"names\":[\"a\",null]}", "names[1]: must be a string"},
        {"{\"body\":\"!\"}", "body: must be base64 text"},
        {"{\"at\":\"yesterday\"}", "at: must be a time"},
        {"{\"at\":99999999999999}", "at: time out of range"},
        {"{\"id\":\"a\\u0000b\"}", "id: must not contain NUL"},
        {"{\"branch\":{\"other\":1}}", "branch.other: is not known"},
        {"[]", "document: must be an object"},
    };
    AUTO(arena) struct arena *arena = arena_create();
    struct test_sample s;
    struct err err;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!parse(arena, bad[i].text, JSONIO_STRICT, &s, &err));
        /* jansson itself refuses \u0000 unless told otherwise. */
        if (!str_starts(err.msg, "not JSON")) {
            CHECK_STR(err.msg, bad[i].message);
        }
        CHECK_EQ(err.code, ERR_SERIALIZATION);
    }
    CHECK(!parse(arena, "{\"id\":\"a\",\"id\":\"b\"}", 0, &s, &err));
    CHECK_OK(parse(arena, "{\"other\":1,\"id\":null}", 0, &s, &err), &err);
    CHECK_NULL(s.id);
}
