/* stream.h - one framed stream over a libuv pipe or TCP handle, with or without TLS.
 *
 * Purpose:  frames in and out of a connected handle; TLS 1.3 inside when asked; a
 *           bounded write queue; pings with a deadline; one clear reason when it ends.
 * Place:    above frame.h and tls.h; below server.h and client.h, which own the
 *           streams.
 * Threads:  the loop's. Callbacks come from the loop, never from within a call (but
 *           'up' of a plain stream, from stream_start).
 * Failure:  every failure ends the stream: 'closed' is called once, with why. */
#pragma once
#include "link/frame.h"
#include "link/link.h"
#include "link/tls.h"

#define STREAM_PING_NS (5 * NS_PER_S)
#define STREAM_SILENCE_NS (15 * NS_PER_S) /* Without a byte received: closed. */
#define STREAM_HIGH_BYTES (512u << 10)    /* More than this unsent: stream_busy. */

struct stream;

struct stream_ops {
    /* TLS is done, or was not wanted: frames may be sent. */
    void (*up)(void *ctx);
    /* One frame; false closes the stream (the callee has called stream_close). */
    bool (*frame)(void *ctx, const struct frame *frame);
    /* It was busy and is no longer. */
    void (*drained)(void *ctx);
    /* Ended; the stream is freed when this returns. Not called after stream_destroy. */
    void (*closed)(void *ctx, const char *why);
};

struct stream_config {
    uv_loop_t *loop;
    const struct stream_ops *ops; /* Constant data, borrowed. */
    void *ctx;
    struct tls *tls; /* Taken; NULL: plain. */
    bool pings;      /* This end asks; the other only answers. */
    uint64_t queue_max_bytes;
    char *scratch; /* Borrowed: STREAM_SCRATCH bytes, shared by a loop's streams. */
};
#define STREAM_SCRATCH (64u << 10)

/* A stream whose handle is not connected yet: stream_handle gives it to uv_accept,
 * uv_tcp_connect or uv_pipe_connect; then stream_start. 'unix_socket' chooses the
 * handle. */
MUST_CHECK struct stream *stream_create(const struct stream_config *config,
                                        bool unix_socket);
uv_handle_t *stream_handle(struct stream *s);
void stream_start(struct stream *s);
/* Ends it: what is queued is sent first for at most a second when 'flush', else
 * dropped. 'closed' follows from the loop, with 'why'. */
void stream_close(struct stream *s, const char *why, bool flush);
/* Ends it without a callback; NULL is a no-op. */
void stream_destroy(struct stream *s);

void stream_send(struct stream *s, uint8_t type, const void *data, size_t len);
void stream_send_record(struct stream *s, uint8_t type, const struct desc *desc,
                        const void *record);
void stream_send_channel_data(struct stream *s, uint32_t channel, const void *data,
                              size_t len);
uint64_t stream_queued_bytes(const struct stream *s);
bool stream_busy(struct stream *s); /* Wait for 'drained' before sending bulk. */
const struct tls *stream_tls(const struct stream *s);
