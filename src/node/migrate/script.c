/* script.c - see script.h. */
#include "node/migrate/script.h"

#include "base/map.h"

#define COMMAND_NS ((uint64_t)(20 * NS_PER_S))

struct line {
    const char *cmd; /* Static. */
    json_t *args;
    int fd;
    bool may_fail, oob;
};

struct script {
    VEC(struct line) lines;
    size_t next;
    struct qmp *qmp;
    script_done_fn *done;
    void *ctx;
};

struct script *
script_create(void)
{
    return xcalloc(1, sizeof(struct script));
}

void
script_add(struct script *s, const char *cmd, json_t *args, int fd)
{
    VEC_PUSH(&s->lines, ((struct line){cmd, args, fd, false, false}));
}

void
script_try(struct script *s, const char *cmd, json_t *args)
{
    VEC_PUSH(&s->lines, ((struct line){cmd, args, -1, true, false}));
}

void
script_add_oob(struct script *s, const char *cmd, json_t *args)
{
    VEC_PUSH(&s->lines, ((struct line){cmd, args, -1, false, true}));
}

static void
finish(struct script *s, json_t *result, const struct err *err)
{
    script_done_fn *done = s->done;
    void *ctx = s->ctx;
    for (size_t i = 0; i < s->lines.count; i++) {
        json_decref(s->lines.items[i].args);
        auto_fd(&s->lines.items[i].fd);
    }
    VEC_FREE(&s->lines);
    free(s);
    done(ctx, result, err);
}

static void step(struct script *s, json_t *result);

static void
on_reply(void *ctx, json_t *result, const struct err *err)
{
    struct script *s = ctx;
    const struct line *line = &s->lines.items[s->next - 1];
    if (err && (!line->may_fail || err->code == ERR_GONE)) {
        struct err why = *err;
        err_wrap(&why, "%s", line->cmd);
        finish(s, NULL, &why);
        return;
    }
    step(s, result);
}

static void
step(struct script *s, json_t *result)
{
    struct err err = {0};
    if (s->next == s->lines.count) {
        finish(s, result, NULL);
        return;
    }
    struct line *line = &s->lines.items[s->next++];
    json_t *args = line->args;
    line->args = NULL;
    bool sent =
        line->oob ? qmp_send_oob(s->qmp, line->cmd, args, COMMAND_NS, on_reply, s, &err)
                  : qmp_send(s->qmp, line->cmd, args, line->fd, COMMAND_NS, on_reply, s,
                             &err);
    if (!sent) {
        finish(s, NULL, &err);
    }
}

void
script_run(struct script *s, struct qmp *qmp, script_done_fn *done, void *ctx)
{
    s->qmp = qmp;
    s->done = done;
    s->ctx = ctx;
    step(s, NULL);
}
