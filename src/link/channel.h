/* channel.h - byte streams inside a link: tunnels, consoles, blobs.
 *
 * Purpose:  a channel is a two-way run of bytes between a descriptor here and one at
 *           the other end, beside the link's records and never in their way: each
 *           direction may have at most LINK_CHANNEL_WINDOW bytes under way (credit), so
 *           a slow reader stops its own sender and nobody else.
 * Place:    inside a server's peer or a client; users bind descriptors and wait.
 * Owner:    a channel belongs to its link. One that was handed out by a 'channel'
 *           callback is the receiver's until link_channel_accept or
 *           link_channel_refuse, also when the link is lost meanwhile; afterwards, as
 *           after opening one, the pointer is good until DONE was called.
 * Ends:     the end of a descriptor's input is passed on, and the other end's output is
 *           shut down (half-close). A channel is done, cleanly, when both directions
 *           have ended and all bytes are written at both ends; or at once, with a
 *           reason, by link_channel_close, an error at either end, or the loss of the
 *           link.
 * Threads:  the loop's. */
#pragma once
#include "link/link.h"

#define LINK_CHANNEL_WINDOW (256u << 10)
#define LINK_CHANNELS_MAX 1024u /* Open at once in one link. */

struct link_channel;

enum link_channel_state {
    LINK_CHANNEL_OPEN, /* The other end accepted; only whoever opened hears of it. */
    LINK_CHANNEL_DONE, /* Ended; channel and descriptor are gone. Called once. */
};

/* 'why' is NULL when all went well (OPEN, or a clean DONE); else the reason, for
 * people. 'received' counts the bytes written to the descriptor. */
typedef void link_channel_fn(void *ctx, struct link_channel *channel,
                             enum link_channel_state state, uint64_t received,
                             const char *why);

/* What a channel is bound to. Sockets, pipes and terminals are set to non-blocking and
 * polled; regular files are read and written by the loop's workers. */
struct link_channel_bind {
    int fd;               /* Taken, also on failure. */
    int64_t offset;       /* Files: where reading or writing begins. */
    uint64_t limit_bytes; /* More than this from the other end ends it; 0: no limit. */
    bool no_read;         /* Nothing is sent from 'fd' (a sink)... */
    bool no_write; /* ...or written to it (a source): bytes received are an error. */
    link_channel_fn *fn;
    void *ctx;
};

/* Answers a channel that the other end opened. On a link that was lost meanwhile,
 * 'bind->fn' is called with DONE before this returns. */
void link_channel_accept(struct link_channel *channel,
                         const struct link_channel_bind *bind);
void link_channel_refuse(struct link_channel *channel, const char *message);
/* Ends a channel at once; 'fn' is called with DONE and 'why' before this returns. */
void link_channel_close(struct link_channel *channel, const char *why);
