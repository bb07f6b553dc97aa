/* migration_give.c - the giver's side: see migration.h. */
#include "base/log.h"
#include "node/migrate/migration_impl.h"
#include "node/net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define DOWNTIME_MS 300
#define OUR_SHARE_MS 100 /* Of it: asking, and the last words. */
#define NO_LIMIT_BYTES (INT64_C(64) << 30)

static void
keep(struct migration *m)
{
    m->over = true;
    m->ended_ns = migration_now(m);
    migration_hang_up(m);
    log_info("migration %s: the guest stays here", m->id);
    migration_changed(m);
}

/* ---- couriers --------------------------------------------------------------------------- */

static void
on_up(void *ctx, struct courier *courier, const char *stream UNUSED)
{
    struct migration *m = ctx;
    if (m->calling) {
        courier_persist(courier);
    }
    for (size_t i = 0; i < m->courier_count; i++) {
        m->couriers[i].up = m->couriers[i].up || m->couriers[i].courier == courier;
    }
    migration_step(m);
}

static void
on_ended(void *ctx, struct courier *courier, const char *why)
{
    struct migration *m = ctx;
    for (size_t i = 0; i < m->courier_count; i++) {
        if (m->couriers[i].courier != courier) {
            continue;
        }
        bool early = why || i == 0 || (i > 1 && m->disks != PART_ENDED);
        if (follow_has_begun(m) && i < 2) {
            follow_cut(m, why);
            break; /* All of them are gone. */
        }
        if (early && m->memory != MEMORY_DONE && !m->over) {
            m->broken = true;
            migration_note(m, "%s", why ? why : "the receiver hung up");
        }
        m->couriers[i].courier = NULL;
        courier_close(courier);
        break;
    }
    migration_step(m);
    migration_changed(m);
}

static bool
send_courier(struct migration *m, const char *stream, int local_fd, struct err *err)
{
    struct courier_ops ops = {on_up, on_ended, m};
    struct courier *c =
        courier_send(&m->self, m->want->peer_address, (int)m->want->peer_port,
                     m->want->peer_node_id, m->id, stream, local_fd, &ops, err);
    if (c) {
        m->couriers[m->courier_count++] = (struct migration_courier){c, false};
    }
    return c != NULL;
}

struct inside {
    const char *name;
    int fd;
};

/* In QEMU's own network: where it can call, and nobody else. */
static bool
listen_here(void *ctx, struct err *err)
{
    struct inside *in = ctx;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(in->name);
    memcpy(at.sun_path + 1, in->name, len);
    AUTO(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        bind(fd, (struct sockaddr *)&at,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) < 0 ||
        listen(fd, 1) < 0) {
        return err_sys(err, errno, "listen for the emulator");
    }
    in->fd = take_fd(&fd);
    return true;
}

static bool
send_disk(struct migration *m, const struct machine_body *body, size_t disk,
          struct err *err)
{
    char path[64], name[32];
    struct inside in = {.name = name, .fd = -1};
    mirror_name(m, disk, name);
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)body->pid);
    AUTO(fd) int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    return netns_run(ns, listen_here, &in, err) &&
           send_courier(m, body->want->disks.items[disk].disk_id, in.fd, err);
}

bool
give_send_streams(struct migration *m, struct err *err)
{
    int words[2], memory[2];
    if (!migration_load_self(m, err)) {
        return false;
    }
    if (!courier_pair(words, err)) {
        return false;
    }
    words_open(m, words[1]);
    if (!send_courier(m, COURIER_WORDS, words[0], err)) {
        return false;
    }
    if (!courier_pair(memory, err)) {
        return false;
    }
    m->memory_fd = memory[1];
    return send_courier(m, COURIER_MEMORY, memory[0], err);
}

static bool
send_all(struct migration *m, const struct machine_body *body, struct err *err)
{
    if (!give_send_streams(m, err)) {
        return false;
    }
    for (size_t i = 0; i < body->want->disks.count; i++) {
        if (mirror_copies(m, body, i) && !send_disk(m, body, i, err)) {
            return false;
        }
    }
    return true;
}

/* ---- steps: there ------------------------------------------------------------------------- */

static void
on_looked(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        return;
    }
    m->looked = true;
    migration_read(m, result);
    m->memory = memory_is_behind(m->memory) ? m->memory : MEMORY_PAUSED;
}

static void
on_status(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    const char *status = json_string_value(json_object_get(result, "status"));
    struct machine_body body;
    if (err || !migration_body(m, &body) || !body.qmp) {
        return;
    }
    if (body.tried && str_eq(status, "finish-migrate")) {
        struct script *s = script_create();
        script_add(s, "query-migrate", NULL, -1);
        migration_run(m, s, body.qmp, on_looked);
        return;
    }
    m->looked = true;
    if (body.tried) { /* Else what QEMU still says is of an earlier migration. */
        m->memory = str_eq(status, "postmigrate") ? MEMORY_DONE : MEMORY_COPYING;
    }
}

static void
look(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    script_add(s, "query-status", NULL, -1);
    migration_run(m, s, body->qmp, on_status);
}

static void
begin(struct migration *m, const struct machine_body *body)
{
    struct err err = {0};
    machines_tried(m->set->config.machines, m->want->machine_id, m->id);
    m->begun = true;
    m->began_ns = migration_now(m);
    m->disks = m->want->copy_disks.count == 0 ? PART_READY : PART_NONE;
    if (!send_all(m, body, &err)) {
        m->broken = true;
        migration_note(m, "%s", err.msg);
    }
    migration_changed(m);
}

static void
on_step(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err) {
        m->broken = true;
        migration_note(m, "%s", err->msg);
    }
}

static json_t *
capability(const char *name, bool on)
{
    return json_pack("{s:s, s:b}", "capability", name, "state", on);
}

/* How the memory is to be copied. */
static void
set_terms(const struct migration *m, struct script *s)
{
    const struct link_migration *w = m->want;
    int64_t downtime = w->downtime_ms > 0 ? w->downtime_ms : DOWNTIME_MS;
    int64_t bytes = w->bandwidth_bps > 0 ? w->bandwidth_bps / 8 : NO_LIMIT_BYTES;
    script_add(s, "migrate-set-capabilities",
               json_pack("{s:[o, o, o, o]}", "capabilities", capability("events", true),
                         capability("pause-before-switchover", true),
                         capability("auto-converge", !w->post_copy),
                         capability("postcopy-ram", w->post_copy)),
               -1);
    script_add(
        s, "migrate-set-parameters",
        json_pack("{s:I, s:I, s:I}", "downtime-limit",
                  (json_int_t)(downtime > 2 * OUR_SHARE_MS ? downtime - OUR_SHARE_MS
                                                           : downtime / 2),
                  "max-bandwidth", (json_int_t)bytes, "max-postcopy-bandwidth",
                  (json_int_t)(w->bandwidth_bps > 0 ? bytes : 0)),
        -1);
}

static void
copy_disks(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    mirrors_begin(m, body, s);
    set_terms(m, s); /* While the mirrors are made. */
    m->disks = PART_BEGUN;
    migration_run(m, s, body->qmp, on_step);
}

static void
say_console(struct migration *m)
{
    struct err err = {0};
    AUTO(buf) struct buf console = {0};
    if (machines_console_read(m->set->config.machines, m->want->machine_id, &console,
                              &err) &&
        console.len > 0) {
        words_say(m, "console", NULL,
                  (struct blob){(const uint8_t *)console.data, console.len});
    }
}

/* Those that the receiver was not told of already. */
static void
say_connections(struct migration *m, const struct machine_body *body)
{
    const struct migration_host *host = &m->set->config.host;
    struct err err = {0};
    for (size_t i = 0; i < body->want->port_ids.count; i++) {
        const char *port = body->want->port_ids.items[i];
        AUTO(buf) struct buf found = {0};
        struct blob known = {0};
        for (size_t k = 0; k < m->connections.count; k++) {
            const struct migration_connections *c = &m->connections.items[k];
            known = str_eq(c->port_id, port) ? (struct blob){c->data, c->len} : known;
        }
        if (!host->connections_get(host->ctx, port, known, &found, &err)) {
            log_warn("migration %s: connections of %s: %s", m->id, port, err.msg);
        } else if (found.len > 0) {
            struct blob told = {(const uint8_t *)found.data, found.len};
            words_say(m, "connections", port, told);
            migration_keep(m, port, told);
        }
    }
}

static void
copy_memory(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    if (m->want->copy_disks.count == 0) {
        set_terms(m, s);
    }
    script_add(s, "getfd", json_pack("{s:s}", "fdname", "memory"),
               take_fd(&m->memory_fd));
    script_add(s, "migrate", json_pack("{s:s}", "uri", "fd:memory"), -1);
    m->memory = MEMORY_COPYING;
    migration_run(m, s, body->qmp, on_step);
    say_connections(m, body); /* Those that are new by the switch follow then. */
}

static void
end_disks(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    mirrors_end(m, body, s);
    m->disks = m->want->copy_disks.count > 0 ? PART_ENDING : PART_ENDED;
    migration_run(m, s, body->qmp, on_step);
}

/* What else the receiver must know before the guest goes on there: read and said while QEMU
 * hands over the last of it, since the reading takes its time. */
static void
say_last(struct migration *m, const struct machine_body *body)
{
    if (!m->history_sent) {
        m->history_sent = true;
        say_console(m);
        say_connections(m, body);
    }
}

static void
on_let_go(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    struct machine_body body;
    on_step(m, result, err);
    if (!err && migration_body(m, &body)) {
        say_last(m, &body);
    }
}

static void
let_go(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    script_add(s, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"),
               -1);
    m->memory = MEMORY_SWITCHING;
    for (size_t i = 0; m->want->post_copy && i < MIN(m->courier_count, 2u); i++) {
        courier_persist(m->couriers[i].courier); /* Words, and memory. */
    }
    migration_run(m, s, body->qmp, on_let_go);
}

static void
part(struct migration *m, const struct machine_body *body UNUSED)
{
    /* Should this host die before that is noted, no process says otherwise. */
    words_say(m, "run", NULL, (struct blob){0}); /* Else by the control plane. */
    machines_moved(m->set->config.machines, m->want->machine_id, m->id);
    log_info("migration %s: the guest has left%s", m->id,
             memory_is_behind(m->memory) ? ", its memory follows" : "");
    m->ended_ns = migration_now(m);
    migration_changed(m);
}

/* From its standstill until now, unless that is known. */
void
give_note_downtime(struct migration *m)
{
    if (m->stood_ns && m->progress.downtime_ms == 0) {
        m->progress.downtime_ms = MAX(1, (migration_now(m) - m->stood_ns) / NS_PER_MS);
    }
}

void
give_hear(struct migration *m, const struct link_courier_word *word)
{
    if (str_eq(word->kind, "here") && follow_has_begun(m)) {
        m->told_here = true;
        follow_confirm(m);
    } else if (str_eq(word->kind, "running") && m->stood_ns) {
        give_note_downtime(m);
        m->ended_ns = migration_now(m);
        m->shown_state = NULL; /* Told at once. */
        migration_changed(m);
    }
}

/* ---- steps: back again ---------------------------------------------------------------------- */

static void
on_goes_on(void *ctx, json_t *result UNUSED, const struct err *err)
{
    struct migration *m = ctx;
    if (err && err->code != ERR_GONE) {
        log_error("migration %s: the guest does not go on: %s", m->id, err->msg);
    } else if (!err) {
        keep(m);
    }
}

static void
on_undone(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    struct machine_body body;
    const char *status = json_string_value(json_object_get(result, "status"));
    if (err || !migration_body(m, &body) || !body.qmp) {
        return; /* Begun anew at a later poll. */
    }
    if (str_eq(status, "finish-migrate") || str_eq(status, "postmigrate") ||
        str_eq(status, "paused")) {
        struct script *s = script_create();
        script_add(s, "cont", NULL, -1);
        migration_run(m, s, body.qmp, on_goes_on);
    } else {
        keep(m);
    }
}

/* QEMU has let go of the migration: what is left of the mirrors goes. */
static void
clean_up(struct migration *m, const struct machine_body *body)
{
    struct script *s = script_create();
    mirrors_forget(m, body, s);
    script_add(s, "query-status", NULL, -1);
    migration_run(m, s, body->qmp, on_undone);
}

/* QEMU lets no guest go on that it began to hand over: it ends, and starts anew from its
 * disks. */
static void
end_here(struct migration *m)
{
    migration_note(m, "cut at the switch: the guest starts anew");
    m->staying = true;
    migration_hang_up(m);
    machines_kill(m->set->config.machines, m->want->machine_id);
}

static void
stay(struct migration *m, const struct machine_body *body)
{
    if (body->pid == 0) {
        migration_note(m, "the guest has ended");
        keep(m);
        return;
    }
    if (!m->begun && !body->tried) {
        keep(m);
        return;
    }
    if (!body->qmp) {
        return;
    }
    if (memory_is_behind(m->memory)) {
        end_here(m);
        return;
    }
    migration_note(m, m->asked_ns ? "told in time neither to switch nor to stay"
                                  : "given up");
    m->staying = true;
    migration_hang_up(m);
    struct script *s = script_create();
    script_try(s, "migrate_cancel", NULL);
    mirrors_give_up(m, body, s);
    migration_run(m, s, body->qmp, NULL);
    m->poll_at_ns = 0;
}

static void
come_back(struct migration *m, const struct machine_body *body)
{
    machines_came_back(m->set->config.machines, m->want->machine_id);
    migration_note(m, "it never ran at the receiver, and goes on here");
    if (body->pid == 0) {
        keep(m); /* Started anew, from its own disks. */
    } else if (memory_is_behind(m->memory)) {
        end_here(m);
    } else {
        m->staying = true;
        clean_up(m, body);
    }
}

/* ---- what QEMU does meanwhile ------------------------------------------------------------------ */

static void
on_progress(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    struct machine_body body;
    if (err || !migration_body(m, &body) || !body.qmp) {
        return;
    }
    enum migration_memory was = m->memory;
    migration_read(m, result);
    if (m->staying && !json_object_get(result, "status")) {
        m->memory = MEMORY_NONE; /* The agent before us had not come so far. */
    }
    if (was == MEMORY_SWITCHING && m->memory == MEMORY_PAUSED) {
        m->memory = was; /* It was told to go on since. */
    }
    follow_hurry(m, body.qmp);
    if (m->staying && m->memory != MEMORY_COPYING && m->memory != MEMORY_PAUSED &&
        m->memory != MEMORY_SWITCHING && !memory_is_behind(m->memory)) {
        clean_up(m, &body);
    }
}

void
give_poll(struct migration *m, struct qmp *qmp)
{
    if (m->disks == PART_ENDING && !m->staying) {
        mirrors_poll(m, qmp);
    } else if (m->told_here && !m->here) {
        follow_confirm(m);
    } else if (m->staying || (m->memory != MEMORY_NONE && m->memory != MEMORY_DONE)) {
        struct script *s = script_create();
        script_add(s, "query-migrate", NULL, -1);
        migration_poll(m, s, qmp, on_progress);
    } else {
        mirrors_poll(m, qmp);
    }
}

static enum migration_part
couriers_state(const struct migration *m)
{
    if (m->broken) {
        return PART_BROKEN;
    }
    if (follow_has_begun(m) && !m->calling) {
        return PART_NONE;
    }
    bool all = m->begun || m->calling;
    for (size_t i = 0; i < m->courier_count; i++) {
        all = all && m->couriers[i].up;
    }
    return all ? PART_READY : m->begun || m->calling ? PART_BEGUN : PART_NONE;
}

static enum give_order
order_of(const struct migration *m)
{
    static const char *const names[] = {"wait", "copy", "switch", "stay", "return"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(names[i], m->want->order)) {
            return m->deleted ? GIVE_ORDER_STAY : (enum give_order)i;
        }
    }
    return m->deleted ? GIVE_ORDER_STAY : GIVE_ORDER_WAIT;
}

/* The guest has come to stand still: it must not for long. First of all the switch is asked
 * for. */
static void
note_pause(struct migration *m)
{
    const struct migration_host *host = &m->set->config.host;
    if (m->memory == MEMORY_PAUSED && m->asked_ns == 0 && m->begun && !m->staying) {
        m->asked_ns = m->stood_ns = migration_now(m);
        m->progress.downtime_ms = 0; /* What was expected is over. */
        log_debug("migration %s: the guest stands still", m->id);
        host->urgent(host->ctx);
    }
}

static const struct {
    const char *name; /* Log label. */
    void (*start)(struct migration *m, const struct machine_body *body);
} ops[GIVE_STEPS] = {
    [GIVE_LOOK] = {"look", look},
    [GIVE_BEGIN] = {"begin", begin},
    [GIVE_DISKS] = {"copy the disks", copy_disks},
    [GIVE_MEMORY] = {"copy the memory", copy_memory},
    [GIVE_END_DISKS] = {"end the disks", end_disks},
    [GIVE_CONTINUE] = {"let go", let_go},
    [GIVE_PART] = {"part", part},
    [GIVE_STAY] = {"stay", stay},
    [GIVE_RETURN] = {"come back", come_back},
    [GIVE_CALL] = {"call anew", follow_call},
    [GIVE_RESUME] = {"resume", follow_resume},
};

void
give_step(struct migration *m)
{
    struct machine_body body;
    if (!migration_body(m, &body)) {
        return;
    }
    if (m->staying && !m->over && m->scripts == 0 && body.pid == 0) {
        migration_note(m, "the guest has ended");
        keep(m); /* What was to be undone has gone with it. */
        return;
    }
    if (!m->begun && !m->staying && !str_eq(body.want->outgoing, m->id)) {
        /* One of long ago, in what an agent that has just come had kept; or not yet. What
         * is known of the machine is another's. */
        m->over = m->over || m->deleted;
        return;
    }
    note_pause(m);
    m->here =
        m->here || (body.moved && m->want->post_copy); /* An earlier agent saw it. */
    struct give_facts facts = {
        .order = order_of(m),
        .busy = m->scripts > 0 || m->staying,
        .kept = m->over,
        .alive = body.pid != 0,
        .qmp_up = body.qmp != NULL,
        .looked = m->looked,
        .begun = m->begun,
        .begun_once = m->begun || body.tried,
        .moved = body.moved,
        .here = m->here,
        .call_due = migration_now(m) >= m->call_at_ns,
        .couriers = couriers_state(m),
        .disks = m->disks,
        .memory = m->memory,
        .asked_ns = m->asked_ns,
    };
    enum give_step step = give_plan(&facts, migration_now(m));
    if (step != GIVE_NOTHING) {
        log_debug("migration %s: %s", m->id, ops[step].name);
        ops[step].start(m, &body);
    } else if (m->job_news) { /* Came while another script ran. */
        mirrors_job_event(m);
    }
}

const char *
give_state(const struct migration *m)
{
    struct machine_body body;
    if (m->over) {
        return "kept";
    }
    if (migration_body(m, &body) && body.moved && !m->staying) {
        /* What of its memory had not followed it went with the emulator. */
        bool whole = !m->want->post_copy || m->memory == MEMORY_DONE;
        return body.pid == 0 && !whole ? "gone" : "left";
    }
    if (m->memory == MEMORY_PAUSED && m->begun && !m->staying) {
        return "paused";
    }
    return m->begun || m->staying ? "copying" : "waiting";
}
