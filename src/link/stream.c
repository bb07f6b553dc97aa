/* stream.c - see stream.h. */
#include "link/stream.h"

#define NS_TO_MS(ns) ((uint64_t)((ns) / NS_PER_MS))
#define FLUSH_MS 1000 /* A closing stream may take this long to send the rest. */
#define QUEUE_DEFAULT (64u << 20)
#define KEEP_BYTES (16u << 10) /* Buffers grown beyond are given back when empty. */

enum stream_phase {
    STREAM_NEW,
    STREAM_SHAKING, /* TLS handshake under way. */
    STREAM_UP,
    STREAM_FLUSHING, /* Closing: sends the rest, hears nothing. */
    STREAM_CLOSED,   /* Handles are being closed. */
};

struct stream {
    struct stream_config config;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } h;
    uv_timer_t timer; /* Pings and silence; or the end of flushing. */
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct frame_reader reader;
    struct buf plain_out; /* Frames to be sent, when there is no TLS. */
    struct buf sending;   /* What uv_write holds. */
    struct buf record;    /* One record's frame on its way into TLS. */
    uint64_t heard_ms;
    enum stream_phase phase;
    bool writing, was_busy;
    uint8_t handles_open;
    char why[200];
};

static void stream_finish(struct stream *s);
static void stream_flush_done(struct stream *s);

struct stream *
stream_create(const struct stream_config *config, bool unix_socket)
{
    struct stream *s = xcalloc(1, sizeof *s);
    s->config = *config;
    if (!s->config.queue_max_bytes) {
        s->config.queue_max_bytes = QUEUE_DEFAULT;
    }
    /* uv_*_init of a pipe, TCP handle or timer cannot fail. */
    if (unix_socket) {
        (void)uv_pipe_init(config->loop, &s->h.pipe, 0);
    } else {
        (void)uv_tcp_init(config->loop, &s->h.tcp);
    }
    (void)uv_timer_init(config->loop, &s->timer);
    s->handles_open = 2;
    s->h.handle.data = s;
    s->timer.data = s;
    s->write.data = s;
    s->shutdown.data = s;
    return s;
}

uv_handle_t *
stream_handle(struct stream *s)
{
    return &s->h.handle;
}

const struct tls *
stream_tls(const struct stream *s)
{
    return s->config.tls;
}

static struct buf *
stream_out(struct stream *s)
{
    return s->config.tls ? tls_wire(s->config.tls) : &s->plain_out;
}

/* ---- sending --------------------------------------------------------------------- */

static void stream_pump(struct stream *s);

static void
stream_wrote(uv_write_t *req, int status)
{
    struct stream *s = req->data;
    s->writing = false;
    if (s->sending.cap > KEEP_BYTES) {
        buf_fini(&s->sending);
    }
    if (s->phase == STREAM_CLOSED) {
        return;
    }
    if (status < 0) {
        stream_close(s, uv_strerror(status), false);
        return;
    }
    stream_pump(s);
    if (s->phase == STREAM_FLUSHING) {
        stream_flush_done(s);
    } else if (s->was_busy && !stream_busy(s)) {
        s->was_busy = false;
        if (s->config.ops) {
            s->config.ops->drained(s->config.ctx);
        }
    }
}

/* Hands everything queued to libuv, unless it still has some. */
static void
stream_pump(struct stream *s)
{
    struct buf *out = stream_out(s);
    if (s->writing || !out->len || s->phase == STREAM_CLOSED) {
        return;
    }
    struct buf full = *out;
    *out = s->sending; /* The emptied one takes its turn. */
    s->sending = full;
    buf_clear(out);
    uv_buf_t b = uv_buf_init(s->sending.data, (unsigned)s->sending.len);
    s->writing = true;
    int rc = uv_write(&s->write, &s->h.stream, &b, 1, stream_wrote);
    if (rc < 0) {
        s->writing = false;
        stream_close(s, uv_strerror(rc), false);
    }
}

/* Called after something was put into the queue. */
static void
stream_queued(struct stream *s)
{
    if (stream_queued_bytes(s) > s->config.queue_max_bytes || stream_out(s)->full) {
        stream_close(s, "too slow: the queue is full", false);
        return;
    }
    stream_pump(s);
}

static bool
stream_can_send(const struct stream *s)
{
    return s->phase == STREAM_UP;
}

/* Sends what lies in s->record through TLS. */
static void
stream_encipher(struct stream *s)
{
    struct err err = {0};
    bool ok = tls_send(s->config.tls, s->record.data, s->record.len, &err);
    buf_clear(&s->record);
    if (s->record.cap > KEEP_BYTES) {
        buf_fini(&s->record);
    }
    if (!ok) {
        stream_close(s, err.msg, false);
    }
}

/* Where a frame is put: straight into the queue, or before the cipher. */
static struct buf *
stream_frame_begin(struct stream *s)
{
    return s->config.tls ? &s->record : &s->plain_out;
}

static void
stream_frame_end(struct stream *s)
{
    if (s->config.tls) {
        stream_encipher(s);
    }
    stream_queued(s);
}

void
stream_send(struct stream *s, uint8_t type, const void *data, size_t len)
{
    if (stream_can_send(s)) {
        frame_put(stream_frame_begin(s), type, data, len);
        stream_frame_end(s);
    }
}

void
stream_send_record(struct stream *s, uint8_t type, const struct desc *desc,
                   const void *record)
{
    if (!stream_can_send(s)) {
        return;
    }
    if (!frame_put_record(stream_frame_begin(s), type, desc, record)) {
        stream_close(s, "a record is too long for a frame", false);
        return;
    }
    stream_frame_end(s);
}

void
stream_send_channel_data(struct stream *s, uint32_t channel, const void *data,
                         size_t len)
{
    if (stream_can_send(s)) {
        frame_put_channel_data(stream_frame_begin(s), channel, data, len);
        stream_frame_end(s);
    }
}

uint64_t
stream_queued_bytes(const struct stream *s)
{
    const struct buf *out = s->config.tls ? tls_wire(s->config.tls) : &s->plain_out;
    return out->len + (s->writing ? s->sending.len : 0);
}

bool
stream_busy(struct stream *s)
{
    bool busy = stream_queued_bytes(s) > STREAM_HIGH_BYTES;
    s->was_busy = s->was_busy || busy; /* Whoever asked waits for 'drained'. */
    return busy;
}

/* ---- receiving ------------------------------------------------------------------- */

static bool
stream_take_frame(void *ctx, const struct frame *frame)
{
    struct stream *s = ctx;
    if (frame->type == FRAME_PING) {
        stream_send(s, FRAME_PONG, NULL, 0);
    } else if (frame->type != FRAME_PONG &&
               !s->config.ops->frame(s->config.ctx, frame)) {
        return false;
    }
    return s->phase == STREAM_UP;
}

static void
stream_take_plain(struct stream *s, const void *data, size_t len)
{
    struct err err = {0};
    if (s->phase == STREAM_UP && len &&
        !frame_reader_feed(&s->reader, data, len, stream_take_frame, s, &err)) {
        stream_close(s, err.msg, false);
    }
}

static void
stream_take_cipher(struct stream *s, const void *data, size_t len)
{
    AUTO(buf) struct buf plain = {0};
    struct err err = {0};
    bool ok = tls_feed(s->config.tls, data, len, &plain, &err);
    if (s->phase == STREAM_SHAKING && tls_is_up(s->config.tls)) {
        s->phase = STREAM_UP;
        s->config.ops->up(s->config.ctx);
    }
    stream_take_plain(s, plain.data, plain.len);
    if (!ok) {
        /* An alert may lie in the queue: let the other end hear why. */
        stream_close(s, err.msg, err.code != ERR_GONE);
        return;
    }
    stream_pump(s);
}

static void
stream_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct stream *s = handle->data;
    *out = uv_buf_init(s->config.scratch, STREAM_SCRATCH);
}

static void
stream_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *b)
{
    struct stream *s = handle->data;
    if (s->phase == STREAM_FLUSHING) {
        if (n < 0) {
            stream_finish(s); /* They are gone; nobody reads the rest. */
        }
        return;
    }
    if (n < 0) {
        stream_close(s, n == UV_EOF ? "closed by the other end" : uv_strerror((int)n),
                     false);
    } else if (n > 0) {
        s->heard_ms = uv_now(s->config.loop);
        if (s->config.tls) {
            stream_take_cipher(s, b->base, (size_t)n);
        } else {
            stream_take_plain(s, b->base, (size_t)n);
        }
    }
}

/* ---- starting, pinging, closing -------------------------------------------------- */

static void
stream_tick(uv_timer_t *timer)
{
    struct stream *s = timer->data;
    if (s->phase == STREAM_FLUSHING) {
        stream_finish(s);
        return;
    }
    if (uv_now(s->config.loop) - s->heard_ms >= NS_TO_MS(STREAM_SILENCE_NS)) {
        stream_close(s, "silent for too long", false);
    } else if (s->config.pings) {
        stream_send(s, FRAME_PING, NULL, 0);
    }
}

void
stream_start(struct stream *s)
{
    s->heard_ms = uv_now(s->config.loop);
    if (s->h.handle.type == UV_TCP) {
        (void)uv_tcp_nodelay(&s->h.tcp, 1);
    }
    uint64_t every = NS_TO_MS(STREAM_PING_NS);
    (void)uv_timer_start(&s->timer, stream_tick, every, every);
    int rc = uv_read_start(&s->h.stream, stream_alloc, stream_read);
    if (rc < 0) {
        stream_close(s, uv_strerror(rc), false);
    } else if (s->config.tls) {
        s->phase = STREAM_SHAKING;
        stream_take_cipher(s, NULL, 0); /* A client's first words. */
    } else {
        s->phase = STREAM_UP;
        s->config.ops->up(s->config.ctx);
    }
}

static void
stream_handle_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    if (--s->handles_open) {
        return;
    }
    if (s->config.ops) {
        s->config.ops->closed(s->config.ctx, s->why);
    }
    frame_reader_fini(&s->reader);
    tls_destroy(s->config.tls);
    buf_fini(&s->plain_out);
    buf_fini(&s->sending);
    buf_fini(&s->record);
    free(s);
}

/* The descriptor is closed here and now; the owner hears of it from the loop. */
static void
stream_finish(struct stream *s)
{
    if (s->phase != STREAM_CLOSED) {
        s->phase = STREAM_CLOSED;
        uv_close(&s->h.handle, stream_handle_closed);
        uv_close((uv_handle_t *)&s->timer, stream_handle_closed);
    }
}

static void
stream_shut(uv_shutdown_t *req, int status)
{
    /* The other end answers by closing; reading its end of file finishes. */
}

/* Everything is sent: says so, and waits for the other end to close, so that its unread
 * bytes do not make the kernel drop ours. */
static void
stream_flush_done(struct stream *s)
{
    if (!s->writing && s->phase == STREAM_FLUSHING &&
        uv_shutdown(&s->shutdown, &s->h.stream, stream_shut) < 0) {
        stream_finish(s);
    }
}

void
stream_close(struct stream *s, const char *why, bool flush)
{
    if (s->phase >= STREAM_FLUSHING) {
        if (!flush) {
            stream_finish(s);
        }
        return;
    }
    snprintf(s->why, sizeof s->why, "%s", why);
    bool connected = s->phase != STREAM_NEW;
    if (connected && s->config.tls && flush) {
        tls_bye(s->config.tls);
    }
    if (!connected || !flush) {
        stream_finish(s);
        return;
    }
    s->phase = STREAM_FLUSHING;
    (void)uv_timer_start(&s->timer, stream_tick, FLUSH_MS, 0);
    stream_pump(s);
    stream_flush_done(s);
}

void
stream_destroy(struct stream *s)
{
    if (s) {
        s->config.ops = NULL;
        stream_finish(s);
    }
}
