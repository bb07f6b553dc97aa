/* guest_qmp.c - conversations with simulated emulators: node/machine/qmp.h.
 *
 * Purpose:  a command is obeyed some moments after it was sent (guest_obey), in the name of the
 *           agent that sent it; events are told to whoever speaks with the emulator. One
 *           whose main loop waits for memory obeys nothing but what is out of band: the rest
 *           is late, by qmp.h's rules, and obeyed when it hears again. A conversation may
 *           be left with the emulator, and taken up by the next agent.
 * Place:    linked in place of qmp.c. */
#include "guest_qmp.h"
#include "base/jsonio.h"
#include "guest_move.h"
#include "node/machine/qmp.h"
#include "uv_sim.h"

#include <fcntl.h>
#include <sys/socket.h>

#define NUMB_LOOK_NS (200 * NS_PER_MS)

struct command {
    struct qmp *qmp;
    struct command *next;
    char name[32];
    json_t *args;
    int fd; /* The emulator's copy of what came along; -1: nothing did. */
    qmp_reply_fn *done;
    void *ctx;
    int64_t late_at_ns;
    bool over, oob, late;
};

/* Our end of the conversation, once somebody asks for it. */
struct line {
    int fd; /* -1: nobody has. */
};

struct qmp {
    struct guest *guest;
    struct process *process;
    const struct qmp_ops *ops;
    void *ctx;
    struct line *line;
    bool closed, gone;
    bool
        unsure; /* Taken up from an earlier agent, and nothing has been answered yet. */
    struct command *pending;
};

struct telling {
    struct qmp *qmp;
    const char *name;
    json_t *data;
};

struct qmp *
qmp_open(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *ctx,
         struct err *err UNUSED)
{
    struct qmp *q = xcalloc(1, sizeof *q);
    q->guest = uv_sim_fd_owner(fd);
    q->process = process_of(loop);
    q->ops = ops;
    q->ctx = ctx;
    q->line = xcalloc(1, sizeof *q->line);
    q->line->fd = -1;
    q->guest->qmp = q; /* QEMU leaves a conversation whose other end is gone. */
    close(fd);
    return q;
}

struct qmp *
qmp_resume(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *ctx,
           struct err *err)
{
    int line = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct qmp *q = qmp_open(loop, fd, ops, ctx, err);
    q->line->fd = line;
    q->unsure = true;
    return q;
}

int
qmp_fd(const struct qmp *q)
{
    if (q->line->fd < 0) {
        q->line->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
    return q->line->fd;
}

bool
qmp_is_deaf(const struct qmp *q)
{
    for (const struct command *c = q->pending; c; c = c->next) {
        if (c->late && !c->oob) {
            return true;
        }
    }
    return false;
}

/* ---- ends ------------------------------------------------------------------------ */

static void
fail_pending(struct qmp *q, const char *why)
{
    struct err err = {0};
    err_set(&err, ERR_GONE, "QMP: %s", why);
    while (q->pending) {
        struct command *c = q->pending;
        q->pending = c->next;
        c->over = true; /* Freed by its own event. */
        if (c->done) {
            c->done(c->ctx, NULL, &err);
        }
    }
}

void
qmp_close(struct qmp *q)
{
    if (q && !q->closed) {
        q->closed = true;
        auto_fd(&q->line->fd);
        q->line->fd = -1;
        if (q->guest->qmp == q) {
            q->guest->qmp = NULL;
        }
        fail_pending(q, "closed");
    }
}

static void
on_lost(void *ctx)
{
    struct qmp *q = ctx;
    struct err err = {0};
    if (!q->closed && !q->gone) {
        q->gone = true;
        fail_pending(q, "the emulator is gone");
        err_set(&err, ERR_GONE, "QMP: the emulator is gone");
        if (!q->closed) {
            q->ops->lost(q->ctx, &err);
        }
    }
}

void
guest_hang_up(struct guest *g)
{
    if (g->qmp) {
        (void)world_after(g->qmp->process, world_between(CHANCE_ORDER, 1, NS_PER_MS),
                          on_lost, g->qmp);
        g->qmp = NULL;
    }
}

/* ---- events ---------------------------------------------------------------------- */

static void
on_event(void *ctx)
{
    struct telling *t = ctx;
    if (!t->qmp->closed && !t->qmp->gone) {
        t->qmp->ops->event(t->qmp->ctx, t->name, t->data);
    }
    json_decref(t->data);
    free(t);
}

void
guest_tell(struct guest *g, const char *name, json_t *data)
{
    if (!g->qmp) {
        json_decref(data);
        return;
    }
    struct telling *t = xcalloc(1, sizeof *t);
    *t = (struct telling){.qmp = g->qmp, .name = name, .data = data};
    (void)world_after(g->qmp->process, world_between(CHANCE_ORDER, 1, NS_PER_MS),
                      on_event, t);
}

/* ---- commands -------------------------------------------------------------------- */

static void
command_free(struct command *c)
{
    auto_fd(&c->fd);
    json_decref(c->args);
    free(c);
}

/* Its main loop waits for a page. True: the command waits with it. */
static bool
waits(struct command *c)
{
    struct err err = {0};
    if (!c->qmp->guest->numb || c->oob) {
        return false;
    }
    if (!c->late && world_now() >= c->late_at_ns) {
        qmp_reply_fn *done = c->done;
        c->late = true;
        c->done = NULL;
        err_set(&err, ERR_TIMEOUT, "QMP: no answer in time");
        if (done) {
            done(c->ctx, NULL, &err);
        }
    }
    return true;
}

static void
on_command(void *ctx)
{
    struct command *c = ctx;
    struct qmp *q = c->qmp;
    if (!c->over && waits(c)) {
        (void)world_after(q->process, NUMB_LOOK_NS, on_command, c);
        return;
    }
    if (!c->over) {
        for (struct command **at = &q->pending; *at; at = &(*at)->next) {
            if (*at == c) {
                *at = c->next;
                break;
            }
        }
        struct err err = {0};
        const struct guest_order order = {c->name, c->args, &c->fd, q->process};
        AUTO(json) json_t *result = guest_obey(q->guest, &order, &err);
        q->unsure = q->unsure && c->oob;
        if (c->done) {
            c->done(c->ctx, result, result ? NULL : &err);
        }
    }
    command_free(c);
}

static bool
is_full(const struct qmp *q)
{
    size_t late = 0, unanswered = 0;
    for (const struct command *c = q->pending; c; c = c->next) {
        late += c->late && !c->oob;
        unanswered += !c->oob;
    }
    return (q->unsure && unanswered > 0) || (late > 0 && unanswered >= QMP_LATE_MAX);
}

/* 'order' says what, and 'args' is taken. */
static bool
send_command(struct qmp *q, const struct command *order, json_t *args, struct err *err)
{
    process_calls();
    AUTO(json) json_t *owned = args;
    if (q->closed || q->gone || !q->guest->alive) {
        return err_set(err, ERR_GONE, "QMP: the emulator is gone");
    }
    if (!order->oob && is_full(q)) {
        return err_set(err, ERR_BUSY, "QMP: no answer yet to what was asked before");
    }
    struct command *c = xcalloc(1, sizeof *c);
    *c = *order;
    c->qmp = q;
    c->next = q->pending;
    c->args = take_json(&owned);
    c->fd = order->fd >= 0 ? fcntl(order->fd, F_DUPFD_CLOEXEC, 0) : -1;
    q->pending = c;
    /* The greeting, and a monitor that answers when it gets to it. */
    (void)world_after(q->process,
                      world_between(CHANCE_ORDER, NS_PER_MS, 60 * NS_PER_MS),
                      on_command, c);
    return true;
}

bool
qmp_send(struct qmp *q, const char *cmd, json_t *args, int pass_fd, uint64_t timeout_ns,
         qmp_reply_fn *done, void *ctx, struct err *err)
{
    struct command order = {.fd = pass_fd,
                            .done = done,
                            .ctx = ctx,
                            .late_at_ns = world_now() + (int64_t)timeout_ns};
    snprintf(order.name, sizeof order.name, "%s", cmd);
    return send_command(q, &order, args, err);
}

bool
qmp_send_oob(struct qmp *q, const char *cmd, json_t *args, uint64_t timeout_ns,
             qmp_reply_fn *done, void *ctx, struct err *err)
{
    struct command order = {.fd = -1,
                            .done = done,
                            .ctx = ctx,
                            .late_at_ns = world_now() + (int64_t)timeout_ns,
                            .oob = true};
    snprintf(order.name, sizeof order.name, "%s", cmd);
    return send_command(q, &order, args, err);
}
