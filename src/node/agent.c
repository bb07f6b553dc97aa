#include "node/agent_impl.h"

#include <errno.h>
#include <fcntl.h>

#define NODE_EVERY_MS 30000
#define SWITCH_LOOK_NS (50 * NS_PER_MS)

static void
free_value(void *value)
{
    free(value);
}

/* ---- wanted records to the modules ----------------------------------------------------- */

void
agent_apply(struct agent *a, const struct want *want)
{
    if (!a->modules_open) {
        return;
    }
    switch (want->kind) {
    case LINK_MACHINE:
        want->record ? machines_want(a->machines, want->record, want->deleted)
                     : machines_delete(a->machines, want->id);
        break;
    case LINK_DISK:
        want->record ? disks_want(a->disks, want->record, want->deleted)
                     : disks_delete(a->disks, want->id);
        break;
    case LINK_BLOB:
        if (want->record) {
            blobs_want(a->blobs, want->record, want->deleted);
        }
        break;
    case LINK_BLOB_JOB:
        if (want->record) {
            jobs_want(a->jobs, want->record, want->deleted);
        }
        break;
    case LINK_MIGRATION:
        want->record ? migrations_want(a->migrations, want->record, want->deleted)
                     : migrations_delete(a->migrations, want->id);
        break;
    default:
        break; /* Networks are read from the wanted set at each pass. */
    }
}

void
agent_forget(struct agent *a, const struct want *want)
{
    char key[REPORT_KEY_MAX];
    snprintf(key, sizeof key, "%d/%s", (int)want->kind, want->id);
    map_del(a->reported, key);
    if (!a->modules_open) {
        return;
    }
    switch (want->kind) {
    case LINK_MACHINE:
        machines_forget(a->machines, want->id);
        break;
    case LINK_DISK:
        disks_forget(a->disks, want->id);
        break;
    case LINK_BLOB:
        blobs_forget(a->blobs, want->id);
        break;
    case LINK_BLOB_JOB:
        jobs_forget(a->jobs, want->id);
        break;
    case LINK_MIGRATION:
        migrations_forget(a->migrations, want->id);
        break;
    default:
        map_del(a->net_items[want->kind], want->id);
        map_put(a->net_gone[want->kind], want->id, a);
        break;
    }
}

static void
apply_one(void *ctx, const struct want *want)
{
    agent_apply(ctx, want);
}

void
agent_completed(struct agent *a)
{
    a->complete = true;
    if (a->modules_open) {
        machines_complete(a->machines);
        disks_complete(a->disks);
        blobs_complete(a->blobs);
    }
}

/* ---- passes ---------------------------------------------------------------------------- */

static void on_pass(uv_timer_t *timer);

static void
pass_at(struct agent *a, int64_t when_ns)
{
    if (when_ns == INT64_MAX) {
        return;
    }
    int64_t wait = when_ns - clock_mono(a->config.clock);
    uint64_t ms = wait <= 0 ? 1 : (uint64_t)((wait + NS_PER_MS - 1) / NS_PER_MS);
    uv_update_time(a->config.loop);
    (void)uv_timer_start(&a->pass_timer, on_pass, ms, 0);
}

static void
prune_networks(struct agent *a)
{
    struct err err = {0};
    if (a->complete && !a->pruned && agent_net_settled(a)) {
        a->pruned = true;
        if (!net_prune(a->net, &err)) {
            log_warn("networks: %s", err.msg);
        }
    }
}

static void
on_pass(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    int64_t wake = INT64_MAX, next;
    if (!a->modules_open || a->closing || a->snapshot) {
        return;
    }
    uv_timer_stop(&a->pass_timer);
    /* Machines first and last: one that was deleted lets go of its port and disks, and
     * one whose disk or port has just become ready starts in this very pass. */
    if (migrations_at_switch(a->migrations)) { /* The kernel's answers take a while. */
        wake = clock_mono(a->config.clock) + SWITCH_LOOK_NS;
    } else {
        agent_net_pass(a, clock_mono(a->config.clock), &wake);
        prune_networks(a);
    }
    blobs_pass(a->blobs, &next);
    wake = MIN(wake, next);
    disks_pass(a->disks, &next);
    wake = MIN(wake, next);
    machines_pass(a->machines, &next);
    wake = MIN(wake, next);
    ksm_want(a->ksm, machines_may_merge(a->machines));
    jobs_pass(a->jobs, &next);
    wake = MIN(wake, next);
    migrations_pass(a->migrations, &next);
    wake = MIN(wake, next);
    agent_report_all(a);
    if (!uv_is_active((uv_handle_t *)&a->pass_timer)) { /* Else one is due already. */
        pass_at(a, wake);
    }
}

void
agent_wake(void *agent)
{
    struct agent *a = agent;
    if (!a->closing) {
        (void)uv_timer_start(&a->pass_timer, on_pass, 0, 0);
    }
}

static void
on_node_timer(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    wants_retry(a->wants);
    agent_report_node(a);
}

/* ---- opening --------------------------------------------------------------------------- */

static char *
sub(const struct agent *a, const char *name)
{
    return xasprintf("%s/%s", a->dir, name);
}

static bool
open_net(struct agent *a, struct err *err)
{
    static const char *const child[] = {"/proc/self/exe", "--metadata-child", NULL};
    struct net_config net = {
        .loop = a->config.loop,
        .cloud_id = a->identity.cloud_id,
        .clock = a->config.clock,
        .rng = a->config.rng,
        .event = agent_event,
        .event_ctx = a,
    };
    a->net = net_open(&net, err);
    if (!a->net) {
        return false;
    }
    AUTO(free) char *key = sub(a, "metadata.key");
    struct metadata_config metadata = {
        .loop = a->config.loop,
        .net = a->net,
        .child_argv = child,
        .child_uid = machines_job_uid(a->machines, 4095),
        .child_gid = machines_job_uid(a->machines, 4095),
        .key_path = key,
        .clock = a->config.clock,
        .rng = a->config.rng,
    };
    a->endpoints = endpoints_create(&(struct endpoints_config){
        .loop = a->config.loop, .net = a->net, .open = agent_open_channel, .ctx = a});
    a->metadata = metadata_open(&metadata, err);
    return a->metadata != NULL;
}

static bool
open_storage(struct agent *a, const char *jail_dir, struct err *err)
{
    AUTO(free) char *blobs = sub(a, "blobs");
    AUTO(free) char *pool = sub(a, "pool");
    AUTO(free) char *jobs = sub(a, "jobs");
    struct blobs_config b = {.loop = a->config.loop,
                             .dir = blobs,
                             .clock = a->config.clock,
                             .host = agent_blob_host(a)};
    struct disks_config d = {.loop = a->config.loop,
                             .dir = pool,
                             .blobs_dir = "blobs",
                             .shared_dir = a->config.shared_pool,
                             .node_id = a->identity.node_id,
                             .rng = a->config.rng,
                             .clock = a->config.clock,
                             .host = agent_disk_host(a)};
    struct jobs_config j = {.loop = a->config.loop,
                            .dir = jobs,
                            .jail_dir = jail_dir,
                            .clock = a->config.clock,
                            .blobs = NULL,
                            .host = agent_job_host(a)};
    a->blobs = blobs_open(&b, err);
    a->disks = a->blobs ? disks_open(&d, err) : NULL;
    j.blobs = a->blobs;
    j.disks = a->disks;
    j.machines = a->machines;
    a->jobs = a->disks ? jobs_open(&j, err) : NULL;
    return a->jobs != NULL;
}

static bool
open_machines(struct agent *a, const char *jail_dir, struct err *err)
{
    AUTO(free) char *dir = sub(a, "machines");
    struct machines_config m = {
        .loop = a->config.loop,
        .dir = dir,
        .jail_dir = jail_dir,
        .cloud_id = a->identity.cloud_id,
        .clock = a->config.clock,
        .accel = a->accel,
        .hardware = a->config.measured ? &a->config.measured->hardware : NULL,
        .host = agent_machine_host(a),
    };
    a->machines = machines_open(&m, err);
    if (!a->machines) {
        return false;
    }
    struct migrations_config moves = {.loop = a->config.loop,
                                      .dir = a->dir,
                                      .clock = a->config.clock,
                                      .machines = a->machines,
                                      .host = agent_migration_host(a)};
    a->migrations = migrations_open(&moves);
    return true;
}

static void
open_meter(struct agent *a)
{
    AUTO(free) char *path = sub(a, "meter.json");
    a->meter = meter_open(&(struct meter_config){.loop = a->config.loop,
                                                 .machines = a->machines,
                                                 .path = path,
                                                 .boot_id = a->boot_id,
                                                 .clock = a->config.clock,
                                                 .real_processors = a->accel.kvm,
                                                 .report = agent_report_meter,
                                                 .event = agent_event,
                                                 .ctx = a});
}

static void
open_ksm(struct agent *a)
{
    AUTO(free) char *note = sub(a, "ksm");
    a->ksm = ksm_open(&(struct ksm_config){.loop = a->config.loop,
                                           .root = "",
                                           .note = note,
                                           .event = agent_event,
                                           .ctx = a});
}

bool
agent_open_modules(struct agent *a, struct err *err)
{
    AUTO(free) char *jail_dir = sub(a, "jail");
    if (a->modules_open) {
        return true;
    }
    if (!open_machines(a, jail_dir, err) || !open_storage(a, jail_dir, err) ||
        !open_net(a, err)) {
        return false;
    }
    open_meter(a);
    open_ksm(a);
    a->modules_open = true;
    for (int kind = 1; kind < LINK_KINDS; kind++) {
        wants_each(a->wants, (enum link_kind)kind, apply_one, a);
    }
    /* What the kept set does not name stays until the control plane has said what came
     * since: an agent may have been killed with a record carried out, and not yet kept. */
    agent_wake(a);
    return true;
}

/* A lock of the process, not of the descriptor: children have a copy of that until they
 * run their program, and would hold the lock of an agent that was killed. */
bool
agent_lock(struct agent *a, struct err *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    AUTO(free) char *path = sub(a, "moln-node.pid");
    AUTO(fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    if (fcntl(fd, F_SETLK, &whole) < 0) {
        return err_set(err, ERR_BUSY, "another moln-node works in %s", a->state_dir);
    }
    char text[16];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || fd_write_all(fd, text, (size_t)len) < 0) {
        return err_sys(err, errno, "write %s", path);
    }
    a->lock_fd = take_fd(&fd);
    return true;
}

static void
on_durable(void *ctx, int64_t revision)
{
    struct agent *a = ctx;
    if (a->link && !a->closing) {
        link_client_ack(a->link, revision);
    }
    if (a->unsaid) {
        a->unsaid = false;
        agent_wake(a);
    }
}

static void
read_host(struct agent *a)
{
    struct err err = {0};
    AUTO(free) char *boot = NULL;
    if (file_read("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, &err)) {
        snprintf(a->boot_id, sizeof a->boot_id, "%.36s", boot);
    }
    (void)gethostname(a->hostname, sizeof a->hostname - 1);
    accel_detect(&a->accel);
    if (a->accel.kvm) {
        log_info("guests run with KVM");
    } else {
        log_warn("guests run emulated, many times slower: %s", a->accel.why);
    }
}

struct agent *
agent_create(const struct agent_config *config, struct err *err)
{
    struct agent *a = xcalloc(1, sizeof *a);
    a->config = *config;
    a->lock_fd = -1;
    a->state_dir = xstrdup(config->state_dir);
    a->dir = xasprintf("%s/node", config->state_dir);
    a->reported = map_create(free_value);
    for (int kind = 0; kind < LINK_KINDS; kind++) {
        a->net_items[kind] = map_create(free_value);
        a->net_gone[kind] = map_create(NULL);
    }
    (void)uv_timer_init(config->loop, &a->pass_timer);
    (void)uv_timer_init(config->loop, &a->node_timer);
    a->pass_timer.data = a->node_timer.data = a;
    lease_open(a);
    struct wants_config wants = {.loop = config->loop,
                                 .dir = a->dir,
                                 .rng = config->rng,
                                 .durable = on_durable,
                                 .ctx = a};
    if (!dir_make(a->dir, 0700, err) || !agent_lock(a, err) || !identity_load(a, err) ||
        !(a->wants = wants_open(&wants, err))) {
        agent_destroy(a);
        return NULL;
    }
    read_host(a);
    if (!agent_underlay_open(a, err) ||
        (a->identity.cloud_id[0] && !agent_open_modules(a, err)) ||
        !agent_connect(a, err)) {
        agent_destroy(a);
        return NULL;
    }
    (void)uv_timer_start(&a->node_timer, on_node_timer, NODE_EVERY_MS, NODE_EVERY_MS);
    return a;
}

static void
on_closed(uv_handle_t *handle)
{
    struct agent *a = handle->data;
    a->closing_handles--;
}

void
agent_destroy(struct agent *a)
{
    if (!a) {
        return;
    }
    a->closing = true;
    link_client_destroy(a->link);
    meter_close(a->meter);
    ksm_close(a->ksm);
    jobs_close(a->jobs);
    migrations_stop(a->migrations);
    machines_close(a->machines);
    migrations_close(a->migrations);
    disks_close(a->disks);
    blobs_close(a->blobs);
    endpoints_destroy(a->endpoints);
    metadata_close(a->metadata);
    net_close(a->net);
    wants_close(a->wants);
    a->closing_handles = 3;
    uv_close((uv_handle_t *)&a->pass_timer, on_closed);
    uv_close((uv_handle_t *)&a->node_timer, on_closed);
    lease_close(a, on_closed);
    while (a->closing_handles > 0) {
        (void)uv_run(a->config.loop, UV_RUN_ONCE);
    }
    for (int kind = 0; kind < LINK_KINDS; kind++) {
        map_destroy(a->net_items[kind]);
        map_destroy(a->net_gone[kind]);
    }
    map_destroy(a->reported);
    if (a->lock_fd >= 0) {
        close(a->lock_fd);
    }
    free(a->state_dir);
    free(a->dir);
    free(a);
}
