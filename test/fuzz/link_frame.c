/* link_frame.c - fuzzes what a link receives: frames, cut anywhere, and the records in
 * them.
 *
 * An odd first byte: the rest is one frame's type and body, so that records are reached
 * soon. An even one says how the rest is cut. Checked, beside memory: the cut makes no
 * difference to the frames that come out, and a record that was read, written and read
 * again is the same. */
#include "base/tlv.h"
#include "link/frame.h"
#include "link/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct sum {
    size_t frames, bytes;
    uint32_t hash;
    bool records; /* Decode them too. */
};

static const struct desc *const descs[] = {
    [FRAME_HELLO] = &link_hello_desc,
    [FRAME_WELCOME] = &link_welcome_desc,
    [FRAME_REFUSE] = &link_refuse_desc,
    [FRAME_WANT] = &link_wanted_desc,
    [FRAME_SNAPSHOT_END] = &link_snapshot_end_desc,
    [FRAME_REPORT] = &link_reported_desc,
    [FRAME_ACK] = &link_ack_desc,
    [FRAME_CALL] = &link_call_desc,
    [FRAME_REPLY] = &link_reply_desc,
    [FRAME_CHANNEL_OPEN] = &link_channel_open_desc,
    [FRAME_CHANNEL_STATUS] = &link_channel_status_desc,
    [FRAME_ENROLL] = &link_enroll_desc,
    [FRAME_ENROLLED] = &link_enrolled_desc,
    [FRAME_RENEW] = &link_renew_desc,
};

static void
check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* Decodes, encodes and decodes again; NULL when the bytes are no such record. */
static void *
there_and_back(const struct desc *desc, const void *data, size_t len,
               struct arena *arena)
{
    struct err err = {0};
    AUTO(buf) struct buf again = {0};
    void *first = arena_alloc(arena, desc->size);
    void *second = arena_alloc(arena, desc->size);
    if (!tlv_decode(desc, data, len, arena, first, &err)) {
        check(err.code != ERR_NONE);
        return NULL;
    }
    tlv_encode(desc, first, &again);
    check(tlv_decode(desc, again.data, again.len, arena, second, &err));
    check(desc_equal(desc, first, second));
    return first;
}

static void
try_record(const struct frame *frame)
{
    const struct desc *desc =
        frame->type < ARRAY_LEN(descs) ? descs[frame->type] : NULL;
    if (!desc) {
        return;
    }
    AUTO(arena) struct arena *arena = arena_create();
    void *record = there_and_back(desc, frame->data, frame->len, arena);
    const struct desc *inner = NULL;
    struct blob body = {0};
    if (record && frame->type == FRAME_WANT) {
        const struct link_wanted *w = record;
        inner = link_want_desc((enum link_kind)w->kind);
        body = w->body;
    } else if (record && frame->type == FRAME_REPORT) {
        const struct link_reported *r = record;
        inner = link_seen_desc((enum link_kind)r->kind);
        body = r->body;
    }
    if (inner) {
        (void)there_and_back(inner, body.data, body.len, arena);
    }
}

static bool
on_frame(void *ctx, const struct frame *frame)
{
    struct sum *sum = ctx;
    uint32_t channel;
    const uint8_t *bytes;
    size_t count;
    sum->frames++;
    sum->bytes += frame->len;
    sum->hash = sum->hash * 31 + frame->type;
    for (size_t i = 0; i < frame->len; i++) {
        sum->hash = sum->hash * 31 + frame->data[i];
    }
    if (frame_channel_data(frame, &channel, &bytes, &count)) {
        check(count + 4 == frame->len);
    }
    if (sum->records) {
        try_record(frame);
    }
    return true;
}

static struct sum
read_cut(const uint8_t *data, size_t len, size_t step, bool records, bool *out_ok)
{
    struct frame_reader r = {.limit = 1 << 16};
    struct sum sum = {.records = records};
    struct err err = {0};
    *out_ok = true;
    for (size_t at = 0; at < len && *out_ok; at += step) {
        *out_ok =
            frame_reader_feed(&r, data + at, MIN(step, len - at), on_frame, &sum, &err);
    }
    frame_reader_fini(&r);
    return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2) {
        return 0;
    }
    if (data[0] % 2) {
        struct frame frame = {.type = data[1], .data = data + 2, .len = len - 2};
        try_record(&frame);
        return 0;
    }
    bool ok_whole, ok_cut;
    struct sum whole = read_cut(data + 1, len - 1, len, true, &ok_whole);
    struct sum cut = read_cut(data + 1, len - 1, 1 + data[0] % 64u, false, &ok_cut);
    check(ok_whole == ok_cut);
    check(whole.frames == cut.frames && whole.bytes == cut.bytes &&
          whole.hash == cut.hash);
    return 0;
}
