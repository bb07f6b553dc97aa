#include "base/crypto.h"
#include "base/file.h"
#include "base/log.h"
#include "node/machine/machine_impl.h"

#define UID_BASE 0x70000000u /* Above systemd's containers, below 2^31. */
#define UID_SLOTS 4096u      /* Of 65 536 ids each; a cloud's by the hash of its id. */
#define TRIM_EVERY_NS (5 * NS_PER_S)

static bool
good_id(const char *id)
{
    return str_is_plain(id, 3, 39);
}

int64_t
machine_now(const struct machine *m)
{
    return clock_mono(m->set->config.clock);
}

void
machine_changed(struct machine *m)
{
    if (!m->set->closing) {
        m->set->config.host.changed(m->set->config.host.ctx);
    }
}

void
machine_event(struct machine *m, const char *kind, const char *level, const char *fmt,
              ...)
{
    char text[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    log_warn("machine %s: %s", m->id, text);
    const struct machine_host *host = &m->set->config.host;
    host->event(host->ctx, kind, m->id, level, text);
}

/* ---- the set --------------------------------------------------------------------- */

static int64_t
free_uid_index(const struct machines *set)
{
    size_t count = map_count(set->map) + 1;
    uint8_t *used = xcalloc(count, 1);
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        int64_t index = ((struct machine *)value)->record.uid_index;
        if (index >= 0 && (uint64_t)index < count) {
            used[index] = 1;
        }
    }
    size_t index = 0;
    while (index < count - 1 && used[index]) {
        index++;
    }
    free(used);
    return (int64_t)(index % MACHINE_UIDS);
}

static struct machine *
machine_add(struct machines *set, const char *id)
{
    struct machine *m = xcalloc(1, sizeof *m);
    m->set = set;
    snprintf(m->id, sizeof m->id, "%s", id);
    m->dir = xasprintf("%s/%s", set->dir, id);
    m->pidfd = -1;
    m->console = console_create(set->config.loop, m->dir);
    m->traces = file_exists(m->dir);
    machine_load(m);
    if (m->record.uid_index < 0) {
        m->record.uid_index = free_uid_index(set);
    }
    map_put(set->map, id, m);
    machine_adopt(m);
    return m;
}

static void
machine_free(void *value)
{
    struct machine *m = value;
    machine_unwatch(m);
    console_destroy(m->console);
    arena_destroy(m->want_arena);
    free(m->dir);
    free(m);
}

static struct machine *
machine_of(struct machines *set, const char *id)
{
    struct machine *m = map_get(set->map, id);
    return m ? m : machine_add(set, id);
}

/* By its folder, or its cgroup. */
static void
find_machine(void *ctx, const char *name)
{
    if (good_id(name)) {
        (void)machine_of(ctx, name);
    }
}

struct machines *
machines_open(const struct machines_config *config, struct err *err)
{
    struct cgroup_host cgroups;
    if (!cgroup_open(config->cloud_id, &cgroups, err) ||
        !dir_make(config->dir, 0700, err) || !dir_make(config->jail_dir, 0755, err)) {
        return NULL;
    }
    struct machines *set = xcalloc(1, sizeof *set);
    uint8_t digest[SHA256_LEN];
    set->config = *config;
    set->dir = xstrdup(config->dir);
    set->jail_dir = xstrdup(config->jail_dir);
    set->cloud_id = xstrdup(config->cloud_id);
    set->cgroups = cgroups;
    sha256(config->cloud_id, strlen(config->cloud_id), digest);
    set->uid_base = UID_BASE + ((digest[0] << 8 | digest[1]) % UID_SLOTS) * 65536u;
    set->map = map_create(machine_free);
    dir_each(set->dir, find_machine, set);
    cgroup_each(&set->cgroups, find_machine, set);
    return set;
}

void
machines_close(struct machines *set)
{
    if (!set) {
        return;
    }
    const char *key;
    void *value;
    set->closing = true;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        machine_start_wait(value);
    }
    map_destroy(set->map);
    free(set->dir);
    free(set->jail_dir);
    free(set->cloud_id);
    free(set);
}

/* ---- what is wanted -------------------------------------------------------------- */

void
machines_want(struct machines *set, const struct link_machine *want, bool deleted)
{
    if (str_empty(want->id) || !good_id(want->id)) {
        return;
    }
    struct machine *m = machine_of(set, want->id);
    struct arena *arena = arena_create();
    if (m->want && want->generation != m->want->generation) {
        m->retry_at_ns = 0; /* A change is worth a try at once. */
        m->failures = 0;
    }
    m->want = desc_copy(&link_machine_desc, want, arena);
    arena_destroy(m->want_arena);
    m->want_arena = arena;
    m->deleted = deleted;
}

void
machines_delete(struct machines *set, const char *id)
{
    if (good_id(id)) {
        machine_of(set, id)->deleted = true;
    }
}

void
machines_forget(struct machines *set, const char *id)
{
    struct machine *m = map_get(set->map, id);
    if (m) {
        arena_destroy(m->want_arena);
        m->want_arena = NULL;
        m->want = NULL;
    }
}

void
machines_complete(struct machines *set)
{
    set->complete = true;
}

void
machines_power_off(struct machines *set, int64_t grace_ns)
{
    set->complete = true;
    set->power_off = true;
    set->power_off_grace_ns = grace_ns;
}

/* ---- a pass ---------------------------------------------------------------------- */

static bool
inputs_ready(const struct machine *m)
{
    const struct machine_host *host = &m->set->config.host;
    const struct link_machine *w = m->want;
    if (w->leased && !host->lease_lives(host->ctx)) {
        return false;
    }
    for (size_t i = 0; i < w->disks.count; i++) {
        if (!host->disk_ready(host->ctx, w->disks.items[i].disk_id)) {
            return false;
        }
    }
    for (size_t i = 0; i < w->port_ids.count; i++) {
        if (!host->port_ready(host->ctx, w->port_ids.items[i])) {
            return false;
        }
    }
    if (str_eq(w->firmware, "direct")) {
        return host->blob_ready(host->ctx, w->kernel_blob) &&
               (str_empty(w->initrd_blob) ||
                host->blob_ready(host->ctx, w->initrd_blob));
    }
    return true;
}

bool
machine_is_arriving(const struct machine *m)
{
    return m->want && !str_empty(m->want->incoming) &&
           !str_eq(m->record.moved, m->want->incoming);
}

bool
machine_is_given(const struct machine *m)
{
    return m->want && !str_empty(m->want->outgoing) &&
           str_eq(m->record.moved, m->want->outgoing);
}

void
machine_facts(const struct machine *m, struct machine_facts *out)
{
    const struct link_machine *w = m->want;
    bool off = m->set->power_off;
    *out = (struct machine_facts){
        .deleted = m->deleted && !off,
        .orphan = !w && m->set->complete && !off,
        .running = w ? w->running && !off : !m->set->complete,
        .stop_hard = w && w->stop_hard,
        .generation = w ? w->generation : 0,
        .reboot_count = w ? w->reboot_count : 0,
        .grace_ns =
            off ? m->set->power_off_grace_ns : (w ? w->stop_grace_ms : 0) * NS_PER_MS,
        .process = m->process,
        .qmp_up = m->qmp_up,
        .traces = m->traces,
        .halted_generation = m->record.halted_generation,
        .reboots_done = m->record.reboots_done,
        .power_off = off,
        .leaving = w && !str_empty(w->outgoing),
        .arriving = machine_is_arriving(m),
        .given = machine_is_given(m),
        .tried = w && str_eq(m->record.tried, w->incoming),
        .retry_at_ns = m->retry_at_ns,
        .stop_began_ns = m->stop_began_ns,
        .asked_ns = m->asked_ns,
        .quit_ns = m->quit_ns,
    };
    out->inputs_ready =
        w && m->process == PROCESS_NONE && out->running && inputs_ready(m);
}

static void
machine_remove_step(struct machine *m)
{
    struct err err = {0};
    if (!machine_remove(m, &err)) {
        log_warn("%s", err.msg);
        cgroup_kill(&m->set->cgroups, m->id);
        return;
    }
    log_info("machine %s: removed", m->id);
    machine_changed(m);
}

static void (*const machine_ops[MACHINE_STEPS])(struct machine *m) = {
    [MACHINE_START] = machine_start,        [MACHINE_ASK] = machine_ask,
    [MACHINE_QUIT] = machine_quit,          [MACHINE_KILL] = machine_kill,
    [MACHINE_REMOVE] = machine_remove_step,
};

static void
machine_pass(struct machine *m, int64_t now, int64_t *wake)
{
    struct machine_facts facts;
    int64_t when;
    machine_facts(m, &facts);
    enum machine_step step = machine_plan(&facts, now, &when);
    if (machine_ops[step]) {
        machine_ops[step](m);
        when = MIN(when, now + NS_PER_S); /* The step's own deadline is planned then. */
    }
    if (m->process == PROCESS_UP && !m->qmp_up) {
        if (now >= m->speak_at_ns) {
            machine_speak(m);
        }
        when = MIN(when, m->speak_at_ns);
    }
    machine_cards_pass(m, now, &when);
    if (m->host_fault) {
        machine_try_resume(m);
        when = MIN(when, m->resume_at_ns);
    }
    *wake = MIN(*wake, when);
}

void
machines_pass(struct machines *set, int64_t *out_wake_ns)
{
    int64_t now = clock_mono(set->config.clock), wake = INT64_MAX;
    bool trim = now >= set->trim_at_ns;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct machine *m = value;
        machine_pass(m, now, &wake);
        if (trim && m->process != PROCESS_NONE) {
            console_trim(m->console);
        }
    }
    if (trim) {
        set->trim_at_ns = now + TRIM_EVERY_NS;
    }
    if (machines_processes(set) > 0) {
        wake = MIN(wake, set->trim_at_ns);
    }
    *out_wake_ns = wake;
}

/* ---- what is seen ---------------------------------------------------------------- */

/* It ran, and will again: for its owner it does so all the time. A reboot that is asked for
 * before the first start is none. */
static bool
is_between(const struct machine *m, const struct machine_facts *f)
{
    return machine_is_rebooting(f) && m->up_since_ns != 0;
}

static const char *
state_of(const struct machine *m, const struct machine_facts *f)
{
    switch (m->process) {
    case PROCESS_STARTING:
        return is_between(m, f) ? "running" : "starting";
    case PROCESS_UP:
        if (f->deleted || f->orphan) {
            return "stopping";
        }
        if (f->arriving) {
            return "starting";
        }
        if ((m->stop_began_ns || m->quit_ns) && !machine_is_rebooting(f)) {
            return "stopping";
        }
        return m->qmp_up || m->was_up ? "running" : "starting";
    case PROCESS_HALTED:
    case PROCESS_PANICKED:
        return machine_is_rebooting(f) ? "running" : "stopping";
    case PROCESS_NONE:
        break;
    }
    if (f->deleted || f->orphan) {
        return f->traces ? "stopping" : "absent";
    }
    if (!f->running || f->halted_generation == f->generation) {
        return "stopped";
    }
    return is_between(m, f) ? "running" : "preparing";
}

static void
machine_see(const struct machine *m, struct arena *arena, struct link_machine_seen *out)
{
    struct machine_facts facts;
    machine_facts(m, &facts);
    *out = (struct link_machine_seen){
        .id = m->id,
        .generation = facts.generation,
        .state = state_of(m, &facts),
        .reason = arena_strdup(arena, m->record.reason),
        .message = arena_strdup(arena, m->record.message),
        .reboot_count = m->record.reboots_done,
        .started_at = m->record.started_at_ns,
        .host_fault = m->host_fault,
        .guest_reboots = m->record.guest_reboots,
        .crashes = m->record.crashes,
        .leased = m->record.leased,
        .machine_type = arena_strdup(arena, m->record.machine_type),
        .cpu_model = arena_strdup(arena, m->record.cpu_model),
    };
}

void
machines_seen(struct machines *set, struct arena *arena, machine_seen_fn *fn, void *ctx)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct link_machine_seen seen;
        machine_see(value, arena, &seen);
        fn(ctx, &seen);
    }
}

void
machines_drop_absent(struct machines *set, const char *id)
{
    struct machine *m = map_get(set->map, id);
    if (m && m->process == PROCESS_NONE && !m->traces) {
        map_del(set->map, id);
    }
}

static size_t
count_processes(const struct machines *set, bool only_up)
{
    size_t count = 0;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        count += only_up ? m->qmp_up : m->process != PROCESS_NONE;
    }
    return count;
}

size_t
machines_running(const struct machines *set)
{
    return count_processes(set, true);
}

size_t
machines_processes(const struct machines *set)
{
    return count_processes(set, false);
}

void
machines_metered(const struct machines *set, machine_metered_fn *fn, void *ctx)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        if (m->process == PROCESS_UP && m->qmp_up && m->want) {
            const struct machine_metered metered = {
                .id = m->id,
                .pid = m->pid,
                .want = m->want,
                .started_at_ns = m->record.started_at_ns,
                .dirty_bps = m->dirty_bps,
            };
            fn(ctx, &metered);
        }
    }
}

size_t
machines_leased(const struct machines *set)
{
    size_t count = 0;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        bool wanted = m->want && m->want->leased && m->want->running && !m->deleted;
        count += wanted || (m->process != PROCESS_NONE && m->record.leased);
    }
    return count;
}

static bool
is_unleased(const struct machine *m)
{
    return m->process == PROCESS_UP && m->pidfd >= 0 && m->want && !m->deleted &&
           m->want->leased && !m->record.leased && !m->lease_late &&
           !machine_is_given(m);
}

bool
machines_unleased(const struct machines *set, pid_t *out_pid, int *out_pidfd)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        if (is_unleased(m)) {
            *out_pid = m->pid;
            *out_pidfd = m->pidfd;
            return true;
        }
    }
    return false;
}

void
machines_adopted(struct machines *set, pid_t pid, bool done)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        struct machine *m = value;
        if (m->process == PROCESS_NONE || m->pid != pid) {
            continue;
        }
        m->record.leased = m->record.leased || done;
        m->lease_late = !done;
        machine_save(m);
        machine_event(m, "lease", done ? "info" : "warn",
                      done ? "ends with this node's lease from now on"
                           : "could not be leased while it runs: it is from its next "
                             "start");
        machine_changed(m);
    }
}

bool
machines_may_merge(const struct machines *set)
{
    size_t count = 0;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        bool wanted = m->want && m->want->running && !m->deleted;
        if (!wanted && m->process == PROCESS_NONE) {
            continue;
        }
        if (!m->want || !m->want->merge) {
            return false;
        }
        count++;
    }
    return count > 0;
}

/* ---- who uses what --------------------------------------------------------------- */

static int
disk_index(const struct machine *m, const char *disk_id)
{
    for (size_t i = 0; m->want && i < m->want->disks.count; i++) {
        if (str_eq(m->want->disks.items[i].disk_id, disk_id)) {
            return (int)i;
        }
    }
    return -1;
}

static bool
uses_port(const struct machine *m, const char *port_id)
{
    for (size_t i = 0; m->want && i < m->want->port_ids.count; i++) {
        if (str_eq(m->want->port_ids.items[i], port_id)) {
            return true;
        }
    }
    return false;
}

static bool
uses_blob(const struct machine *m, const char *blob_id)
{
    return m->want && !m->deleted &&
           (str_eq(m->want->kernel_blob, blob_id) ||
            str_eq(m->want->initrd_blob, blob_id));
}

bool
machines_use_disk(const struct machines *set, const char *disk_id)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        if (m->process != PROCESS_NONE && disk_index(m, disk_id) >= 0) {
            return true;
        }
    }
    return false;
}

bool
machines_use_port(const struct machines *set, const char *port_id)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        if (m->process != PROCESS_NONE &&
            (uses_port(m, port_id) || machine_cards_use(m, port_id))) {
            return true;
        }
    }
    return false;
}

bool
machines_use_blob(const struct machines *set, const char *blob_id)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        if (uses_blob(value, blob_id)) {
            return true;
        }
    }
    return false;
}

bool
machines_disk_node(const struct machines *set, const char *disk_id,
                   struct qmp **out_qmp, char out_node[16])
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &key, &value);) {
        const struct machine *m = value;
        int index = disk_index(m, disk_id);
        if (m->process == PROCESS_UP && m->qmp_up && index >= 0) {
            snprintf(out_node, 16, "disk%d", index);
            *out_qmp = m->qmp;
            return true;
        }
    }
    return false;
}

void
machines_watch_jobs(struct machines *set, machine_job_fn *fn, void *ctx)
{
    set->job_fn = fn;
    set->job_ctx = ctx;
}

/* ---- consoles and upkeep --------------------------------------------------------- */

static struct machine *
machine_named(struct machines *set, const char *id, struct err *err)
{
    struct machine *m = id ? map_get(set->map, id) : NULL;
    if (!m) {
        err_set(err, ERR_NOT_FOUND, "there is no machine %s on this node",
                id ? id : "");
    }
    return m;
}

bool
machines_console_read(struct machines *set, const char *id, struct buf *out,
                      struct err *err)
{
    struct machine *m = machine_named(set, id, err);
    if (m) {
        console_read(m->console, out);
    }
    return m != NULL;
}

bool
machines_console_attach(struct machines *set, const char *id, int fd, struct err *err)
{
    struct machine *m = machine_named(set, id, err);
    if (!m || m->process == PROCESS_NONE) {
        close(fd);
        return m ? err_set(err, ERR_GONE, "machine %s is not running", id) : false;
    }
    return console_attach(m->console, fd, err);
}

static void
sweep_one(void *ctx, const char *id)
{
    struct err err = {0};
    if (!cgroup_remove(ctx, id, &err)) {
        log_warn("%s", err.msg);
    }
}

void
machines_sweep(struct machines *set)
{
    cgroup_each(&set->cgroups, sweep_one, &set->cgroups);
    cgroup_close_cloud(&set->cgroups);
}

uint32_t
machines_job_uid(const struct machines *set, unsigned index)
{
    return set->uid_base + MACHINE_UIDS + index % 4096;
}

const struct cgroup_host *
machines_cgroups(const struct machines *set)
{
    return &set->cgroups;
}
