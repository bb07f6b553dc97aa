/* test_buf.c */
#include "base/buf.h"
#include "test.h"

TEST(buf_grows_and_ends_with_nul)
{
    AUTO(buf) struct buf b = {0};
    CHECK_STR(buf_str(&b), "");
    for (int i = 0; i < 1000; i++) {
        buf_printf(&b, "%d,", i);
        CHECK_EQ(b.data[b.len], 0);
    }
    CHECK_EQ(strlen(buf_str(&b)), b.len);
    CHECK_STR(buf_str(&b) + b.len - 4, "999,");
    buf_drop_front(&b, b.len - 4);
    CHECK_STR(buf_str(&b), "999,");
    buf_drop_front(&b, 99);
    CHECK_STR(buf_str(&b), "");
}

TEST(buf_past_its_limit_stays_full_and_keeps_what_fitted)
{
    AUTO(buf) struct buf b = {.limit = 5};
    buf_puts(&b, "abc");
    buf_puts(&b, "defg");
    CHECK(b.full);
    buf_putc(&b, 'h'); /* Would fit, but what came before it did not. */
    buf_printf(&b, "%d", 1);
    CHECK_STR(buf_str(&b), "abc");
    CHECK_NULL(buf_room(&b, 1));
    buf_clear(&b);
    buf_puts(&b, "12345");
    CHECK(!b.full);
    CHECK_STR(buf_str(&b), "12345");
}

TEST(buf_room_is_written_by_the_caller)
{
    AUTO(buf) struct buf b = {0};
    memcpy(buf_room(&b, 100), "xyz", 3);
    b.len += 3;
    CHECK_STR(buf_str(&b), "xyz");
    char *taken = buf_take(&b);
    CHECK_STR(taken, "xyz");
    CHECK_NULL(b.data);
    free(taken);
    taken = buf_take(&b);
    CHECK_STR(taken, "");
    free(taken);
}
