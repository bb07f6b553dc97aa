/* test_frame.c - frames out of hostile bytes. */
#include "test.h"

#include "link/frame.h"
#include "link/link.h"

struct seen {
    int count;
    size_t bytes;
    uint8_t last_type;
    char last[32];
    int stop_after; /* 0: never. */
};

static bool
on_frame(void *ctx, const struct frame *frame)
{
    struct seen *seen = ctx;
    seen->count++;
    seen->bytes += frame->len;
    seen->last_type = frame->type;
    snprintf(seen->last, sizeof seen->last, "%.*s", (int)MIN(frame->len, 31u),
             (const char *)frame->data);
    return seen->count != seen->stop_after;
}

static void
put_three(struct buf *b)
{
    frame_put(b, FRAME_PING, NULL, 0);
    frame_put(b, FRAME_WANT, "hello", 5);
    frame_put(b, FRAME_REPORT, "good bye", 8);
}

TEST(frame_reader_joins_frames_cut_anywhere)
{
    AUTO(buf) struct buf b = {0};
    put_three(&b);
    for (size_t step = 1; step <= b.len; step++) {
        struct frame_reader r = {0};
        struct seen seen = {0};
        struct err err = {0};
        for (size_t at = 0; at < b.len; at += step) {
            CHECK_OK(frame_reader_feed(&r, b.data + at, MIN(step, b.len - at), on_frame,
                                       &seen, &err),
                     &err);
        }
        CHECK_EQ(seen.count, 3);
        CHECK_EQ(seen.bytes, 13);
        CHECK_EQ(seen.last_type, FRAME_REPORT);
        CHECK_STR(seen.last, "good bye");
        frame_reader_fini(&r);
    }
}

TEST(frame_reader_refuses_empty_and_oversized_lengths)
{
    static const uint8_t empty[] = {0, 0, 0, 0, 7};
    static const uint8_t large[] = {0x00, 0x40, 0x00, 0x01}; /* LINK_FRAME_MAX + 1. */
    static const uint8_t largest[] = {0x00, 0x40, 0x00, 0x00, 7};
    struct seen seen = {0};
    struct err err = {0};

    struct frame_reader r = {0};
    CHECK(!frame_reader_feed(&r, empty, sizeof empty, on_frame, &seen, &err));
    CHECK_EQ(err.code, ERR_CORRUPT);
    CHECK(!frame_reader_feed(&r, largest, sizeof largest, on_frame, &seen, &err));
    frame_reader_fini(&r);

    r = (struct frame_reader){0};
    for (size_t i = 0; i < 3; i++) {
        CHECK(frame_reader_feed(&r, large + i, 1, on_frame, &seen, &err));
    }
    CHECK(!frame_reader_feed(&r, large + 3, 1, on_frame, &seen, &err));
    frame_reader_fini(&r);

    r = (struct frame_reader){0};
    CHECK(frame_reader_feed(&r, largest, sizeof largest, on_frame, &seen, &err));
    CHECK(r.held.cap < 4096); /* A claim costs nothing; only bytes do. */
    frame_reader_fini(&r);
    CHECK_EQ(seen.count, 0);
}

TEST(frame_reader_stops_where_it_is_told)
{
    AUTO(buf) struct buf b = {0};
    struct frame_reader r = {0};
    struct seen seen = {.stop_after = 2};
    struct err err = {0};
    put_three(&b);
    CHECK(frame_reader_feed(&r, b.data, b.len, on_frame, &seen, &err));
    CHECK_EQ(seen.count, 2);
    frame_reader_fini(&r);
}

TEST(frame_put_record_refuses_what_no_reader_would_take)
{
    AUTO(buf) struct buf b = {0};
    AUTO(free) uint8_t *body = xcalloc(1, LINK_FRAME_MAX);
    struct link_wanted wanted = {.id = "i-1", .body = {body, LINK_FRAME_MAX}};
    buf_puts(&b, "before");
    CHECK(!frame_put_record(&b, FRAME_WANT, &link_wanted_desc, &wanted));
    CHECK_EQ(b.len, 6);
    wanted.body.len = LINK_FRAME_MAX - 64;
    CHECK(frame_put_record(&b, FRAME_WANT, &link_wanted_desc, &wanted));
}
