/* migration_follow.c - post-copy: memory that goes on behind its guest, and what becomes of it
 * when the way is cut. See migration.h, and docs/decisions/0015-post-copy.md. */
#include "base/log.h"
#include "node/migrate/migration_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

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
 * the guest, has the guest left for good. Not while another step is under way: what was asked
 * before memory was resumed would, heard after it, look like another cut. */
void
follow_confirm(struct migration *m)
{
    struct machine_body body;
    if (migration_body(m, &body) && body.qmp && m->scripts == 0 && !m->here &&
        m->want->post_copy) {
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

/* ---- the receiver's: sockets for another way ---- */

/* A number, and a descriptor with it. */
static bool
spare_put(int fd, uint8_t number, int spare, struct err *err)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {&number, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &spare, sizeof spare);
    return sendmsg(fd, &msg, MSG_NOSIGNAL) == 1 ||
           err_sys(err, errno, "put a descriptor by");
}

/* The next; false: there is none left. */
static bool
spare_take(int fd, uint8_t *out_number, int *out_spare)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {out_number, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    if (fd < 0 || recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1) {
        return false;
    }
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (!c || c->cmsg_type != SCM_RIGHTS) {
        return false;
    }
    memcpy(out_spare, CMSG_DATA(c), sizeof *out_spare);
    return true;
}

static bool
give_copy(struct script *s, const char *name, int fd, struct err *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return err_sys(err, errno, "copy a descriptor");
    }
    script_add(s, "getfd", json_pack("{s:s}", "fdname", name), copy);
    return true;
}

/* Gives the emulator its ends, and what the next agent needs to have ours. */
bool
follow_add_spares(struct migration *m, struct script *s, struct err *err)
{
    static const char *const names[MIGRATION_SPARES] = {"again0", "again1", "again2"};
    int box[2], line;
    if (!courier_pair(box, err)) {
        return false;
    }
    auto_fd(&m->spares_fd);
    m->spares_fd = box[0];
    AUTO(fd) int in = box[1];
    for (uint8_t i = 0; i < MIGRATION_SPARES; i++) {
        int ends[2];
        if (!courier_pair(ends, err)) {
            return false;
        }
        AUTO(fd) int ours = ends[0];
        script_add(s, "getfd", json_pack("{s:s}", "fdname", names[i]), ends[1]);
        if (!spare_put(in, i, ours, err)) {
            return false;
        }
    }
    return machines_leave(m->set->config.machines, m->want->machine_id, m->spares_fd,
                          &line, err) &&
           give_copy(s, "line", line, err) && give_copy(s, "spares", m->spares_fd, err);
}

/* What an earlier agent has left. */
void
follow_take_left(struct migration *m)
{
    struct err err = {0};
    if (m->spares_fd < 0 && !machines_left(m->set->config.machines, m->want->machine_id,
                                           &m->spares_fd, &err)) {
        log_warn("migration %s: %s", m->id, err.msg);
    }
}

static void
on_let_go(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (!err) {
        machines_left_nothing(m->set->config.machines, m->want->machine_id);
    }
}

/* All is here: the emulator ends the conversation when we do again. */
void
follow_leave_nothing(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    script_try(s, "closefd", json_pack("{s:s}", "fdname", "spares"));
    script_try(s, "closefd", json_pack("{s:s}", "fdname", "line"));
    migration_run(m, s, body->qmp, on_let_go);
}

/* ---- the receiver's: another way ---- */

static void
on_recovering(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        log_warn("migration %s: memory does not go on: %s", m->id, err->msg);
        auto_fd(&m->again_fd);
        m->again_fd = -1;
        migration_close_memory(m); /* The giver calls again. */
    }
}

/* The end that the emulator is to go on with: a spare, or one that is made now. */
static bool
next_end(struct migration *m, struct script *s, char uri[32], struct err *err)
{
    uint8_t number;
    int ends[2];
    if (spare_take(m->spares_fd, &number, &m->again_fd)) {
        snprintf(uri, 32, "fd:again%u", (unsigned)number);
        return true;
    }
    if (!courier_pair(ends, err)) {
        return false;
    }
    snprintf(uri, 32, "fd:memory");
    m->again_fd = ends[0];
    script_add(s, "getfd", json_pack("{s:s}", "fdname", "memory"), ends[1]);
    return true;
}

static void
recover(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    struct err err = {0};
    char uri[32];
    if (!next_end(m, s, uri, &err)) {
        log_warn("migration %s: %s", m->id, err.msg);
        migration_close_memory(m); /* The giver calls again. */
    } else {
        script_add_oob(s, "migrate-recover", json_pack("{s:s}", "uri", uri));
    }
    migration_run(m, s, body->qmp, m->again_fd < 0 ? NULL : on_recovering);
}

/* QEMU 7.2 does not outlive that a way ends between its first byte and what was to be agreed
 * over it. So a courier carries only what the emulator waits for already, and one that ends
 * before a byte has come leaves the emulator its end, for the next. */
void
follow_meet(struct migration *m, const struct machine_body *body,
            struct migration_courier *c)
{
    if (m->memory != MEMORY_CUT || m->scripts > 0 || !body->qmp) {
        return; /* It will hear that the old way has ended. */
    }
    if (m->again_fd < 0) {
        recover(m, body);
        return;
    }
    int fd = fcntl(m->again_fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) {
        c->joined = true;
        courier_join(c->courier, fd, true);
        courier_persist(c->courier);
    }
}

bool
follow_comes(const struct migration *m)
{
    for (size_t i = 0; i < m->courier_count; i++) {
        const struct migration_courier *c = &m->couriers[i];
        if (c->joined && str_eq(c->stream, COURIER_MEMORY)) {
            return m->memory == MEMORY_FOLLOWING &&
                   courier_silent_ns(c->courier) < MIGRATION_SILENT_NS;
        }
    }
    return false;
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
    return true;
}
