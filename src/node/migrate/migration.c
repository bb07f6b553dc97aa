/* migration.c - the set, and what both sides have in common: see migration.h. */
#include "base/log.h"
#include "node/migrate/migration_impl.h"

#define COLD_LOOK_NS (500 * NS_PER_MS)
#define SWITCH_NS (300 * NS_PER_MS) /* A guest stands still no longer, as a rule. */
#define SHOW_NS NS_PER_S            /* Progress is reported no more often. */

int64_t
migration_now(const struct migration *m)
{
    return clock_mono(m->set->config.clock);
}

void
migration_changed(struct migration *m)
{
    if (!m->set->closing) {
        m->set->config.host.changed(m->set->config.host.ctx);
    }
}

void
migration_note(struct migration *m, const char *fmt, ...)
{
    va_list args;
    if (m->message[0]) {
        return; /* The first reason is the one that tells. */
    }
    va_start(args, fmt);
    vsnprintf(m->message, sizeof m->message, fmt, args);
    va_end(args);
    log_warn("migration %s: %s", m->id, m->message);
}

bool
migration_body(const struct migration *m, struct machine_body *out)
{
    return m->want && machines_body(m->set->config.machines, m->want->machine_id, out);
}

bool
migration_load_self(struct migration *m, struct err *err)
{
    const struct migration_host *host = &m->set->config.host;
    if (!m->self_arena) {
        m->self_arena = arena_create();
        if (!host->self(host->ctx, m->self_arena, &m->self, err)) {
            arena_destroy(m->self_arena);
            m->self_arena = NULL;
            return false;
        }
    }
    return true;
}

/* ---- connections ------------------------------------------------------------------------ */

void
migration_keep(struct migration *m, const char *port_id, struct blob connections)
{
    struct migration_connections c = {.data = xmalloc(connections.len + 1),
                                      .len = connections.len};
    snprintf(c.port_id, sizeof c.port_id, "%s", port_id);
    memcpy(c.data, connections.data, connections.len);
    VEC_PUSH(&m->connections, c);
}

void
migration_forget_kept(struct migration *m)
{
    for (size_t i = 0; i < m->connections.count; i++) {
        free(m->connections.items[i].data);
    }
    VEC_FREE(&m->connections);
}

/* ---- commands ------------------------------------------------------------------------ */

struct running {
    struct migration *migration;
    script_done_fn *done;
    bool poll;
    unsigned turn; /* Of the migration, when it began. */
};

static void
on_script(void *ctx, json_t *result, const struct err *err)
{
    struct running *r = ctx;
    struct migration *m = r->migration;
    script_done_fn *done = r->done;
    bool at_once =
        m->starting; /* The same step would fail again: a later pass takes it. */
    bool stale = r->poll && r->turn != m->turn;
    *(r->poll ? &m->polls : &m->scripts) -= 1;
    free(r);
    if (done && !stale) {
        done(m, result, err);
    }
    if (!m->set->closing && !at_once) {
        migration_step(m);
    }
}

static void
begin(struct migration *m, struct script *script, struct qmp *qmp, script_done_fn *done,
      bool poll)
{
    struct running *r = xcalloc(1, sizeof *r);
    *r = (struct running){m, done, poll, m->turn};
    *(poll ? &m->polls : &m->scripts) += 1;
    m->starting = true;
    script_run(script, qmp, on_script, r);
    m->starting = false;
}

void
migration_run(struct migration *m, struct script *script, struct qmp *qmp,
              script_done_fn *done)
{
    m->turn++;
    begin(m, script, qmp, done, false);
}

void
migration_poll(struct migration *m, struct script *script, struct qmp *qmp,
               script_done_fn *done)
{
    begin(m, script, qmp, done, true);
}

static enum migration_memory
memory_of(const char *status)
{
    static const struct {
        const char *status;
        enum migration_memory memory;
    } words[] = {
        {"setup", MEMORY_COPYING},
        {"active", MEMORY_COPYING},
        {"cancelling", MEMORY_COPYING},
        {"pre-switchover", MEMORY_PAUSED},
        {"device", MEMORY_SWITCHING},
        {"wait-unplug", MEMORY_COPYING},
        {"postcopy-active", MEMORY_FOLLOWING},
        {"postcopy-paused", MEMORY_CUT},
        {"postcopy-recover", MEMORY_FOLLOWING},
        {"completed", MEMORY_DONE},
        {"failed", MEMORY_BROKEN},
        {"cancelled", MEMORY_BROKEN},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (str_eq(words[i].status, status)) {
            return words[i].memory;
        }
    }
    return MEMORY_NONE;
}

static int64_t
number(const json_t *object, const char *key)
{
    return (int64_t)json_number_value(json_object_get(object, key));
}

void
migration_read(struct migration *m, json_t *result)
{
    const json_t *ram = json_object_get(result, "ram");
    const char *status = json_string_value(json_object_get(result, "status"));
    const char *why = json_string_value(json_object_get(result, "error-desc"));
    struct migration_progress *p = &m->progress;
    /* A new way for the rest of the memory is set up like the first one. */
    if (status && !(memory_is_behind(m->memory) && str_eq(status, "setup"))) {
        m->memory = memory_of(status);
    }
    if (str_eq(status, "postcopy-active") || m->memory == MEMORY_DONE) {
        auto_fd(&m->again_fd);
        m->again_fd = -1;
    }
    if (m->memory == MEMORY_BROKEN) {
        migration_note(m, "the memory could not be copied: %.120s", why ? why : status);
    }
    if (ram) {
        p->memory_bytes = number(ram, "total");
        p->memory_left_bytes = number(ram, "remaining");
        p->memory_sent_bytes = number(ram, "transferred");
        p->dirty_bps = number(ram, "dirty-pages-rate") * number(ram, "page-size") * 8;
        p->copy_bps =
            (int64_t)(json_number_value(json_object_get(ram, "mbps")) * 1000000);
        p->passes = number(ram, "dirty-sync-count");
    }
    if (json_object_get(result, "expected-downtime") && m->stood_ns == 0) {
        p->downtime_ms = number(result, "expected-downtime");
    }
}

/* Whether the machine's record speaks of it: of one that has ended here the set may hold the
 * record still, until that is told. */
static bool
is_named(const struct migration *m)
{
    struct machine_body body;
    return migration_body(m, &body) &&
           str_eq(m->want->incoming ? body.want->incoming : body.want->outgoing, m->id);
}

static void
on_event(void *ctx, const char *id, const char *name, json_t *data)
{
    struct migrations *set = ctx;
    const char *key;
    void *value;
    bool status = str_eq(name, "MIGRATION"), job = str_eq(name, "JOB_STATUS_CHANGE");
    bool mirror =
        str_eq(name, "BLOCK_JOB_READY") || str_eq(name, "BLOCK_JOB_COMPLETED");
    if (!status && !job && !mirror) {
        return;
    }
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct migration *m = value;
        if (!m->want || m->want->cold || !str_eq(m->want->machine_id, id) || m->over ||
            !is_named(m)) {
            continue;
        }
        if (status && m->looked) {
            migration_read(m, data);
            log_debug("migration %s: memory %d", m->id, (int)m->memory);
            migration_step(m);
            migration_changed(m);
        } else if (job && !m->want->incoming) {
            mirrors_job_event(m);
        } else if (mirror && !m->want->incoming) {
            mirrors_event(m, str_eq(name, "BLOCK_JOB_READY"), data);
        }
        return; /* A machine takes part in one migration at a time. */
    }
}

/* ---- couriers -------------------------------------------------------------------------- */

void
migration_let_go(struct migration *m, struct courier *courier)
{
    for (size_t i = 0; i < m->courier_count; i++) {
        if (m->couriers[i].courier == courier) {
            m->couriers[i] = m->couriers[--m->courier_count];
            break;
        }
    }
    courier_close(courier);
}

void
migration_close_memory(struct migration *m)
{
    for (size_t i = m->courier_count; i > 0; i--) {
        if (str_eq(m->couriers[i - 1].stream, COURIER_MEMORY)) {
            migration_let_go(m, m->couriers[i - 1].courier);
        }
    }
}

void
migration_hang_up(struct migration *m)
{
    for (size_t i = 0; i < m->courier_count; i++) {
        courier_close(m->couriers[i].courier);
        m->couriers[i] = (struct migration_courier){0};
    }
    m->courier_count = 0;
    courier_door_close(m->door);
    m->door = NULL;
    words_close(m);
    auto_fd(&m->memory_fd);
    auto_fd(&m->again_fd);
    auto_fd(&m->spares_fd);
    m->memory_fd = m->again_fd = m->spares_fd = -1;
    arena_destroy(m->self_arena);
    m->self_arena = NULL;
}

/* ---- the set ---------------------------------------------------------------------------- */

static bool
good_id(const char *id)
{
    return str_is_plain(id, 3, 43);
}

static struct migration *
migration_of(struct migrations *set, const char *id)
{
    struct migration *m = map_get(set->map, id);
    if (!m) {
        m = xcalloc(1, sizeof *m);
        m->set = set;
        m->words_fd = m->memory_fd = m->again_fd = m->spares_fd = -1;
        snprintf(m->id, sizeof m->id, "%s", id);
        map_put(set->map, id, m);
    }
    return m;
}

static void
migration_free(void *value)
{
    struct migration *m = value;
    cold_hang_up(m);
    migration_forget_kept(m);
    arena_destroy(m->want_arena);
    free(m);
}

struct migrations *
migrations_open(const struct migrations_config *config)
{
    struct migrations *set = xcalloc(1, sizeof *set);
    set->config = *config;
    set->map = map_create(migration_free);
    machines_watch_events(config->machines, on_event, set);
    return set;
}

void
migrations_stop(struct migrations *set)
{
    const char *key;
    void *value;
    if (!set) {
        return;
    }
    set->closing = true;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        cold_hang_up(value);
    }
}

void
migrations_close(struct migrations *set)
{
    if (set) {
        map_destroy(set->map);
        free(set);
    }
}

void
migrations_want(struct migrations *set, const struct link_migration *want, bool deleted)
{
    if (!good_id(want->id) || !good_id(want->machine_id) ||
        want->copy_disks.count > MIGRATION_DISKS_MAX) {
        return;
    }
    struct migration *m = migration_of(set, want->id);
    struct arena *arena = arena_create();
    m->want = desc_copy(&link_migration_desc, want, arena);
    arena_destroy(m->want_arena);
    m->want_arena = arena;
    m->deleted = deleted;
    if (deleted) { /* The receiver's word that it runs is late. */
        give_note_downtime(m);
    }
    log_debug("migration %s: told to %s", m->id,
              deleted       ? "end"
              : want->order ? want->order
                            : "wait");
    migration_step(m);
}

void
migrations_delete(struct migrations *set, const char *id)
{
    if (good_id(id)) {
        migration_of(set, id)->deleted = true;
    }
}

void
migrations_forget(struct migrations *set, const char *id)
{
    struct migration *m = map_get(set->map, id);
    if (m) {
        m->deleted = true;
        migration_step(m);
    }
}

void
migrations_drop_absent(struct migrations *set, const char *id)
{
    struct migration *m = map_get(set->map, id);
    if (m && m->scripts + m->polls == 0) {
        map_del(set->map, id);
    }
}

/* ---- passes -------------------------------------------------------------------------------- */

/* Nothing of it is left to do or undo here. */
static bool
is_absent(const struct migration *m)
{
    struct machine_body body;
    if (!m->deleted || m->scripts + m->polls > 0) {
        return false;
    }
    if (m->want && m->want->cold) {
        return true;
    }
    return m->over || !migration_body(m, &body) || body.moved || body.pid == 0 ||
           (m->want->incoming ? true : !m->begun && !body.tried);
}

void
migration_step(struct migration *m)
{
    if (m->set->closing || !m->want) {
        return;
    }
    if (m->want->cold) {
        cold_step(m);
    } else if (m->want->incoming) {
        take_step(m);
    } else {
        give_step(m);
    }
    if (is_absent(m)) {
        cold_hang_up(m);
    }
}

void
migrations_pass(struct migrations *set, int64_t *out_wake_ns)
{
    int64_t now = clock_mono(set->config.clock);
    const char *key;
    void *value;
    *out_wake_ns = INT64_MAX;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct migration *m = value;
        struct machine_body body;
        migration_step(m);
        if (m->want && m->want->cold && !m->over && !m->deleted) {
            *out_wake_ns = MIN(*out_wake_ns, now + COLD_LOOK_NS);
            continue;
        }
        if (m->over || !migration_body(m, &body) || is_absent(m)) {
            continue;
        }
        if (now >= m->poll_at_ns && body.qmp && m->scripts + m->polls == 0) {
            m->poll_at_ns = now + MIGRATION_POLL_NS;
            (m->want->incoming ? take_poll : give_poll)(m, body.qmp);
        }
        *out_wake_ns = MIN(*out_wake_ns, MAX(m->poll_at_ns, now + 10 * NS_PER_MS));
    }
}

bool
migrations_at_switch(const struct migrations *set)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct migration *m = value;
        if (m->stood_ns && !m->over && !m->staying && !memory_is_behind(m->memory) &&
            m->memory != MEMORY_DONE && migration_now(m) < m->stood_ns + SWITCH_NS) {
            return true;
        }
    }
    return false;
}

/* ---- what is seen --------------------------------------------------------------------------- */

void
migrations_seen(struct migrations *set, struct arena *arena, migration_seen_fn *fn,
                void *ctx)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct migration *m = value;
        int64_t now = migration_now(m);
        const char *state = is_absent(m)        ? "absent"
                            : !m->want          ? "absent"
                            : m->want->cold     ? cold_state(m)
                            : m->want->incoming ? take_state(m)
                                                : give_state(m);
        if (!str_eq(state, m->shown_state) || now >= m->show_at_ns) {
            m->shown = m->progress;
            m->shown_state = state;
            m->shown_elapsed_ns =
                m->began_ns ? (m->ended_ns ? m->ended_ns : now) - m->began_ns : 0;
            m->show_at_ns = now + SHOW_NS;
        }
        const char *address = set->config.host.address(set->config.host.ctx);
        struct link_migration_seen seen = {
            .id = m->id,
            .generation = m->want ? m->want->generation : 0,
            .state = state,
            .message = arena_strdup(arena, m->message),
            .address = m->door ? address : NULL,
            .port = m->door ? courier_door_port(m->door) : 0,
            .disk_bytes = m->shown.disk_bytes,
            .disk_done_bytes = m->shown.disk_done_bytes,
            .memory_bytes = m->shown.memory_bytes,
            .memory_left_bytes = m->shown.memory_left_bytes,
            .memory_sent_bytes = m->shown.memory_sent_bytes,
            .dirty_bps = m->shown.dirty_bps,
            .copy_bps = m->shown.copy_bps,
            .passes = m->shown.passes,
            .downtime_ms = m->shown.downtime_ms,
            .elapsed_ms = m->shown_elapsed_ns / NS_PER_MS,
        };
        fn(ctx, &seen);
    }
}
