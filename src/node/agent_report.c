#include "base/tlv.h"
#include "node/agent_impl.h"
#include "node/machine/offer.h"

#include <sys/sysinfo.h>

/* What was said last of one record. */
struct said {
    size_t len;
    bool absent;
    int64_t revision; /* Of the record that it answered. */
    char bytes[];
};

/* Says it unless it was said already; that it is absent, once for each record, since the
 * control plane may have wanted it again between two deletions. A record that is deleted and absent is forgotten once
 * everything said has arrived; by both sides, so that its deletion must be on disk before:
 * an agent killed in between would make the thing anew, and nobody would tell it. */
void
agent_report(struct agent *a, enum link_kind kind, const char *id, bool absent,
             const void *record)
{
    char key[REPORT_KEY_MAX];
    AUTO(buf) struct buf bytes = {0};
    const struct desc *desc = link_seen_desc(kind);
    const struct want *want = wants_get(a->wants, kind, id);
    int64_t revision = want ? want->revision : 0;
    if (absent && want && !wants_is_kept(a->wants, want)) {
        a->unsaid = true;
        return;
    }
    snprintf(key, sizeof key, "%d/%s", (int)kind, id);
    tlv_encode(desc, record, &bytes);
    const struct said *last = map_get(a->reported, key);
    if (last && last->len == bytes.len && (!absent || last->revision == revision) &&
        memcmp(last->bytes, bytes.data, last->len) == 0) {
        return;
    }
    if (!a->link || !link_client_report(a->link, kind, revision, record)) {
        return; /* Said at a later pass. */
    }
    struct said *said = xmalloc(sizeof *said + bytes.len);
    said->len = bytes.len;
    said->absent = absent;
    said->revision = revision;
    memcpy(said->bytes, bytes.data, bytes.len);
    map_put(a->reported, key, said);
}

static void
see_machine(void *ctx, const struct link_machine_seen *seen)
{
    struct agent *a = ctx;
    if (wants_get(a->wants, LINK_MACHINE, seen->id)) {
        agent_report(a, LINK_MACHINE, seen->id, str_eq(seen->state, "absent"), seen);
    }
}

static void
see_disk(void *ctx, const struct link_disk_seen *seen)
{
    struct agent *a = ctx;
    if (wants_get(a->wants, LINK_DISK, seen->id)) {
        agent_report(a, LINK_DISK, seen->id, str_eq(seen->state, "absent"), seen);
    }
}

static void
see_blob(void *ctx, const struct link_blob_seen *seen)
{
    struct agent *a = ctx;
    if (wants_get(a->wants, LINK_BLOB, seen->id)) {
        agent_report(a, LINK_BLOB, seen->id, str_eq(seen->state, "absent"), seen);
    }
}

static void
see_job(void *ctx, const struct link_blob_job_seen *seen)
{
    struct agent *a = ctx;
    if (wants_get(a->wants, LINK_BLOB_JOB, seen->id)) {
        agent_report(a, LINK_BLOB_JOB, seen->id, str_eq(seen->state, "absent"), seen);
    }
}

static void
see_migration(void *ctx, const struct link_migration_seen *seen)
{
    struct agent *a = ctx;
    if (wants_get(a->wants, LINK_MIGRATION, seen->id)) {
        agent_report(a, LINK_MIGRATION, seen->id, str_eq(seen->state, "absent"), seen);
    }
}

/* ---- what is over ---------------------------------------------------------------------- */

struct endings {
    struct agent *agent;
    VEC(const struct want *) over;
};

/* A record deleted without ever having been made here is absent too. */
static void
find_over(void *ctx, const struct want *want)
{
    struct endings *e = ctx;
    char key[REPORT_KEY_MAX];
    snprintf(key, sizeof key, "%d/%s", (int)want->kind, want->id);
    const struct said *said = map_get(e->agent->reported, key);
    if (want->deleted && said && said->absent && said->revision == want->revision) {
        VEC_PUSH(&e->over, want);
    }
}

static void
forget_over(struct agent *a)
{
    struct endings e = {.agent = a};
    if (!a->link || !link_client_is_up(a->link) ||
        link_client_reports_waiting(a->link) > 0) {
        return;
    }
    for (int kind = 1; kind < LINK_KINDS; kind++) {
        wants_each(a->wants, (enum link_kind)kind, find_over, &e);
    }
    for (size_t i = 0; i < e.over.count; i++) {
        struct want want = *e.over.items[i];
        char key[REPORT_KEY_MAX];
        snprintf(key, sizeof key, "%d/%s", (int)want.kind, want.id);
        map_del(a->reported, key);
        switch (want.kind) {
        case LINK_MACHINE:
            machines_drop_absent(a->machines, want.id);
            break;
        case LINK_DISK:
            disks_drop_absent(a->disks, want.id);
            break;
        case LINK_BLOB:
            blobs_drop_absent(a->blobs, want.id);
            break;
        case LINK_BLOB_JOB:
            jobs_drop_absent(a->jobs, want.id);
            break;
        case LINK_MIGRATION:
            migrations_drop_absent(a->migrations, want.id);
            break;
        default:
            map_del(a->net_items[want.kind], want.id);
            break;
        }
        wants_drop(a->wants, want.kind, want.id);
    }
    VEC_FREE(&e.over);
}

void
agent_report_migrations(void *agent)
{
    struct agent *a = agent;
    AUTO(arena) struct arena *arena = arena_create();
    if (a->link && a->modules_open) {
        migrations_seen(a->migrations, arena, see_migration, a);
    }
}

void
agent_report_all(struct agent *a)
{
    AUTO(arena) struct arena *arena = arena_create();
    if (!a->link || !a->modules_open) {
        return;
    }
    forget_over(a);
    agent_net_seen(a, arena);
    blobs_seen(a->blobs, arena, see_blob, a);
    disks_seen(a->disks, arena, see_disk, a);
    machines_seen(a->machines, arena, see_machine, a);
    jobs_seen(a->jobs, arena, see_job, a);
    migrations_seen(a->migrations, arena, see_migration, a);
}

/* ---- the node, and events -------------------------------------------------------------- */

static int64_t
available_bytes(void)
{
    struct err err = {0};
    AUTO(free) char *text = NULL;
    if (!file_read("/proc/meminfo", 65536, &text, NULL, &err)) {
        return 0;
    }
    const char *line = strstr(text, "MemAvailable:");
    return line ? strtoll(line + strlen("MemAvailable:"), NULL, 10) * (int64_t)KIB : 0;
}

void
agent_report_node(struct agent *a)
{
    struct sysinfo info;
    if (!a->link || !a->modules_open || sysinfo(&info) < 0) {
        return;
    }
    struct link_node_seen seen = {
        .boot_id = a->boot_id,
        .version = a->config.version,
        .vcpus = a->accel.host_vcpus,
        .memory_bytes = (int64_t)info.totalram * info.mem_unit,
        .pool_bytes = disks_total_bytes(a->disks),
        .pool_free_bytes = disks_free_bytes(a->disks),
        .accel = a->accel.kvm ? "kvm" : "tcg",
        .cpu_model = a->accel.cpu_model,
        .machines = (int64_t)machines_running(a->machines),
        .memory_free_bytes = available_bytes(),
        .hostname = a->hostname,
        .shared_pool = disks_shared_pool(a->disks),
        .underlay = a->identity.underlay,
        .nat_leases = true,
        .post_copy = measure_post_copy(""),
    };
    struct measured *m = a->config.measured;
    if (m) {
        seen.swap_bytes = m->swap_bytes;
        seen.speed = m->speed;
        seen.hardware = &m->hardware;
        seen.features.items = m->features;
        seen.features.count = m->feature_count;
        seen.watts = measure_watts("", clock_mono(a->config.clock), &a->power);
    }
    const struct offer *o = a->offer;
    if (o) {
        seen.qemu_version = o->qemu_version;
        seen.machine_types.items = o->machine_types;
        seen.machine_types.count = o->machine_type_count;
        seen.cpu_models.items = o->cpu_models;
        seen.cpu_models.count = o->cpu_model_count;
    }
    (void)link_client_report(a->link, LINK_NODE, 0, &seen);
}

void
agent_offer(struct agent *a, const struct offer *offer)
{
    a->offer = offer;
    agent_report_node(a);
}

void
agent_report_meter(void *agent, const struct link_meter *meter)
{
    struct agent *a = agent;
    if (a->link) {
        (void)link_client_report(a->link, LINK_METER, 0, meter);
    }
}

void
agent_event(void *agent, const char *kind, const char *object, const char *level,
            const char *message)
{
    struct agent *a = agent;
    struct link_event event = {
        .kind = kind,
        .object = object,
        .message = message,
        .at = clock_real(a->config.clock),
        .level = level,
    };
    if (a->link) {
        (void)link_client_report(a->link, LINK_EVENT, 0, &event);
    }
}
