/* channels.h - all channels of one link: the part that a peer or a client holds.
 *
 * Purpose:  gives numbers to channels, finds them by number, and carries their frames
 *           over the link's stream. What a channel is, and its life, is in channel.h.
 * Owner:    embedded in a server's peer or a client; internal to link/.
 * Threads:  the loop's. */
#pragma once
#include "link/channel.h"
#include "link/stream.h"

#define CHANNELS_BUCKETS 32

/* The other end opened 'channel'; it now belongs to the callee (channel.h). */
typedef void channels_open_fn(void *ctx, struct link_channel *channel,
                              const struct link_channel_open *open);

struct channels {
    uv_loop_t *loop;
    struct stream *stream; /* NULL while the link is down. */
    channels_open_fn *on_open;
    void *ctx;
    struct link_channel *buckets[CHANNELS_BUCKETS];
    uint32_t count;
    uint32_t next_id; /* Odd for control, even for nodes; rises by two. */
};

void channels_init(struct channels *all, uv_loop_t *loop, bool control,
                   channels_open_fn *on_open, void *ctx);
void channels_start(struct channels *all, struct stream *stream);
/* The link is gone: every channel ends with 'why'. */
void channels_stop(struct channels *all, const char *why);
/* Takes a FRAME_CHANNEL_OPEN, _STATUS or _DATA. False with 'err' set: the other end
 * broke the rules, close the stream. */
MUST_CHECK bool channels_frame(struct channels *all, const struct frame *frame,
                               struct arena *arena, struct err *err);
/* The stream can take more. */
void channels_drained(struct channels *all);
/* See link_peer_open_channel. */
struct link_channel *channels_open(struct channels *all,
                                   const struct link_channel_open *open,
                                   const struct link_channel_bind *bind);
