/* words.c - what giver and receiver say to each other beside disks and memory: the giver's
 * console and connections, and that the guest has left; the receiver, that it runs. */
#include "base/log.h"
#include "base/tlv.h"
#include "node/migrate/migration_impl.h"

#include <errno.h>
#include <sys/socket.h>

#define WORD_FRAME 1
#define OUT_MAX (64u << 20) /* More than all that one says: a peer that never reads. */

static void on_ready(uv_poll_t *poll, int status, int events);

static void
watch(struct migration *m)
{
    int events = UV_READABLE | (m->words_out.len > 0 ? UV_WRITABLE : 0);
    (void)uv_poll_start(m->words_poll, events, on_ready);
}

/* What the socket does not take waits. An end is told by the courier. */
static void
flush(struct migration *m)
{
    ssize_t n = 1;
    while (n > 0 && m->words_out.len > 0) {
        n = send(m->words_fd, m->words_out.data, m->words_out.len,
                 MSG_NOSIGNAL | MSG_DONTWAIT);
        buf_drop_front(&m->words_out, n > 0 ? (size_t)n : 0);
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        buf_drop_front(&m->words_out, m->words_out.len);
    }
    watch(m);
}

static bool
on_frame(void *ctx, const struct frame *frame)
{
    struct migration *m = ctx;
    AUTO(arena) struct arena *arena = arena_create();
    struct link_courier_word word;
    struct err err = {0};
    if (frame->type != WORD_FRAME) {
        return true;
    }
    if (!tlv_decode(&link_courier_word_desc, frame->data, frame->len, arena, &word,
                    &err)) {
        log_warn("migration %s: a word that is none: %s", m->id, err.msg);
        return false;
    }
    if (m->want->incoming) {
        take_hear(m, &word);
    } else {
        give_hear(m, &word);
    }
    return true;
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
    struct migration *m = poll->data;
    char data[65536];
    struct err err = {0};
    if (status == 0 && (events & UV_WRITABLE)) {
        flush(m);
    }
    if (status == 0 && !(events & UV_READABLE)) {
        return;
    }
    ssize_t n = status < 0 ? 0 : recv(m->words_fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0 || !frame_reader_feed(&m->words, data, (size_t)n, on_frame, m, &err)) {
        uv_poll_stop(poll); /* The courier's end tells the rest. */
        return;
    }
    migration_step(m);
}

void
words_open(struct migration *m, int fd)
{
    words_close(m);
    m->words_fd = fd;
    m->words_out.limit = OUT_MAX;
    m->words_poll = xcalloc(1, sizeof *m->words_poll);
    m->words_poll->data = m;
    if (uv_poll_init(m->set->config.loop, m->words_poll, fd) < 0) {
        free(m->words_poll);
        m->words_poll = NULL;
        return;
    }
    watch(m);
}

static void
on_closed(uv_handle_t *handle)
{
    free(handle);
}

void
words_close(struct migration *m)
{
    if (m->words_poll) {
        uv_poll_stop(m->words_poll);
        uv_close((uv_handle_t *)m->words_poll, on_closed);
        m->words_poll = NULL;
    }
    auto_fd(&m->words_fd);
    m->words_fd = -1;
    buf_fini(&m->words_out);
    m->words_out = (struct buf){0};
    frame_reader_fini(&m->words);
    m->words = (struct frame_reader){0};
}

void
words_say(struct migration *m, const char *kind, const char *object, struct blob body)
{
    struct link_courier_word word = {.kind = kind, .object = object, .body = body};
    if (m->words_poll && !m->words_out.full &&
        frame_put_record(&m->words_out, WORD_FRAME, &link_courier_word_desc, &word)) {
        flush(m);
    }
}
