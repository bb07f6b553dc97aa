/* frame.c - see frame.h. */
#include "link/frame.h"

#include "base/tlv.h"
#include "link/link.h"

#define LENGTH_WORD 4

static uint32_t
get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void
put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

void
frame_reader_fini(struct frame_reader *r)
{
    buf_fini(&r->held);
    *r = (struct frame_reader){.failed = true};
}

/* The bytes of the frame that begins at 'p', with its length word; 0 when fewer than
 * four bytes are there to tell. */
static bool
frame_whole_len(struct frame_reader *r, const uint8_t *p, size_t have, size_t *out,
                struct err *err)
{
    if (have < LENGTH_WORD) {
        *out = 0;
        return true;
    }
    uint32_t len = get_u32(p);
    uint32_t limit = r->limit ? r->limit : LINK_FRAME_MAX;
    if (len == 0 || len > limit) {
        r->failed = true;
        return err_set(err, ERR_CORRUPT, "a frame of %u bytes; 1 to %u are allowed",
                       len, limit);
    }
    *out = LENGTH_WORD + (size_t)len;
    return true;
}

static bool
frame_hand_out(const uint8_t *p, size_t whole, frame_fn *fn, void *ctx)
{
    struct frame frame = {
        .type = p[LENGTH_WORD], .data = p + FRAME_HEAD, .len = whole - FRAME_HEAD};
    return fn(ctx, &frame);
}

/* Fills the held frame from '*p'; sets '*out_whole' once it is complete. */
static bool
frame_fill_held(struct frame_reader *r, const uint8_t **p, const uint8_t *end,
                size_t *out_whole, struct err *err)
{
    *out_whole = 0;
    while (*p < end) {
        size_t whole;
        if (!frame_whole_len(r, (const uint8_t *)r->held.data, r->held.len, &whole,
                             err)) {
            return false;
        }
        size_t missing = (whole ? whole : LENGTH_WORD) - r->held.len;
        size_t take = MIN(missing, (size_t)(end - *p));
        buf_put(&r->held, *p, take);
        *p += take;
        if (whole && take == missing) {
            *out_whole = whole;
            return true;
        }
    }
    /* The length word may have come as the very last bytes: judge it now, not later. */
    size_t whole;
    return frame_whole_len(r, (const uint8_t *)r->held.data, r->held.len, &whole, err);
}

bool
frame_reader_feed(struct frame_reader *r, const void *data, size_t len, frame_fn *fn,
                  void *ctx, struct err *err)
{
    if (r->failed) {
        return err_set(err, ERR_CORRUPT, "the stream is broken");
    }
    const uint8_t *p = data, *end = p + len;
    while (p < end) {
        size_t whole;
        if (r->held.len) {
            if (!frame_fill_held(r, &p, end, &whole, err)) {
                return false;
            }
            if (!whole) {
                return true;
            }
            bool more = frame_hand_out((const uint8_t *)r->held.data, whole, fn, ctx);
            buf_fini(&r->held); /* Frames split over reads are few; keep no memory. */
            if (!more) {
                return true;
            }
            continue;
        }
        if (!frame_whole_len(r, p, (size_t)(end - p), &whole, err)) {
            return false;
        }
        if (!whole || whole > (size_t)(end - p)) {
            buf_put(&r->held, p, (size_t)(end - p));
            return true;
        }
        if (!frame_hand_out(p, whole, fn, ctx)) {
            return true;
        }
        p += whole;
    }
    return true;
}

static void
frame_put_head(struct buf *out, uint8_t type, size_t len)
{
    uint8_t head[FRAME_HEAD];
    put_u32(head, (uint32_t)(len + 1));
    head[LENGTH_WORD] = type;
    buf_put(out, head, sizeof head);
}

void
frame_put(struct buf *out, uint8_t type, const void *data, size_t len)
{
    frame_put_head(out, type, len);
    buf_put(out, data, len);
}

bool
frame_put_record(struct buf *out, uint8_t type, const struct desc *desc,
                 const void *record)
{
    size_t begin = out->len;
    frame_put_head(out, type, 0);
    if (out->full) {
        return false;
    }
    tlv_encode(desc, record, out);
    size_t len = out->len - begin - LENGTH_WORD;
    if (out->full || len > LINK_FRAME_MAX) {
        out->len = begin;
        return false;
    }
    put_u32((uint8_t *)out->data + begin, (uint32_t)len);
    return true;
}

void
frame_put_channel_data(struct buf *out, uint32_t channel, const void *data, size_t len)
{
    uint8_t id[4];
    put_u32(id, channel);
    frame_put_head(out, FRAME_CHANNEL_DATA, sizeof id + len);
    buf_put(out, id, sizeof id);
    buf_put(out, data, len);
}

bool
frame_channel_data(const struct frame *frame, uint32_t *out_channel,
                   const uint8_t **out_data, size_t *out_len)
{
    if (frame->len < 4) {
        return false;
    }
    *out_channel = get_u32(frame->data);
    *out_data = frame->data + 4;
    *out_len = frame->len - 4;
    return true;
}
