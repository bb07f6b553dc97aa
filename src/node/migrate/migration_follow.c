/* migration_follow.c - post-copy: memory that goes on behind its guest, and what becomes of it
 * when the way is cut. See migration.h, and docs/decisions/0015-post-copy.md. */
#include "base/log.h"
#include "node/migrate/migration_impl.h"

#define CALL_NS NS_PER_S         /* Between two tries to reach a receiver anew. */
#define LOOK_NS (10 * NS_PER_MS) /* Whether all but memory is here: the guest waits. */

/* ---- the giver's ------------------------------------------------------------------------- */

bool
follow_has_begun(const struct migration *m)
{
    return memory_is_behind(m->memory) ||
           (m->want->post_copy && m->memory == MEMORY_SWITCHING);
}

/* QEMU hears of it by the end of its own stream. */
void
follow_cut(struct migration *m, const char *why)
{
    log_warn("migration %s: %s: the receiver is called anew", m->id,
             why ? why : "the receiver hung up");
    migration_hang_up(m);
    m->calling = false;
    m->call_at_ns = migration_now(m) + CALL_NS;
}

static void
on_hurried(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        log_warn("migration %s: %s", m->id, err->msg);
    }
}

/* One pass has shown all of the memory: what is written since follows the guest. */
void
follow_hurry(struct migration *m, struct qmp *qmp)
{
    if (m->want->post_copy && m->memory == MEMORY_COPYING && !m->hurried && m->begun &&
        !m->staying && m->progress.passes >= 2) {
        struct script *s = script_create();
        m->hurried = true;
        script_add(s, "migrate-start-postcopy", NULL, -1);
        migration_run(m, s, qmp, on_hurried);
    }
}

static void
on_confirmed(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    if (!err) {
        migration_read(m, result);
        m->here = memory_is_behind(m->memory);
    }
}

/* The receiver has all but memory. Only where QEMU says, after that, that it goes on behind
 * the guest, has the guest left for good. */
void
follow_confirm(struct migration *m)
{
    struct machine_body body;
    if (migration_body(m, &body) && body.qmp && !m->here && m->want->post_copy) {
        struct script *s = script_create();
        script_add(s, "query-migrate", NULL, -1);
        migration_run(m, s, body.qmp, on_confirmed);
    }
}

void
follow_call(struct migration *m, const struct machine_body *body UNUSED)
{
    struct err err = {0};
    migration_hang_up(m);
    m->calling = true;
    if (!give_send_streams(m, &err)) {
        follow_cut(m, err.msg);
    }
}

static void
on_resumed(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        m->memory = MEMORY_CUT;
        follow_cut(m, err->msg);
    } else {
        log_info("migration %s: memory goes on", m->id);
    }
}

void
follow_resume(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    script_add(s, "getfd", json_pack("{s:s}", "fdname", "memory"),
               take_fd(&m->memory_fd));
    script_add(s, "migrate", json_pack("{s:s, s:b}", "uri", "fd:memory", "resume", 1),
               -1);
    m->calling = false;
    m->memory = MEMORY_FOLLOWING;
    migration_run(m, s, body->qmp, on_resumed);
}

/* ---- the receiver's ---------------------------------------------------------------------- */

/* The next courier of memory gets an end that the emulator knows the other one of. */
static void
lend(struct migration *m)
{
    if (m->door && m->memory == MEMORY_CUT && !m->lent &&
        m->spares_used < MIGRATION_SPARES && m->spare_fds[m->spares_used] >= 0) {
        courier_door_lend(m->door, m->spare_fds[m->spares_used]);
        m->lent = true;
    }
}

/* Gives the emulator its ends; ours wait. */
bool
follow_add_spares(struct migration *m, struct script *s, struct err *err)
{
    static const char *const names[MIGRATION_SPARES] = {"again0", "again1", "again2"};
    for (size_t i = 0; i < MIGRATION_SPARES; i++) {
        int ends[2];
        if (!courier_pair(ends, err)) {
            return false;
        }
        auto_fd(&m->spare_fds[i]);
        m->spare_fds[i] = ends[0];
        script_add(s, "getfd", json_pack("{s:s}", "fdname", names[i]), ends[1]);
    }
    m->spares_used = 0;
    m->lent = false;
    return true;
}

static void
on_recovering(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (!err) {
        return;
    }
    log_warn("migration %s: memory does not go on: %s", m->id, err->msg);
    while (m->courier_count > 0) { /* The giver calls again. */
        courier_close(m->couriers[--m->courier_count].courier);
    }
    words_close(m);
}

/* 'fd' (taken) -1: by the spare that was lent. */
void
follow_recover(struct migration *m, const struct machine_body *body, int fd)
{
    struct script *s = script_create();
    char uri[32] = "fd:memory";
    if (fd >= 0) {
        script_add(s, "getfd", json_pack("{s:s}", "fdname", "memory"), fd);
    } else {
        snprintf(uri, sizeof uri, "fd:again%zu", m->spares_used);
        courier_door_lend(m->door, -1);
        auto_fd(&m->spare_fds[m->spares_used]);
        m->spare_fds[m->spares_used++] = -1;
        m->lent = false;
    }
    script_add_oob(s, "migrate-recover", json_pack("{s:s}", "uri", uri));
    migration_run(m, s, body->qmp, on_recovering);
}

void
follow_say_here(struct migration *m)
{
    if (m->here) {
        words_say(m, "here", NULL, (struct blob){0});
    }
}

static void
on_look(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    const char *status = json_string_value(json_object_get(result, "status"));
    if (!err && !m->here && status && !str_eq(status, "inmigrate")) {
        m->here = true;
        follow_say_here(m);
    }
}

/* The emulator has loaded all but memory once it stands still by itself; no event says so. */
void
follow_look(struct migration *m, struct qmp *qmp)
{
    struct script *s = script_create();
    m->poll_at_ns = migration_now(m) + LOOK_NS;
    script_add(s, "query-status", NULL, -1);
    migration_run(m, s, qmp, on_look);
}

bool
follow_take(struct migration *m, const struct machine_body *body)
{
    if (m->running && body->pid == 0) {
        m->memory = MEMORY_DONE; /* Nothing waits for it any more. */
        migration_changed(m);
    } else if (m->running && m->deleted && !m->over) {
        log_warn("migration %s: the rest of the memory is lost: the guest starts anew",
                 m->id);
        m->over = true;
        migration_hang_up(m);
        machines_kill(m->set->config.machines, m->want->machine_id);
        return false;
    }
    lend(m);
    return true;
}
