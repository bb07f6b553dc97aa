/* migration_mirror.c - a guest's local disks go along: a block job each, whose target is the
 * receiver's export of that disk, by a courier. Those of a shared pool stay where they are. */
#include "base/log.h"
#include "node/migrate/migration_impl.h"

/* Block jobs' and nodes' names hold 31 bytes: the end of the id tells it apart. */
void
mirror_name(const struct migration *m, size_t disk, char out[32])
{
    size_t len = strlen(m->id);
    snprintf(out, 32, "move-%s-%zu", m->id + (len > 12 ? len - 12 : 0), disk);
}

bool
mirror_copies(const struct migration *m, const struct machine_body *body, size_t disk)
{
    const char *id = body->want->disks.items[disk].disk_id;
    for (size_t i = 0; i < m->want->copy_disks.count; i++) {
        if (str_eq(m->want->copy_disks.items[i], id)) {
            return true;
        }
    }
    return false;
}

/* ---- what QEMU is to do ------------------------------------------------------------------ */

void
mirrors_begin(const struct migration *m, const struct machine_body *body,
              struct script *s)
{
    for (size_t i = 0; i < body->want->disks.count; i++) {
        char name[32], node[32];
        if (!mirror_copies(m, body, i)) {
            continue;
        }
        mirror_name(m, i, name);
        snprintf(node, sizeof node, "disk%zu", i);
        script_add(s, "blockdev-add",
                   json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:b}}", "driver", "nbd",
                             "node-name", name, "export", node, "server", "type",
                             "unix", "path", name, "abstract", 1),
                   -1);
        /* What the guest writes meanwhile goes to both: it converges, always. */
        script_add(s, "blockdev-mirror",
                   json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I}", "job-id", name,
                             "device", node, "target", name, "sync", "top", "copy-mode",
                             "write-blocking", "auto-dismiss", 0, "speed",
                             (json_int_t)(m->want->bandwidth_bps / 8)),
                   -1);
    }
}

void
mirrors_end(const struct migration *m, const struct machine_body *body,
            struct script *s)
{
    for (size_t i = 0; i < body->want->disks.count; i++) {
        char name[32];
        mirror_name(m, i, name);
        if (mirror_copies(m, body, i)) {
            script_add(s, "block-job-cancel", json_pack("{s:s}", "device", name), -1);
        }
    }
}

void
mirrors_give_up(const struct migration *m, const struct machine_body *body,
                struct script *s)
{
    for (size_t i = 0; i < body->want->disks.count; i++) {
        char name[32];
        mirror_name(m, i, name);
        if (mirror_copies(m, body, i)) {
            script_try(s, "block-job-cancel",
                       json_pack("{s:s, s:b}", "device", name, "force", 1));
        }
    }
}

void
mirrors_forget(const struct migration *m, const struct machine_body *body,
               struct script *s)
{
    for (size_t i = 0; i < body->want->disks.count; i++) {
        char name[32];
        mirror_name(m, i, name);
        if (mirror_copies(m, body, i)) {
            script_try(s, "job-dismiss", json_pack("{s:s}", "id", name));
            script_try(s, "blockdev-del", json_pack("{s:s}", "node-name", name));
        }
    }
}

/* ---- how far it is ----------------------------------------------------------------------- */

static void
read_job(struct migration *m, const json_t *job, bool *all_ready, bool *all_ended)
{
    const char *status = json_string_value(json_object_get(job, "status"));
    const char *error = json_string_value(json_object_get(job, "error"));
    struct migration_progress *p = &m->progress;
    p->disk_bytes += json_integer_value(json_object_get(job, "total-progress"));
    p->disk_done_bytes += json_integer_value(json_object_get(job, "current-progress"));
    if (error) {
        m->disks = PART_BROKEN;
        migration_note(m, "a disk could not be copied: %.120s", error);
    }
    *all_ready = *all_ready && str_eq(status, "ready");
    *all_ended = *all_ended && str_eq(status, "concluded");
}

static void
on_jobs(void *ctx, json_t *result, const struct err *err)
{
    struct migration *m = ctx;
    struct machine_body body;
    bool all_ready = true, all_ended = true;
    size_t i;
    json_t *job;
    if (err || !migration_body(m, &body)) {
        return;
    }
    m->progress.disk_bytes = m->progress.disk_done_bytes = 0;
    json_array_foreach(result, i, job)
    {
        char name[32];
        const char *id = json_string_value(json_object_get(job, "id"));
        for (size_t d = 0; d < body.want->disks.count; d++) {
            mirror_name(m, d, name);
            if (str_eq(name, id)) {
                read_job(m, job, &all_ready, &all_ended);
            }
        }
    }
    if (m->disks == PART_BEGUN && all_ready) {
        m->disks = PART_READY;
    } else if (m->disks == PART_BEGUN && all_ended) {
        m->disks = PART_BROKEN;
        migration_note(m, "the copying of a disk ended too early");
    } else if (m->disks == PART_ENDING && all_ended) {
        m->disks = PART_ENDED;
    }
}

void
mirrors_poll(struct migration *m, struct qmp *qmp)
{
    if (m->disks == PART_BEGUN || m->disks == PART_ENDING || m->disks == PART_READY) {
        struct script *s = script_create();
        script_add(s, "query-jobs", NULL, -1);
        migration_poll(m, s, qmp, on_jobs);
    }
}

/* A job of the machine's has come further: maybe one of ours. */
void
mirrors_job_event(struct migration *m)
{
    struct machine_body body;
    m->job_news = m->disks == PART_BEGUN || m->disks == PART_ENDING;
    if (m->job_news && m->scripts == 0 && migration_body(m, &body) && body.qmp) {
        m->job_news = false;
        mirrors_poll(m, body.qmp);
    }
}

/* A mirror is as far as its disk's part needs, as asking would say one answer later. */
void
mirrors_event(struct migration *m, bool ready, const json_t *data)
{
    const char *device = json_string_value(json_object_get(data, "device"));
    struct machine_body body;
    uint32_t all = 0, one = 0;
    if (!device || json_object_get(data, "error") || !migration_body(m, &body)) {
        return; /* Asking tells what is wrong. */
    }
    for (size_t d = 0; d < MIN(body.want->disks.count, 32u); d++) {
        char name[32];
        mirror_name(m, d, name);
        if (mirror_copies(m, &body, d)) {
            all |= 1u << d;
            one |= str_eq(name, device) ? 1u << d : 0;
        }
    }
    *(ready ? &m->ready_mirrors : &m->ended_mirrors) |= one;
    if (m->disks == PART_BEGUN && m->ready_mirrors == all) {
        m->disks = PART_READY;
    } else if (m->disks == PART_ENDING && m->ended_mirrors == all) {
        m->disks = PART_ENDED;
    } else {
        return;
    }
    m->turn++; /* What was asked before is stale. */
    migration_step(m);
}
