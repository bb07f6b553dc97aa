/* migration_take.c - the receiver's side: see migration.h. */
#include "base/log.h"
#include "node/machine/sock.h"
#include "node/migrate/migration_impl.h"

#define TOLD_TIMES \
    2 /* A giver says a port's connections before the switch, and at it. */

static void
fail(struct migration *m, const char *why)
{
    migration_note(m, "%s", why);
    m->over = true;
    migration_hang_up(m);
    migration_changed(m);
}

static void
on_loading(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err && err->code != ERR_GONE) {
        fail(m, err->msg);
    }
}

/* ---- the giver's couriers -------------------------------------------------------------- */

/* The first time. 'fd' is taken. */
static void
load_memory(struct migration *m, const struct machine_body *body, int fd)
{
    struct script *s = script_create();
    m->memory = MEMORY_COPYING;
    m->began_ns = migration_now(m);
    script_add(s, "getfd", json_pack("{s:s}", "fdname", "memory"), fd);
    script_add(s, "migrate-incoming", json_pack("{s:s}", "uri", "fd:memory"), -1);
    migration_run(m, s, body->qmp, on_loading);
}

static void
join_stream(struct migration *m, struct migration_courier *c, int fd)
{
    c->joined = true;
    courier_join(c->courier, fd, false);
    if (m->want->post_copy) {
        courier_persist(c->courier);
    }
}

/* Gives it its end here, once there is somebody at that. False: it is of no use. */
static bool
join(struct migration *m, const struct machine_body *body, struct migration_courier *c,
     struct err *err)
{
    bool words = str_eq(c->stream, COURIER_WORDS);
    bool memory = str_eq(c->stream, COURIER_MEMORY);
    int ends[2];
    if (memory && memory_is_behind(m->memory)) {
        follow_meet(m, body, c);
        return true;
    }
    if (!words && (!m->set_up || !body->qmp)) {
        return true;
    }
    if (memory && m->memory != MEMORY_NONE) {
        return err_set(err, ERR_BUSY, "memory comes twice");
    }
    if (!words && !memory) {
        AUTO(free) char *path = xasprintf("%s/move.sock", body->dir);
        if (!sock_connect(path, &ends[0], err)) {
            return false;
        }
        join_stream(m, c, ends[0]);
        return true;
    }
    if (!courier_pair(ends, err)) {
        return false;
    }
    join_stream(m, c, ends[0]);
    if (words) {
        words_open(m, ends[1]);
        follow_say_here(m);
    } else {
        load_memory(m, body, ends[1]); /* Which may end all of them at once. */
    }
    return true;
}

static void
join_all(struct migration *m, const struct machine_body *body)
{
    for (size_t i = 0; i < m->courier_count;) {
        struct migration_courier *c = &m->couriers[i];
        struct err err = {0};
        if (c->joined || join(m, body, c, &err)) {
            i++;
            continue;
        }
        log_warn("migration %s: %s: %s", m->id, c->stream, err.msg);
        migration_let_go(m, c->courier);
    }
}

static void
on_up(void *ctx, struct courier *courier, const char *stream)
{
    struct migration *m = ctx;
    log_debug("migration %s: %s comes in", m->id, stream);
    if (str_eq(stream, COURIER_MEMORY) && memory_is_behind(m->memory)) {
        migration_close_memory(m); /* Its sender has given those up. */
    }
    if (m->courier_count == ARRAY_LEN(m->couriers)) {
        courier_close(courier);
        return;
    }
    struct migration_courier *c = &m->couriers[m->courier_count++];
    *c = (struct migration_courier){.courier = courier, .up = true};
    snprintf(c->stream, sizeof c->stream, "%s", stream);
    migration_step(m);
}

static void
on_ended(void *ctx, struct courier *courier, const char *why)
{
    struct migration *m = ctx;
    migration_let_go(m, courier);
    if (why && (memory_is_behind(m->memory) || (!m->running && !m->word))) {
        log_warn("migration %s: %s", m->id, why);
    }
    migration_changed(m);
}

/* Of the machine's own ports only. Public addresses come with the switch: what waits for
 * one is put in place again at the last. */
static void
hear_connections(struct migration *m, const struct link_courier_word *word)
{
    const struct migration_host *host = &m->set->config.host;
    struct machine_body body;
    struct err err = {0};
    size_t left = 0;
    bool own = false;
    if (!migration_body(m, &body) ||
        m->connections.count >= TOLD_TIMES * body.want->port_ids.count) {
        return;
    }
    for (size_t i = 0; i < body.want->port_ids.count; i++) {
        own = own || str_eq(body.want->port_ids.items[i], word->object);
    }
    if (own &&
        host->connections_put(host->ctx, word->object, word->body, &left, &err) &&
        left == 0) {
        return;
    }
    if (own) {
        migration_keep(m, word->object, word->body);
    }
}

/* The guest goes on without what fails. */
static void
put_connections(struct migration *m)
{
    const struct migration_host *host = &m->set->config.host;
    size_t left;
    for (size_t i = 0; i < m->connections.count; i++) {
        const struct migration_connections *c = &m->connections.items[i];
        struct err err = {0};
        if (!host->connections_put(host->ctx, c->port_id,
                                   (struct blob){c->data, c->len}, &left, &err)) {
            log_warn("migration %s: connections of %s: %s", m->id, c->port_id, err.msg);
        }
    }
    migration_forget_kept(m);
}

void
take_hear(struct migration *m, const struct link_courier_word *word)
{
    struct err err = {0};
    if (str_eq(word->kind, "console")) {
        if (!machines_console_add(m->set->config.machines, m->want->machine_id,
                                  word->body, &err)) {
            log_warn("migration %s: its console: %s", m->id, err.msg);
        }
    } else if (str_eq(word->kind, "connections")) {
        hear_connections(m, word);
    } else if (str_eq(word->kind, "run")) {
        m->word = true;
    }
}

/* ---- steps ------------------------------------------------------------------------------- */

static void
on_looked(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    if (!err) {
        m->looked = true;
        migration_read(m, result);
        m->memory = memory_is_behind(m->memory) ? m->memory : MEMORY_DONE;
    }
}

/* An emulator whose main loop answers nobody waits for memory of a guest that runs. When it
 * answers it is looked at. */
static void
suppose_behind(struct migration *m)
{
    log_warn("migration %s: the emulator does not answer: memory is to come again",
             m->id);
    m->looked = m->running = m->here = m->supposed = true;
    m->memory = MEMORY_CUT;
}

static void
on_status(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    const char *status = json_string_value(json_object_get(result, "status"));
    struct machine_body body;
    if (err || !migration_body(m, &body) || !body.qmp) {
        return; /* Asked again when there is somebody to ask. */
    }
    m->running = str_eq(status, "running");
    m->here = m->want->post_copy && !str_eq(status, "inmigrate");
    if (m->here) { /* Is memory still to come? */
        struct script *s = script_create();
        script_add(s, "query-migrate", NULL, -1);
        migration_run(m, s, body.qmp, on_looked);
        return;
    }
    m->looked = true;
    m->memory = str_eq(status, "inmigrate") ? m->memory : MEMORY_DONE;
}

static void
look(struct migration *m, const struct machine_body *body)
{
    if (body->left) {
        follow_take_left(m);
    }
    bool arrived = body->moved || str_eq(m->want->order, "run"); /* The giver let go. */
    if (body->deaf && arrived && m->want->post_copy) {
        suppose_behind(m);
        return;
    }
    struct script *s = script_create();
    script_add(s, "query-status", NULL, -1);
    migration_run(m, s, body->qmp, on_status);
}

/* So that couriers find it: they come while the emulator starts, and wait for it. */
static void
open_door(struct migration *m, const struct machine_body *body UNUSED)
{
    const struct migration_host *host = &m->set->config.host;
    struct courier_ops ops = {on_up, on_ended, m};
    struct err why = {0};
    const char *address = host->address(host->ctx);
    if (!address) {
        fail(m, "other nodes do not reach this one: start its agent with --underlay");
    } else if (!migration_load_self(m, &why) ||
               !(m->door = courier_door_open(&m->self, address, m->want->peer_node_id,
                                             m->id, &ops, &why))) {
        fail(m, why.msg);
    } else {
        migration_changed(m);
    }
}

static void
on_set_up(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err && err->code != ERR_GONE) {
        fail(m, err->msg);
    }
    m->set_up = !err;
    if (!err &&
        !m->want->post_copy) { /* Which tells by what is not there what is to come. */
        machines_fill(m->set->config.machines, m->want->machine_id);
    }
}

static bool
offer_disks(struct migration *m, const struct machine_body *body, struct script *s,
            struct err *err)
{
    int fd;
    AUTO(free) char *path = xasprintf("%s/move.sock", body->dir);
    if (m->want->copy_disks.count == 0) {
        return true;
    }
    if (!sock_listen(path, &fd, err)) {
        return false;
    }
    script_try(s, "nbd-server-stop", NULL); /* An earlier agent's. */
    script_add(s, "getfd", json_pack("{s:s}", "fdname", "disks"), fd);
    script_add(
        s, "nbd-server-start",
        json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "fd", "data", "str", "disks"),
        -1);
    for (size_t i = 0; i < body->want->disks.count; i++) {
        char node[32];
        snprintf(node, sizeof node, "disk%zu", i);
        for (size_t k = 0; k < m->want->copy_disks.count; k++) {
            if (str_eq(m->want->copy_disks.items[k],
                       body->want->disks.items[i].disk_id)) {
                script_add(s, "block-export-add",
                           json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id",
                                     node, "node-name", node, "name", node, "writable",
                                     1),
                           -1);
            }
        }
    }
    return true;
}

static void
set_up(struct migration *m, const struct machine_body *body)
{
    struct err err = {0};
    struct script *s = script_create();
    /* A disk that the giver sees too is the giver's, by QEMU's lock on the image, until the
     * guest goes on here: should it return, nothing stands in its way. */
    script_add(s, "migrate-set-capabilities",
               json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability",
                         "events", "state", 1, "capability", "late-block-activate",
                         "state", 1),
               -1);
    if (m->want->post_copy) {
        script_add(s, "migrate-set-capabilities",
                   json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability",
                             "postcopy-ram", "state", 1),
                   -1);
    }
    if (!offer_disks(m, body, s, &err) ||
        (m->want->post_copy && !follow_add_spares(m, s, &err))) {
        fail(m, err.msg);
    }
    migration_run(m, s, body->qmp, on_set_up);
}

static void
on_running(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        log_warn("migration %s: %s", m->id, err->msg);
        bool deaf = err->code == ERR_TIMEOUT || err->code == ERR_BUSY;
        if (deaf && memory_is_behind(m->memory)) {
            /* It waits for a page, and was told, or will be once it answers. */
            m->running = m->supposed = true;
            migration_changed(m);
        }
        return; /* Else tried again at the next pass. */
    }
    m->running = true;
    m->ended_ns = migration_now(m);
    log_info("migration %s: the guest runs here", m->id);
    words_say(m, "running", NULL, (struct blob){0});
    m->set->config.host.urgent(m->set->config.host.ctx);
    migration_changed(m);
}

static void
run(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    put_connections(m);
    if (!body->moved) {
        machines_moved(m->set->config.machines, m->want->machine_id, m->id);
    }
    script_try(s, "nbd-server-stop", NULL);
    script_add(s, "cont", NULL, -1);
    script_try(s, "announce-self",
               json_pack("{s:i, s:i, s:i, s:i}", "initial", 50, "max", 550, "rounds", 5,
                         "step", 50));
    migration_run(m, s, body->qmp, on_running);
}

static const struct {
    const char *name; /* Log label. */
    void (*start)(struct migration *m, const struct machine_body *body);
} ops[TAKE_STEPS] = {
    [TAKE_LOOK] = {"look", look},
    [TAKE_OPEN] = {"open the door", open_door},
    [TAKE_SET_UP] = {"set up", set_up},
    [TAKE_RUN] = {"run", run},
};

void
take_step(struct migration *m)
{
    struct machine_body body;
    if (!migration_body(m, &body)) {
        return;
    }
    if (memory_is_behind(m->memory) && !follow_take(m, &body)) {
        return;
    }
    if (!m->over && !body.moved && body.tried && body.pid == 0 && !body.starting) {
        fail(m, str_empty(body.message) ? "the emulator that waited here has ended"
                                        : body.message);
        return;
    }
    join_all(m, &body);
    if (body.left && m->running && m->memory == MEMORY_DONE && m->scripts == 0 &&
        body.qmp) {
        follow_leave_nothing(m, &body);
    }
    struct take_facts facts = {
        .busy = m->scripts > 0,
        .failed = m->over || m->deleted,
        .starting = body.starting,
        .alive = body.pid != 0,
        .qmp_up = body.qmp != NULL,
        .looked = m->looked,
        .moved = body.moved,
        .word = m->word || str_eq(m->want->order, "run"),
        .open = m->door != NULL,
        .set_up = m->set_up,
        .here = m->here,
        .running = m->running,
        .memory = m->memory,
    };
    enum take_step step = take_plan(&facts);
    if (step != TAKE_NOTHING) {
        log_debug("migration %s: %s", m->id, ops[step].name);
        ops[step].start(m, &body);
    }
}

static void
on_progress(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    if (!err && m->supposed) {
        m->supposed = m->looked = false;
    } else if (!err && (m->memory == MEMORY_COPYING || memory_is_behind(m->memory))) {
        migration_read(m, result);
    }
}

/* Should an event be lost. */
void
take_poll(struct migration *m, struct qmp *qmp)
{
    if (memory_is_behind(m->memory) && !m->here) {
        follow_look(m, qmp);
    } else if (m->memory == MEMORY_COPYING || memory_is_behind(m->memory)) {
        struct script *s = script_create();
        script_add(s, "query-migrate", NULL, -1);
        migration_poll(m, s, qmp, on_progress);
    }
}

const char *
take_state(const struct migration *m)
{
    bool behind = m->running && memory_is_behind(m->memory);
    bool whole = m->running && m->looked; /* Else nobody has said yet that it is. */
    return m->over                      ? "failed"
           : behind && !follow_comes(m) ? "interrupted"
           : behind                     ? "following"
           : whole                      ? "running"
           : m->door                    ? "listening"
                                        : "preparing";
}
