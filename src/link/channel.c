/* channel.c - see channel.h and channels.h. */
#include "link/channels.h"

#include "base/tlv.h"
#include "link/pump.h"

#define CREDIT_STEP (LINK_CHANNEL_WINDOW / 4) /* Given back in steps of this. */

enum channel_phase {
    CHANNEL_OFFERED, /* The other end opened; ours to accept. */
    CHANNEL_OPENING, /* We opened; theirs to accept. */
    CHANNEL_RUNNING,
    CHANNEL_ENDED,
};

struct link_channel {
    struct link_channel *next; /* In its bucket. */
    struct channels *all;      /* NULL once the link is lost or the channel ended. */
    struct link_channel_bind bind;
    struct pump *pump;
    uv_loop_t *loop;
    uint32_t id;
    uint32_t send_credit; /* Bytes that we may send... */
    uint32_t recv_credit; /* ...and that they may. */
    uint32_t owed;        /* Written, not yet given back as credit. */
    uint64_t received, taken;
    enum channel_phase phase;
    int holds; /* Calls under way that still look at it. */
    bool eof_sent, eof_received, done_sent, done_received;
};

static void channel_advance(struct link_channel *ch);
static void channel_finish(struct link_channel *ch, const char *why);

/* ---- the table ------------------------------------------------------------------- */

void
channels_init(struct channels *all, uv_loop_t *loop, bool control,
              channels_open_fn *on_open, void *ctx)
{
    *all = (struct channels){
        .loop = loop, .on_open = on_open, .ctx = ctx, .next_id = control ? 1 : 2};
}

void
channels_start(struct channels *all, struct stream *stream)
{
    all->stream = stream;
}

static struct link_channel **
channels_slot(struct channels *all, uint32_t id)
{
    struct link_channel **at = &all->buckets[id / 2 % CHANNELS_BUCKETS];
    while (*at && (*at)->id != id) {
        at = &(*at)->next;
    }
    return at;
}

static struct link_channel *
channel_create(struct channels *all, uint32_t id, enum channel_phase phase)
{
    struct link_channel *ch = xcalloc(1, sizeof *ch);
    ch->all = all;
    ch->loop = all->loop;
    ch->id = id;
    ch->phase = phase;
    ch->send_credit = ch->recv_credit = LINK_CHANNEL_WINDOW;
    ch->bind.fd = -1;
    *channels_slot(all, id) = ch;
    all->count++;
    return ch;
}

/* Takes the channel out of its link. */
static void
channel_detach(struct link_channel *ch)
{
    if (ch->all) {
        *channels_slot(ch->all, ch->id) = ch->next;
        ch->next = NULL;
        ch->all->count--;
        ch->all = NULL;
    }
}

static void
channel_hold(struct link_channel *ch)
{
    ch->holds++;
}

static void
channel_release(struct link_channel *ch)
{
    if (--ch->holds == 0 && ch->phase == CHANNEL_ENDED) {
        free(ch);
    }
}

void
channels_stop(struct channels *all, const char *why)
{
    all->stream = NULL;
    for (size_t i = 0; i < CHANNELS_BUCKETS; i++) {
        while (all->buckets[i]) {
            struct link_channel *ch = all->buckets[i];
            if (ch->phase == CHANNEL_OFFERED) {
                channel_detach(ch); /* Its receiver still holds it. */
            } else {
                channel_finish(ch, why);
            }
        }
    }
}

void
channels_drained(struct channels *all)
{
    for (size_t i = 0; i < CHANNELS_BUCKETS && all->stream; i++) {
        struct link_channel *next;
        for (struct link_channel *ch = all->buckets[i]; ch; ch = next) {
            next = ch->next; /* A kick reads no more than this channel can end. */
            if (ch->pump) {
                pump_kick(ch->pump);
            }
        }
    }
}

/* ---- what it says ---------------------------------------------------------------- */

static void
channel_say(const struct link_channel *ch, struct link_channel_status status)
{
    if (ch->all && ch->all->stream) {
        status.channel = ch->id;
        stream_send_record(ch->all->stream, FRAME_CHANNEL_STATUS,
                           &link_channel_status_desc, &status);
    }
}

/* ---- the pump's side ------------------------------------------------------------- */

static size_t
channel_room(void *ctx)
{
    struct link_channel *ch = ctx;
    bool may = ch->phase == CHANNEL_RUNNING && !ch->eof_sent && ch->all &&
               ch->all->stream && !stream_busy(ch->all->stream);
    return may ? ch->send_credit : 0;
}

static void
channel_got(void *ctx, const void *data, size_t len)
{
    struct link_channel *ch = ctx;
    if (len) {
        ch->send_credit -= (uint32_t)len;
        stream_send_channel_data(ch->all->stream, ch->id, data, len);
        return;
    }
    ch->eof_sent = true;
    channel_say(ch, (struct link_channel_status){.eof = true});
    channel_advance(ch);
}

static void
channel_wrote(void *ctx, size_t len)
{
    struct link_channel *ch = ctx;
    ch->received += len;
    ch->owed += (uint32_t)len;
    if (ch->owed >= CREDIT_STEP && !ch->eof_received) {
        ch->recv_credit += ch->owed;
        channel_say(ch, (struct link_channel_status){.credit = ch->owed});
        ch->owed = 0;
    }
    channel_advance(ch);
}

static void
channel_failed(void *ctx, const char *why)
{
    link_channel_close(ctx, why);
}

static const struct pump_ops channel_pump_ops = {
    .room = channel_room,
    .got = channel_got,
    .wrote = channel_wrote,
    .failed = channel_failed,
};

/* Both ends agreed: bytes may flow. */
static void
channel_run(struct link_channel *ch)
{
    struct err err = {0};
    struct pump_config config = {
        .loop = ch->loop,
        .ops = &channel_pump_ops,
        .ctx = ch,
        .fd = take_fd(&ch->bind.fd),
        .offset = ch->bind.offset,
        .read = !ch->bind.no_read,
    };
    ch->phase = CHANNEL_RUNNING;
    ch->pump = pump_create(&config, &err);
    if (!ch->pump) {
        link_channel_close(ch, err.msg);
        return;
    }
    if (ch->bind.no_read) {
        ch->eof_sent = true;
        channel_say(ch, (struct link_channel_status){.eof = true});
    }
    pump_kick(ch->pump);
}

/* ---- ending ---------------------------------------------------------------------- */

/* Ends it here; the other end has been told, or told us, or is gone. */
static void
channel_finish(struct link_channel *ch, const char *why)
{
    if (ch->phase == CHANNEL_ENDED) {
        return;
    }
    ch->phase = CHANNEL_ENDED;
    channel_hold(ch);
    channel_detach(ch);
    pump_destroy(ch->pump);
    ch->pump = NULL;
    if (ch->bind.fd >= 0) {
        close(take_fd(&ch->bind.fd));
    }
    if (ch->bind.fn) {
        ch->bind.fn(ch->bind.ctx, ch, LINK_CHANNEL_DONE, ch->received, why);
    }
    channel_release(ch);
}

void
link_channel_close(struct link_channel *ch, const char *why)
{
    if (ch->phase != CHANNEL_ENDED) {
        channel_say(ch, (struct link_channel_status){.closed = true, .message = why});
        channel_finish(ch, why);
    }
}

/* Does what the end of a direction, or of the last write, makes possible. */
static void
channel_advance(struct link_channel *ch)
{
    if (ch->phase != CHANNEL_RUNNING || !ch->eof_received || pump_pending(ch->pump)) {
        return;
    }
    pump_end(ch->pump);
    if (ch->eof_sent && !ch->done_sent) {
        ch->done_sent = true;
        channel_say(ch, (struct link_channel_status){.closed = true});
    }
    if (ch->done_sent && ch->done_received) {
        channel_finish(ch, NULL);
    }
}

/* ---- what the other end says ----------------------------------------------------- */

static bool
channels_take_open(struct channels *all, const struct frame *frame, struct arena *arena,
                   struct err *err)
{
    struct link_channel_open open;
    if (!tlv_decode(&link_channel_open_desc, frame->data, frame->len, arena, &open,
                    err)) {
        return false;
    }
    bool ours = (open.channel & 1) == (all->next_id & 1);
    if (open.channel <= 0 || open.channel > UINT32_MAX || ours ||
        *channels_slot(all, (uint32_t)open.channel)) {
        return err_set(err, ERR_CORRUPT, "channel %" PRId64 " cannot be opened",
                       open.channel);
    }
    if (all->count >= LINK_CHANNELS_MAX) {
        struct link_channel_status status = {
            .channel = open.channel, .closed = true, .message = "too many channels"};
        stream_send_record(all->stream, FRAME_CHANNEL_STATUS, &link_channel_status_desc,
                           &status);
        return true;
    }
    all->on_open(all->ctx, channel_create(all, (uint32_t)open.channel, CHANNEL_OFFERED),
                 &open);
    return true;
}

static bool
channel_take_credit(struct link_channel *ch, int64_t credit, struct err *err)
{
    if (credit < 0 || credit > LINK_CHANNEL_WINDOW - (int64_t)ch->send_credit) {
        return err_set(err, ERR_CORRUPT, "channel %u: credit out of range", ch->id);
    }
    ch->send_credit += (uint32_t)credit;
    if (credit && ch->pump) {
        pump_kick(ch->pump);
    }
    return true;
}

static void
channel_take_end(struct link_channel *ch, const struct link_channel_status *status)
{
    if (status->eof) {
        ch->eof_received = true;
    }
    if (status->closed) {
        ch->done_received = true;
        /* A clean end comes after both ends of input; all else is a break. */
        if (status->message || !ch->eof_received || !ch->eof_sent) {
            channel_finish(ch, status->message ? status->message
                                               : "closed by the other end");
            return;
        }
    }
    channel_advance(ch);
}

static bool
channel_take_status(struct link_channel *ch, const struct link_channel_status *status,
                    struct err *err)
{
    if (ch->phase == CHANNEL_OFFERED) {
        if (status->closed) {
            channel_detach(ch); /* Given up before we answered; the holder finds out. */
            return true;
        }
        return err_set(err, ERR_CORRUPT, "channel %u: speaks before it is open",
                       ch->id);
    }
    if (status->open) {
        if (ch->phase != CHANNEL_OPENING) {
            return err_set(err, ERR_CORRUPT, "channel %u: opened twice", ch->id);
        }
        channel_run(ch);
        if (ch->phase == CHANNEL_RUNNING && ch->bind.fn) {
            ch->bind.fn(ch->bind.ctx, ch, LINK_CHANNEL_OPEN, 0, NULL);
        }
    }
    if (ch->phase == CHANNEL_RUNNING && !channel_take_credit(ch, status->credit, err)) {
        return false;
    }
    if (ch->phase != CHANNEL_ENDED) {
        channel_take_end(ch, status);
    }
    return true;
}

static bool
channels_take_status(struct channels *all, const struct frame *frame,
                     struct arena *arena, struct err *err)
{
    struct link_channel_status status;
    if (!tlv_decode(&link_channel_status_desc, frame->data, frame->len, arena, &status,
                    err)) {
        return false;
    }
    if (status.channel <= 0 || status.channel > UINT32_MAX) {
        return err_set(err, ERR_CORRUPT, "a status of no channel");
    }
    struct link_channel *ch = *channels_slot(all, (uint32_t)status.channel);
    if (!ch) {
        return true; /* Ended here while this was under way. */
    }
    channel_hold(ch);
    bool ok = channel_take_status(ch, &status, err);
    channel_release(ch);
    return ok;
}

static bool
channels_take_data(struct channels *all, const struct frame *frame, struct err *err)
{
    uint32_t id;
    const uint8_t *data;
    size_t len;
    if (!frame_channel_data(frame, &id, &data, &len)) {
        return err_set(err, ERR_CORRUPT, "channel data of no channel");
    }
    struct link_channel *ch = *channels_slot(all, id);
    if (!ch || !len) {
        return true;
    }
    if (ch->phase != CHANNEL_RUNNING || len > ch->recv_credit || ch->eof_received) {
        return err_set(err, ERR_CORRUPT, "channel %u: data without leave", id);
    }
    ch->recv_credit -= (uint32_t)len;
    ch->taken += len;
    if (ch->bind.no_write ||
        (ch->bind.limit_bytes && ch->taken > ch->bind.limit_bytes)) {
        link_channel_close(ch, "more bytes than were agreed on");
    } else {
        pump_put(ch->pump, data, len);
    }
    return true;
}

bool
channels_frame(struct channels *all, const struct frame *frame, struct arena *arena,
               struct err *err)
{
    if (!all->stream) {
        return err_set(err, ERR_CORRUPT, "a channel before the welcome");
    }
    switch (frame->type) {
    case FRAME_CHANNEL_OPEN:
        return channels_take_open(all, frame, arena, err);
    case FRAME_CHANNEL_STATUS:
        return channels_take_status(all, frame, arena, err);
    default:
        return channels_take_data(all, frame, err);
    }
}

/* ---- what its users say ---------------------------------------------------------- */

struct link_channel *
channels_open(struct channels *all, const struct link_channel_open *open,
              const struct link_channel_bind *bind)
{
    bool used_up = all->next_id > UINT32_MAX - 2;
    if (!all->stream || all->count >= LINK_CHANNELS_MAX || used_up) {
        close(bind->fd);
        return NULL;
    }
    struct link_channel *ch = channel_create(all, all->next_id, CHANNEL_OPENING);
    all->next_id += 2;
    ch->bind = *bind;
    struct link_channel_open numbered = *open;
    numbered.channel = ch->id;
    stream_send_record(all->stream, FRAME_CHANNEL_OPEN, &link_channel_open_desc,
                       &numbered);
    return ch;
}

void
link_channel_accept(struct link_channel *ch, const struct link_channel_bind *bind)
{
    ch->bind = *bind;
    if (!ch->all) {
        channel_finish(ch, "the link was lost");
        return;
    }
    channel_say(ch, (struct link_channel_status){.open = true});
    channel_run(ch);
}

void
link_channel_refuse(struct link_channel *ch, const char *message)
{
    channel_say(ch, (struct link_channel_status){.closed = true, .message = message});
    channel_finish(ch, message); /* Nothing is bound: nobody is told. */
}
