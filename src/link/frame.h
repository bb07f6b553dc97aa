/* frame.h - frames out of a run of bytes, and back: the link's outermost grammar.
 *
 * Purpose:  u32 length (big-endian, of what follows), u8 type, body. Pure: no socket,
 *           no clock.
 * Place:    above base/; below stream.h.
 * Input:    hostile. A reader holds at most one frame's bytes, and grows to a frame's
 *           length only as its bytes arrive, so that a claimed length costs nothing.
 * Owner:    the caller. 'struct frame_reader r = {0}' is an empty one.
 * Threads:  one at a time.
 * Failure:  a frame of length 0 or of more than the limit is ERR_CORRUPT; the reader
 *           then stays failed. Types are not judged here: who meets an unknown one
 *           skips it. */
#pragma once
#include "base/buf.h"
#include "base/desc.h"

#define FRAME_HEAD 5 /* Length and type. */

struct frame {
    uint8_t type; /* enum link_frame. */
    const uint8_t *data;
    size_t len;
};

struct frame_reader {
    struct buf held; /* Of one frame that is not whole yet. */
    uint32_t limit;  /* Of one frame's length word; 0: LINK_FRAME_MAX. */
    bool failed;
};

void frame_reader_fini(struct frame_reader *r);

/* Called with each whole frame; 'frame' is borrowed for the call. False ends the
 * reading: what is left of the input is dropped. */
typedef bool frame_fn(void *ctx, const struct frame *frame);

/* Takes 'len' bytes and hands out the frames that they complete, in order. True also
 * when 'fn' ended the reading. 'fn' must not free 'r'. */
MUST_CHECK bool frame_reader_feed(struct frame_reader *r, const void *data, size_t len,
                                  frame_fn *fn, void *ctx, struct err *err);

/* Appends a frame whose body is 'len' bytes. */
void frame_put(struct buf *out, uint8_t type, const void *data, size_t len);
/* Appends a frame whose body is a TLV record; false (and nothing appended) when it is
 * longer than LINK_FRAME_MAX. */
MUST_CHECK bool frame_put_record(struct buf *out, uint8_t type, const struct desc *desc,
                                 const void *record);
/* Appends a FRAME_CHANNEL_DATA: u32 channel, bytes. */
void frame_put_channel_data(struct buf *out, uint32_t channel, const void *data,
                            size_t len);
/* The channel of such a frame's body, and its bytes; false when it is too short. */
MUST_CHECK bool frame_channel_data(const struct frame *frame, uint32_t *out_channel,
                                   const uint8_t **out_data, size_t *out_len);
