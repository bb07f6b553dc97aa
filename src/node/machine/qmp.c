#include "node/machine/qmp.h"
#include "base/jsonio.h"
#include "node/machine/qmp_reader.h"

#include <errno.h>
#include <sys/socket.h>

#define OUT_MAX (256u << 10)
#define RESUME_NS ((uint64_t)NS_PER_S)

struct pending {
    json_int_t id;
    uint64_t deadline_ms; /* Of the loop's clock. */
    qmp_reply_fn *done;
    void *ctx;
    bool used;
    bool oob;
    bool late; /* Nobody waits for it any more, but QEMU may still have it before it. */
};

struct qmp {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer;
    int fd, closing; /* 'closing' counts handles not yet closed. */
    struct qmp_ops ops;
    void *ctx;
    struct qmp_reader reader;
    struct buf out; /* Not yet taken by the kernel. */
    bool greeted, gone, freed;
    bool
        unsure; /* Resumed, and nothing that waits for QEMU's main loop was answered yet. */
    json_int_t next_id;
    struct pending pending[QMP_PENDING_MAX];
};

static void on_ready(uv_poll_t *poll, int status, int events);

static void
on_closed(uv_handle_t *handle)
{
    struct qmp *q = handle->data;
    if (--q->closing == 0) {
        close(q->fd);
        qmp_reader_fini(&q->reader);
        buf_fini(&q->out);
        free(q);
    }
}

/* Everything that waits hears that there will be no answer. */
static void
fail_pending(struct qmp *q, const struct err *why)
{
    for (size_t i = 0; i < QMP_PENDING_MAX; i++) {
        struct pending p = q->pending[i];
        q->pending[i] = (struct pending){0};
        if (p.used && p.done) {
            p.done(p.ctx, NULL, why);
        }
    }
}

static void
lose(struct qmp *q, const struct err *why)
{
    if (q->gone) {
        return;
    }
    q->gone = true;
    uv_poll_stop(&q->poll);
    uv_timer_stop(&q->timer);
    fail_pending(q, why);
    if (!q->freed) { /* A reply may have closed us. */
        q->ops.lost(q->ctx, why);
    }
}

static void
lose_sys(struct qmp *q, int sys, const char *what)
{
    struct err err = {0};
    if (sys) {
        err_sys(&err, sys, "QMP: %s", what);
    } else {
        err_set(&err, ERR_GONE, "QMP: %s", what);
    }
    lose(q, &err);
}

/* Hands the kernel what it takes; '*fd' goes with the first byte. */
static int
send_some(struct qmp *q, const char *data, size_t len, int pass_fd, size_t *out_sent)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass_fd >= 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof control.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass_fd, sizeof pass_fd);
    }
    ssize_t n = sendmsg(q->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        *out_sent = 0;
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    *out_sent = (size_t)n;
    return 0;
}

static void
watch(struct qmp *q)
{
    int events = UV_READABLE | (q->greeted && q->out.len > 0 ? UV_WRITABLE : 0);
    (void)uv_poll_start(&q->poll, events, on_ready);
}

static void
flush(struct qmp *q)
{
    size_t sent = 0;
    if (q->greeted && q->out.len > 0) {
        int rc = send_some(q, q->out.data, q->out.len, -1, &sent);
        if (rc < 0) {
            lose_sys(q, -rc, "send");
            return;
        }
        buf_drop_front(&q->out, sent);
    }
    watch(q);
}

static void
on_reply(struct qmp *q, json_t *object, json_int_t id)
{
    for (size_t i = 0; i < QMP_PENDING_MAX; i++) {
        struct pending p = q->pending[i];
        if (!p.used || p.id != id) {
            continue;
        }
        q->pending[i] = (struct pending){0};
        q->unsure = q->unsure && p.oob;
        if (!p.done) {
            return;
        }
        json_t *result = json_object_get(object, "return");
        if (result) {
            p.done(p.ctx, result, NULL);
            return;
        }
        const json_t *error = json_object_get(object, "error");
        const char *text = json_string_value(json_object_get(error, "desc"));
        const char *class = json_string_value(json_object_get(error, "class"));
        struct err err = {0};
        err_set(&err, str_eq(class, "DeviceNotFound") ? ERR_NOT_FOUND : ERR_INVALID,
                "QEMU refused: %.200s", text ? text : "no reason");
        p.done(p.ctx, NULL, &err);
        return;
    }
}

/* Its answer has no id, and nobody waits for it. */
static bool
greet(struct qmp *q, const json_t *capabilities)
{
    bool oob = false;
    size_t i, sent = 0;
    const json_t *name;
    json_array_foreach(capabilities, i, name)
    {
        oob = oob || str_eq(json_string_value(name), "oob");
    }
    const char *hello = oob ? "{\"execute\":\"qmp_capabilities\","
                              "\"arguments\":{\"enable\":[\"oob\"]}}\n"
                            : "{\"execute\":\"qmp_capabilities\"}\n";
    int rc = send_some(q, hello, strlen(hello), -1, &sent);
    if (rc < 0 || sent != strlen(hello)) {
        lose_sys(q, rc < 0 ? -rc : EIO, "greet");
        return false;
    }
    q->greeted = true;
    flush(q);
    return !q->gone && !q->freed;
}

static bool
on_object(void *ctx, json_t *object)
{
    struct qmp *q = ctx;
    const char *event = json_string_value(json_object_get(object, "event"));
    json_t *id = json_object_get(object, "id");
    const json_t *greeting = json_object_get(object, "QMP");
    if (!q->greeted && greeting) {
        return greet(q, json_object_get(greeting, "capabilities"));
    }
    if (event) {
        q->ops.event(q->ctx, event, json_object_get(object, "data"));
    } else if (json_is_integer(id)) {
        on_reply(q, object, json_integer_value(id));
    }
    return !q->gone && !q->freed;
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
    struct qmp *q = poll->data;
    if (status < 0) { /* libuv says EBADF for a hang-up. */
        lose_sys(q, status == UV_EBADF ? 0 : -status,
                 "the emulator closed the connection");
        return;
    }
    if (events & UV_WRITABLE) {
        flush(q);
    }
    if (!(events & UV_READABLE) || q->gone) {
        return;
    }
    char data[16384];
    ssize_t n = recv(q->fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        lose_sys(q, n < 0 ? errno : 0, "the emulator closed the connection");
        return;
    }
    struct err err = {0};
    if (!qmp_reader_feed(&q->reader, data, (size_t)n, on_object, q, &err)) {
        lose(q, &err);
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct qmp *q = timer->data;
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "QMP: no answer in time");
    bool waiting = false;
    for (size_t i = 0; i < QMP_PENDING_MAX; i++) {
        struct pending p = q->pending[i];
        if (p.used && !p.late && uv_now(q->loop) >= p.deadline_ms) {
            q->pending[i].late = true;
            q->pending[i].done = NULL;
            if (p.done) {
                p.done(p.ctx, NULL, &err);
            }
        }
        waiting = waiting || (q->pending[i].used && !q->pending[i].late);
    }
    if (!waiting && !q->freed) {
        uv_timer_stop(timer);
    }
}

struct qmp *
qmp_open(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *ctx, struct err *err)
{
    struct qmp *q = xcalloc(1, sizeof *q);
    *q = (struct qmp){.loop = loop, .fd = fd, .ops = *ops, .ctx = ctx, .next_id = 1};
    q->out.limit = OUT_MAX;
    int rc = uv_poll_init(loop, &q->poll, fd);
    if (rc < 0) {
        err_sys(err, -rc, "watch a QMP socket");
        close(fd);
        free(q);
        return NULL;
    }
    (void)uv_timer_init(loop, &q->timer);
    q->poll.data = q->timer.data = q;
    q->closing = 2;
    watch(q);
    return q;
}

/* What comes first may be the rest of a line: with an answer that nobody needs, it is sure
 * that one ends there. */
struct qmp *
qmp_resume(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *ctx,
           struct err *err)
{
    struct qmp *q = qmp_open(loop, fd, ops, ctx, err);
    if (!q) {
        return NULL;
    }
    q->greeted = q->unsure = true;
    q->next_id = (json_int_t)uv_now(loop) * 1000; /* Beyond what was asked before. */
    q->reader.amid = true;
    if (!qmp_send_oob(q, "query-yank", NULL, RESUME_NS, NULL, NULL, err)) {
        qmp_close(q);
        return NULL;
    }
    return q;
}

int
qmp_fd(const struct qmp *q)
{
    return q->fd;
}

void
qmp_close(struct qmp *q)
{
    if (!q || q->freed) {
        return;
    }
    struct err err = {0};
    err_set(&err, ERR_GONE, "QMP: closed");
    q->freed = q->gone = true;
    fail_pending(q, &err);
    uv_close((uv_handle_t *)&q->poll, on_closed);
    uv_close((uv_handle_t *)&q->timer, on_closed);
}

static bool
enqueue(struct qmp *q, const char *text, int pass_fd, struct err *err)
{
    size_t len = strlen(text), sent = 0;
    if (pass_fd >= 0) {
        /* What waits goes before it; a failure to send is the loop's to tell. */
        if (q->greeted && q->out.len > 0 &&
            send_some(q, q->out.data, q->out.len, -1, &sent) == 0) {
            buf_drop_front(&q->out, sent);
        }
        sent = 0;
        if (!q->greeted || q->out.len > 0) {
            return err_set(err, ERR_BUSY, "QMP: not ready for a descriptor");
        }
        int rc = send_some(q, text, len, pass_fd, &sent);
        if (rc < 0 || sent == 0) {
            return err_sys(err, rc < 0 ? -rc : EAGAIN, "QMP: send a descriptor");
        }
    }
    buf_put(&q->out, text + sent, len - sent);
    if (q->out.full) {
        return err_set(err, ERR_BUSY, "QMP: too much waits to be sent");
    }
    /* From the loop, not from here: a failure to send calls back. */
    if (q->greeted && q->out.len > 0) {
        watch(q);
    }
    return true;
}

/* How many commands wait for QEMU's main loop; those of before, too, as long as it may not
 * have answered them. */
static bool
is_full(const struct qmp *q)
{
    size_t late = 0, unanswered = 0;
    for (size_t i = 0; i < QMP_PENDING_MAX; i++) {
        const struct pending *p = &q->pending[i];
        late += p->late && !p->oob;
        unanswered += p->used && !p->oob;
    }
    return (q->unsure && unanswered > 0) || (late > 0 && unanswered >= QMP_LATE_MAX);
}

bool
qmp_is_deaf(const struct qmp *q)
{
    for (size_t i = 0; i < QMP_PENDING_MAX; i++) {
        if (q->pending[i].late && !q->pending[i].oob) {
            return true;
        }
    }
    return false;
}

static bool
send_command(struct qmp *q, bool oob, const char *cmd, json_t *args, int pass_fd,
             uint64_t timeout_ns, qmp_reply_fn *done, void *ctx, struct err *err)
{
    AUTO(json) json_t *arguments = args ? args : json_object();
    const char *how = oob ? "exec-oob" : "execute";
    size_t slot = 0;
    while (slot < QMP_PENDING_MAX && q->pending[slot].used) {
        slot++;
    }
    if (q->gone) {
        return err_set(err, ERR_GONE, "QMP: the connection is lost");
    }
    if (!oob && is_full(q)) {
        return err_set(err, ERR_BUSY, "QMP: no answer yet to what was asked before");
    }
    if (slot == QMP_PENDING_MAX) {
        return err_set(err, ERR_BUSY, "QMP: too many commands wait");
    }
    json_int_t id = q->next_id++;
    AUTO(json)
    json_t *object =
        json_pack("{s:s, s:O, s:I}", how, cmd, "arguments", arguments, "id", id);
    AUTO(free) char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text) {
        return err_set(err, ERR_INTERNAL, "QMP: cannot write the command %s", cmd);
    }
    AUTO(buf) struct buf line = {0};
    buf_printf(&line, "%s\n", text);
    if (!enqueue(q, buf_str(&line), pass_fd, err)) {
        return false;
    }
    q->pending[slot] = (struct pending){
        .id = id,
        .deadline_ms = uv_now(q->loop) + timeout_ns / (uint64_t)NS_PER_MS,
        .done = done,
        .ctx = ctx,
        .used = true,
        .oob = oob,
    };
    if (!uv_is_active((uv_handle_t *)&q->timer)) {
        (void)uv_timer_start(&q->timer, on_timer, 1000, 1000);
    }
    return true;
}

bool
qmp_send(struct qmp *q, const char *cmd, json_t *args, int pass_fd, uint64_t timeout_ns,
         qmp_reply_fn *done, void *ctx, struct err *err)
{
    return send_command(q, false, cmd, args, pass_fd, timeout_ns, done, ctx, err);
}

bool
qmp_send_oob(struct qmp *q, const char *cmd, json_t *args, uint64_t timeout_ns,
             qmp_reply_fn *done, void *ctx, struct err *err)
{
    return send_command(q, true, cmd, args, -1, timeout_ns, done, ctx, err);
}
