/* reports.c - see reports.h. */
#include "control/reports.h"

#include "base/log.h"
#include "base/tlv.h"
#include "control/jobs.h"
#include "control/migrations.h"
#include "control/node_report.h"
#include "control/uplinks.h"
#include "control/use_report.h"
#include "control/wants.h"
#include "core/instance_rows.h"
#include "core/migration_rows.h"

bool
row_put_new(struct txn *txn, const struct row_type *type, const void *row,
            struct err *err)
{
    const void *old;
    if (!row_get(txn, type, row, &old, err)) {
        return false;
    }
    return (old && desc_equal(type->desc, old, row)) || row_put(txn, type, row, err);
}

static bool
is_absent(const char *state)
{
    return str_eq(state, "absent");
}

/* Where the object is that a machine or disk stands for; "" when there is none, or it is
 * nowhere. What a node says of one that is elsewhere by now is only about its own copy. */
static bool
instance_home(const struct pass *pass, const struct row_node_want *want,
              const char **out, struct err *err)
{
    const struct row_instance *row;
    const struct row_instance key = {.account = want->account, .id = want->id};
    if (!row_get(pass->txn, &row_instance_type, &key, (const void **)&row, err)) {
        return false;
    }
    *out = row && row->node_id ? row->node_id : "";
    return true;
}

static bool
report_machine(const struct pass *pass, const struct row_node_want *want,
               const struct link_machine_seen *r, struct err *err)
{
    struct row_machine_seen row = {
        .id = want->id,
        .node_id = want->node_id,
        .generation = r->generation,
        .state = r->state,
        .reason = r->reason,
        .message = r->message,
        .reboot_count = r->reboot_count,
        .started_at = r->started_at,
        .host_fault = r->host_fault,
        .crashes = r->crashes,
        .guest_reboots = r->guest_reboots,
        .account = want->account,
        .leased = r->leased,
        .machine_type = r->machine_type,
        .cpu_model = r->cpu_model,
    };
    bool gone = want->deleted && is_absent(r->state);
    const char *home;
    if (!instance_home(pass, want, &home, err)) {
        return false;
    }
    if (*home && !str_eq(home, want->node_id)) {
        return !gone ||
               want_forget(pass->txn, want->node_id, LINK_MACHINE, want->id, err);
    }
    if (gone) {
        if (!want_forget(pass->txn, want->node_id, LINK_MACHINE, want->id, err) ||
            !row_delete(pass->txn, &row_machine_seen_type, &row, err)) {
            return false;
        }
    } else if (!row_put_new(pass->txn, &row_machine_seen_type, &row, err)) {
        return false;
    }
    if (!instance_pass(pass, want->account, want->id, err)) {
        return false;
    }
    /* A copy may wait for this machine to be off. */
    const struct row_instance *instance;
    struct row_instance key = {.account = want->account, .id = want->id};
    return row_get(pass->txn, &row_instance_type, &key, (const void **)&instance,
                   err) &&
           (!instance || str_empty(instance->held_by) ||
            job_pass(pass, want->account, instance->held_by, err));
}

/* In a shared pool, what has been there is never made anew: its file may only be out of
 * sight. */
static bool
note_made(const struct pass *pass, const struct row_volume *volume, const char *state,
          struct err *err)
{
    if (!volume || volume->made || str_empty(volume->pool) || !str_eq(state, "ready")) {
        return true;
    }
    struct row_volume next = *volume;
    next.made = true;
    return row_put(pass->txn, &row_volume_type, &next, err);
}

/* Beyond it a node is a liar; sums of them fit any number of ours. */
static int64_t
disk_bytes(int64_t bytes)
{
    return MAX(0, MIN(bytes, INT64_C(1) << 50));
}

/* Whether the node's word ends the volume: of what lies in a shared pool, if it was told to
 * erase it, and not only to lose its part in it. */
static bool
ends_volume(const struct pass *pass, const struct row_node_want *want,
            const struct row_volume *volume, bool *out, struct err *err)
{
    struct link_disk record = {.erase = true};
    bool ends = volume && volume->want_deleted;
    if (ends && !str_empty(volume->pool) &&
        !tlv_decode(&link_disk_desc, want->body.data, want->body.len,
                    txn_arena(pass->txn), &record, err)) {
        return false;
    }
    *out = ends && record.erase;
    return true;
}

static bool
report_disk(const struct pass *pass, const struct row_node_want *want,
            const struct link_disk_seen *r, struct err *err)
{
    struct row_disk_seen row = {
        .id = want->id,
        .node_id = want->node_id,
        .generation = r->generation,
        .state = r->state,
        .used_bytes = disk_bytes(r->used_bytes),
        .message = r->message,
        .size_bytes = disk_bytes(r->size_bytes),
        .account = want->account,
    };
    const struct row_volume *volume;
    struct row_volume key = {.account = want->account, .id = want->id};
    if (!row_get(pass->txn, &row_volume_type, &key, (const void **)&volume, err)) {
        return false;
    }
    /* Of a disk that is moved, its owner's word counts. */
    bool owner = !volume || str_eq(volume->node_id, want->node_id);
    if (want->deleted && is_absent(r->state)) {
        bool ends;
        if (!ends_volume(pass, want, volume, &ends, err) ||
            !want_forget(pass->txn, want->node_id, LINK_DISK, want->id, err)) {
            return false;
        }
        return !owner || (row_delete(pass->txn, &row_disk_seen_type, &row, err) &&
                          (ends ? volume_mark_deleted(pass->txn, volume, err)
                                : volume_pass(pass, want->account, want->id, err)));
    }
    return !owner || (row_put_new(pass->txn, &row_disk_seen_type, &row, err) &&
                      note_made(pass, volume, r->state, err));
}

static bool
report_job(const struct pass *pass, const struct row_node_want *want,
           const struct link_blob_job_seen *r, struct err *err)
{
    struct row_job_seen row = {
        .id = want->id,
        .node_id = want->node_id,
        .state = r->state,
        .percent = MAX(0, MIN(r->percent, 100)),
        .message = r->message,
        .error_code = r->error_code,
        .format = r->format,
        .size_bytes = disk_bytes(r->size_bytes),
        .virtual_bytes = disk_bytes(r->virtual_bytes),
        .sha256 = r->sha256,
        .firmware = r->firmware,
        .account = want->account,
    };
    if (want->deleted && is_absent(r->state)) {
        return want_forget(pass->txn, want->node_id, LINK_BLOB_JOB, want->id, err) &&
               row_delete(pass->txn, &row_job_seen_type, &row, err);
    }
    return row_put_new(pass->txn, &row_job_seen_type, &row, err) &&
           job_pass(pass, want->account, want->id, err);
}

/* Ports, networks, subnets, blobs: only their end matters here. */
static bool
report_plain(const struct pass *pass, const struct row_node_want *want,
             const char *state, const char *message, struct err *err)
{
    if (str_eq(state, "error")) {
        log_warn("node %s: %s: %s", want->node_id, want->id,
                 message ? message : "error");
    }
    if (!is_absent(state)) {
        return true;
    }
    return want_forget(pass->txn, want->node_id, (enum link_kind)want->kind, want->id,
                       err);
}

static bool
report_event(const struct pass *pass, const char *node_id, const struct link_event *r,
             const char *event_id, struct err *err)
{
    struct row_node_event row = {
        .node_id = node_id,
        .id = event_id,
        .at = r->at > 0 && r->at < pass->now_ns ? r->at : pass->now_ns,
        .kind = r->kind,
        .object = r->object,
        .message = r->message,
        .level = r->level,
    };
    return row_put(pass->txn, &row_node_event_type, &row, err);
}

bool
event_hourly(const struct pass *pass, const char *node_id,
             const struct link_event *event, const char *word, struct err *err)
{
    int64_t hour = pass->now_ns - pass->now_ns % (3600 * NS_PER_S);
    char *id =
        arena_printf(txn_arena(pass->txn), "%016" PRIx64 "%s", (uint64_t)hour, word);
    const struct row_node_event key = {.node_id = node_id, .id = id};
    const void *told;
    log_warn("node %s: %s", node_id, event->message);
    return row_get(pass->txn, &row_node_event_type, &key, &told, err) &&
           (told || report_event(pass, node_id, event, id, err));
}

/* A migration has two sides. */
static const char *
side_of(const struct row_migration *m, const char *node_id)
{
    bool open = m && migration_is_open(m);
    return !open ? NULL : str_eq(m->to_node, node_id) ? node_id : m->from_node;
}

/* Whose the thing is that 'node_id' reported; NULL: nobody's any more, as when a node repeats
 * its last word. */
static bool
owner_of(const struct pass *pass, const char *node_id, enum link_kind kind,
         const char *id, const char **out, struct err *err)
{
    const struct row_machine_seen machine = {.id = id}, *machine_seen = NULL;
    const struct row_disk_seen disk = {.id = id}, *disk_seen = NULL;
    const struct row_job_seen job = {.id = id}, *job_seen = NULL;
    const struct row_migration *migration = NULL;
    struct txn *txn = pass->txn;
    bool ok = true;
    if (kind == LINK_MACHINE) {
        ok = row_get(txn, &row_machine_seen_type, &machine,
                     (const void **)&machine_seen, err);
    } else if (kind == LINK_DISK) {
        ok = row_get(txn, &row_disk_seen_type, &disk, (const void **)&disk_seen, err);
    } else if (kind == LINK_BLOB_JOB) {
        ok = row_get(txn, &row_job_seen_type, &job, (const void **)&job_seen, err);
    } else if (kind == LINK_MIGRATION) {
        ok = migration_get(txn, id, &migration, err);
    }
    *out = machine_seen ? machine_seen->node_id
           : disk_seen  ? disk_seen->node_id
           : job_seen   ? job_seen->node_id
                        : side_of(migration, node_id);
    return ok;
}

/* A report about what is not wanted of the node changes nothing; one about what is
 * another's is told of, too. */
static bool
refuse_report(const struct pass *pass, const char *node_id, enum link_kind kind,
              const char *id, struct err *err)
{
    const char *owner;
    if (!owner_of(pass, node_id, kind, id, &owner, err)) {
        return false;
    }
    if (str_empty(owner) || str_eq(owner, node_id)) {
        log_debug("node %s: a report about %s, which is not wanted of it", node_id, id);
        return true;
    }
    const struct link_event event = {
        .kind = "foreign-report",
        .object = arena_strdup(txn_arena(pass->txn), id),
        .level = "error",
        .message = arena_printf(txn_arena(pass->txn),
                                "it reported %s, which is on %s: refused; if nobody "
                                "restored or copied its folder, revoke it",
                                id, owner),
    };
    return event_hourly(pass, node_id, &event, "foreign", err);
}

/* The id that a report is about: every seen record of an object begins with it. */
static const char *
report_id(enum link_kind kind, const void *record)
{
    const struct desc *desc = link_seen_desc(kind);
    const struct desc_field *field = desc ? desc_find(desc, "id") : NULL;
    return field ? *(const char **)desc_at(field, record) : NULL;
}

/* Says that what is wanted gone is absent, of an earlier record: it may have been wanted,
 * and made, since. */
static bool
is_past(const struct row_node_want *want, enum link_kind kind, const void *record,
        int64_t revision)
{
    const struct desc_field *field = desc_find(link_seen_desc(kind), "state");
    return want->deleted && revision && revision < want->revision && field &&
           is_absent(*(const char *const *)desc_at(field, record));
}

static bool
report_object(const struct pass *pass, const char *node_id, enum link_kind kind,
              const void *record, int64_t revision, const char *event_id,
              struct err *err)
{
    const char *id = report_id(kind, record);
    const struct row_node_want *want;
    if (str_empty(id)) {
        return err_set(err, ERR_CORRUPT, "node %s: a report without an id", node_id);
    }
    if (!want_get(pass->txn, node_id, kind, id, &want, err)) {
        return false;
    }
    if (!want) {
        return refuse_report(pass, node_id, kind, id, err);
    }
    if (is_past(want, kind, record, revision)) {
        return true;
    }
    switch (kind) {
    case LINK_MACHINE:
        return report_machine(pass, want, record, err);
    case LINK_DISK:
        return report_disk(pass, want, record, err);
    case LINK_BLOB_JOB:
        return report_job(pass, want, record, err);
    case LINK_MIGRATION:
        return migration_report(pass, want, record, err);
    case LINK_BLOB: {
        const struct link_blob_seen *r = record;
        return report_plain(pass, want, r->state, r->message, err);
    }
    case LINK_UPLINK:
        return uplink_report(pass, want, record, event_id, err);
    case LINK_PORT:
    case LINK_METADATA: {
        const struct link_port_seen *r = record;
        return report_plain(pass, want, r->state, r->message, err);
    }
    default: {
        const struct link_network_seen *r = record;
        return report_plain(pass, want, r->state, r->message, err);
    }
    }
}

bool
report_apply(const struct pass *pass, const char *node_id, enum link_kind kind,
             const void *record, int64_t revision, const char *event_id,
             struct err *err)
{
    if (kind == LINK_NODE) {
        return node_report(pass, node_id, record, err);
    }
    if (kind == LINK_METER) {
        return use_report(pass, node_id, record, err);
    }
    if (kind == LINK_EVENT) {
        return report_event(pass, node_id, record, event_id, err);
    }
    const struct desc_field *state = desc_find(link_seen_desc(kind), "state");
    bool absent = state && is_absent(*(const char *const *)desc_at(state, record));
    return report_object(pass, node_id, kind, record, revision, event_id, err) &&
           (!absent || migrations_of_node(pass, node_id, err));
}
