/* instance_loop.c - see instance_loop.h. */
#include "control/instance_loop.h"

#include "base/log.h"
#include "base/tlv.h"
#include "control/drains.h"
#include "control/guest.h"
#include "control/instance_metadata.h"
#include "control/jobs.h"
#include "control/migrations.h"
#include "control/network_interface.h"
#include "control/network_loop.h"
#include "control/network_places.h"
#include "control/network_records.h"
#include "control/recovery.h"
#include "control/wants.h"
#include "core/instance_rows.h"
#include "core/migration_cold.h"
#include "core/network_rows.h"
#include "core/uplink_rows.h"

/* The rows around one instance, as a pass needs them. */
struct scene {
    const struct pass *pass;
    const struct row_instance *instance;
    const struct row_machine_seen *seen; /* NULL: nothing reported yet. */
    const struct row_volume *root;       /* NULL when gone. */
    const struct row_eni *eni;
    const struct row_subnet *subnet;
    const struct row_vpc *vpc;
    const struct row_migration *migration; /* NULL: it is not being moved. */
    /* The node whose wants are made now; in a migration there are two. */
    const char *node_id;
    bool standby; /* The other one is the owner. */
};

#define GET(scene, type, out, err, ...) \
    row_get((scene)->pass->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

static bool
scene_load(struct scene *s, struct err *err)
{
    const struct row_instance *i = s->instance;
    if (!GET(s, machine_seen, &s->seen, err, .id = i->id) ||
        !GET(s, volume, &s->root, err, .account = i->account,
             .id = i->root_volume_id)) {
        return false;
    }
    s->node_id = i->node_id;
    if (!migration_get(s->pass->txn, i->migration_id, &s->migration, err)) {
        return false;
    }
    if (i->eni_ids.count == 0) {
        return true;
    }
    if (!GET(s, eni, &s->eni, err, .account = i->account, .id = i->eni_ids.items[0])) {
        return false;
    }
    return GET(s, subnet, &s->subnet, err, .account = i->account, .id = i->subnet_id) &&
           GET(s, vpc, &s->vpc, err, .account = i->account, .id = i->vpc_id);
}

/* ---- wanting it ------------------------------------------------------------------ */

static bool
want_blob(const struct scene *s, const char *blob_id, struct err *err)
{
    if (str_empty(blob_id)) {
        return true;
    }
    const struct row_blob *blob;
    if (!GET(s, blob, &blob, err, .id = blob_id)) {
        return false;
    }
    if (!blob) {
        return err_set(err, ERR_CORRUPT, "instance %s needs blob %s, which is gone",
                       s->instance->id, blob_id);
    }
    struct link_blob record = {
        .id = blob->id,
        .size_bytes = blob->size_bytes,
        .sha256 = blob->sha256,
        .format = blob->format,
        .virtual_bytes = blob->virtual_bytes,
    };
    return want_put(s->pass->txn, s->node_id, LINK_BLOB, blob->id, "", &record, err);
}

static bool
want_disk(const struct scene *s, struct err *err)
{
    const struct row_volume *v = s->root;
    struct link_disk record = {
        .id = v->id,
        .generation = v->generation,
        .size_bytes = v->size_gib * (int64_t)GIB,
        .base_blob = v->base_blob,
        .tier = v->pool,
        .made = v->made && (!s->standby || !str_empty(v->pool)),
    };
    if (s->standby && s->migration->cold && str_empty(v->pool)) {
        record.incoming = s->migration->id;
    }
    return want_blob(s, v->base_blob, err) &&
           want_blob(s, s->instance->kernel_blob, err) &&
           want_blob(s, s->instance->initrd_blob, err) &&
           want_put(s->pass->txn, s->node_id, LINK_DISK, v->id, v->account, &record,
                    err);
}

/* It goes with its machine. */
static bool
put_port(const struct scene *s, const struct link_port *record, struct err *err)
{
    AUTO(buf) struct buf body = {0};
    tlv_encode(&link_port_desc, record, &body);
    const struct row_node_want want = {
        .node_id = s->node_id,
        .kind = LINK_PORT,
        .id = record->id,
        .account = s->instance->account,
        .scope = s->instance->id,
        .body = {(const uint8_t *)body.data, body.len},
    };
    return want_put_body(s->pass->txn, &want, err);
}

/* A local network interface: a card on what its account has been lent there. Where that is
 * nothing, it names no uplink of the node, and so it does not come up. */
static bool
port_lent(const struct scene *s, const struct row_eni *eni, struct link_port *out,
          struct err *err)
{
    const struct row_uplink *uplink;
    if (!uplink_lent(s->pass->txn, eni->account, eni->zone, s->node_id, &uplink, err)) {
        return false;
    }
    out->mode = uplink && str_eq(uplink->device, "vfio") ? "vfio" : "macvtap";
    out->uplink_id = uplink ? uplink->id : "uplink-none";
    return true;
}

/* One network card; 'eni' NULL when its row is gone. */
static bool
want_port(const struct scene *s, const struct row_eni *eni, struct err *err)
{
    const struct row_instance *i = s->instance;
    struct txn *txn = s->pass->txn;
    const struct instance_type *type = config_type(s->pass->config, i->type);
    const struct row_subnet *subnet;
    if (!GET(s, subnet, &subnet, err, .account = eni->account, .id = eni->subnet_id)) {
        return false;
    }
    if (!subnet) {
        return err_set(err, ERR_CORRUPT, "interface %s has lost its subnet", eni->id);
    }
    struct link_port record = {
        .id = eni->id,
        .subnet_id = eni->subnet_id,
        .machine_id = i->id,
        .mac = eni->mac,
        .ipv4 = eni->ipv4,
        .hostname = instance_card_hostname(txn_arena(txn), i, eni),
        .generation = MAX(eni->generation, 1),
        .up_bps = type ? type->network_burst_bps : 0,
        .down_bps = type ? type->network_burst_bps : 0,
        .check_source = eni->source_dest_check,
        .device_index = eni->device_index,
        .standby = s->standby,
        .ipv4_more = {eni->more_ipv4.items, eni->more_ipv4.count},
        .ipv6 = {eni->ipv6.items, eni->ipv6.count},
        .group_ids = {eni->group_ids.items, eni->group_ids.count},
    };
    const struct row_node_want *there;
    bool lent = lni_at(subnet, eni->device_index);
    return network_want_base(s->pass, s->node_id, s->vpc, subnet, err) &&
           (lent ? port_lent(s, eni, &record, err)
                 : port_publics(txn, eni, &record, err)) &&
           want_get(txn, s->node_id, LINK_PORT, record.id, &there, err) &&
           put_port(s, &record, err) &&
           ((there && !there->deleted) ||
            interface_tell(s->pass, eni->account, eni->id, err));
}

static bool
want_ports(const struct scene *s, struct err *err)
{
    const struct row_instance *i = s->instance;
    for (size_t n = 0; n < i->eni_ids.count; n++) {
        const struct row_eni *eni;
        if (!GET(s, eni, &eni, err, .account = i->account, .id = i->eni_ids.items[n]) ||
            (eni && !want_port(s, eni, err))) {
            return false;
        }
    }
    return true;
}

static bool
has_card(const struct row_instance *i, const char *eni_id)
{
    for (size_t n = 0; n < i->eni_ids.count; n++) {
        if (str_eq(i->eni_ids.items[n], eni_id)) {
            return true;
        }
    }
    return false;
}

/* A port, and what the metadata service says to it. */
static bool
drop_port(const struct scene *s, const char *eni_id, struct err *err)
{
    struct txn *txn = s->pass->txn;
    const char *node = s->instance->node_id;
    return want_take_down(txn, node, LINK_METADATA, eni_id, err) &&
           want_take_down(txn, node, LINK_PORT, eni_id, err);
}

/* Takes down the ports of cards that were taken out, once the machine's record has been
 * heard of. */
static bool
drop_ports(const struct scene *s, struct err *err)
{
    const struct row_instance *i = s->instance;
    const struct row_node_want prefix = {.node_id = i->node_id, .scope = i->id};
    const struct row_query query = {
        .index = "by_scope", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!s->seen || s->seen->generation < i->generation) {
        return true;
    }
    if (!row_list(s->pass->txn, &row_node_want_type, &query, &list, err)) {
        return false;
    }
    for (size_t n = 0; n < list.count; n++) {
        const struct row_node_want *want = list.rows[n];
        if (!has_card(i, want->id) && !drop_port(s, want->id, err)) {
            return false;
        }
    }
    return true;
}

/* All of them: those that it has, and those that it had. */
static bool
drop_all_ports(const struct scene *s, struct err *err)
{
    struct row_instance none = *s->instance;
    struct scene without = *s;
    const struct row_machine_seen gone = {.generation = INT64_MAX};
    for (size_t n = 0; n < none.eni_ids.count; n++) {
        if (!drop_port(s, none.eni_ids.items[n], err)) {
            return false;
        }
    }
    none.eni_ids.count = 0;
    without.instance = &none;
    without.seen = &gone;
    return drop_ports(&without, err);
}

static bool
want_machine(const struct scene *s, struct err *err)
{
    const struct row_instance *i = s->instance;
    struct link_machine_disk disk = {
        .disk_id = s->root->id,
        .device = s->root->device,
        .boot_index = 1,
    };
    struct link_machine record = {
        .id = i->id,
        .generation = i->generation,
        .running = str_eq(i->want_state, "running") && str_empty(i->held_by),
        .stop_hard = i->stop_hard,
        .vcpus = i->vcpus,
        .memory_bytes = i->memory_bytes,
        .uuid = i->uuid,
        .firmware = i->firmware,
        .kernel_blob = i->kernel_blob,
        .initrd_blob = i->initrd_blob,
        .cmdline = i->cmdline,
        .manufacturer = "Amazon EC2",
        .product = i->type,
        .reboot_count = i->reboot_count,
        .restart = true,
        .asset_tag = i->id,
        .leased = i->leased,
    };
    const struct row_node *node;
    if (!GET(s, node, &node, err, .id = s->node_id)) {
        return false;
    }
    record.merge = node && str_eq(node->single_account, i->account);
    const struct guest guest = {s->pass, i, s->seen, s->migration, s->node_id};
    if (!guest_terms(&guest, &record, err)) {
        return false;
    }
    const struct row_migration *live =
        s->migration && !s->migration->cold ? s->migration : NULL;
    if (live && str_eq(s->node_id, live->from_node)) {
        record.outgoing = live->id;
    } else if (live) {
        record.incoming = live->id;
    }
    record.disks.items = &disk;
    record.disks.count = 1;
    record.port_ids.items = i->eni_ids.items;
    record.port_ids.count = i->eni_ids.count;
    return want_put(s->pass->txn, s->node_id, LINK_MACHINE, i->id, i->account, &record,
                    err);
}

/* ---- what the machine did -------------------------------------------------------- */

/* A machine that the node gave up on is wanted stopped, with the reason told. */
static bool
settle_failure(const struct scene *s, const struct row_instance **inst, struct err *err)
{
    const char *why =
        str_empty(s->seen->message) ? "the machine failed" : s->seen->message;
    struct instance_want want = {
        .state = "stopped",
        .reason_code = "Server.InternalError",
        .reason_text =
            arena_printf(txn_arena(s->pass->txn), "Server.InternalError: %s", why),
        .transition_reason = "Server.InternalError",
    };
    return instance_want(s->pass->txn, *inst, &want, s->pass->now_ns, inst, err);
}

/* A replacement of the root volume has come to its end: with a guest that runs on the new
 * one, or with the instance. */
static bool
settle_root_task(struct scene *s, bool failed, struct err *err)
{
    const struct row_instance *i = s->instance;
    const struct row_root_task *task;
    if (str_empty(i->root_task_id)) {
        return true;
    }
    if (!GET(s, root_task, &task, err, .account = i->account, .id = i->root_task_id)) {
        return false;
    }
    struct row_instance *next = arena_memdup(txn_arena(s->pass->txn), i, sizeof *i);
    next->root_task_id = NULL;
    s->instance = next;
    if (task) {
        struct row_root_task done = *task;
        done.completed_at = s->pass->now_ns;
        done.failed = failed;
        if (!row_put(s->pass->txn, &row_root_task_type, &done, err)) {
            return false;
        }
    }
    return row_put(s->pass->txn, &row_instance_type, next, err);
}

/* Brings what the node saw back into the instance's rows. */
static bool
instance_settle(struct scene *s, struct err *err)
{
    const struct row_instance **inst = &s->instance;
    const struct row_machine_seen *seen = s->seen;
    if (!seen || seen->generation < (*inst)->generation ||
        (s->migration && migration_is_held(s->migration))) {
        return true;
    }
    struct txn *txn = s->pass->txn;
    bool off = str_eq(seen->state, "stopped") || str_eq(seen->state, "absent");
    if (str_eq((*inst)->want_state, "running")) {
        if (str_eq(seen->state, "running")) {
            return instance_mark_running(txn, *inst, inst, err) &&
                   (seen->reboot_count < (*inst)->reboot_count ||
                    settle_root_task(s, false, err));
        }
        if (!str_eq(seen->state, "stopped") || str_empty(seen->reason) ||
            str_eq(seen->reason, "stopped")) {
            return true;
        }
        return str_eq(seen->reason, "guest_shutdown")
                   ? instance_mark_guest_shutdown(txn, *inst, s->pass->now_ns, inst,
                                                  err)
                   : settle_failure(s, inst, err);
    }
    if (str_eq((*inst)->want_state, "stopped") && off) {
        return instance_mark_stopped(txn, *inst, inst, err);
    }
    return true;
}

/* ---- taking it down -------------------------------------------------------------- */

/* A node that was revoked will never report: what it held is as good as gone. */
static bool
node_is_lost(const struct scene *s, const char *node_id, bool *out_lost,
             struct err *err)
{
    const struct row_node *node;
    if (!GET(s, node, &node, err, .id = node_id)) {
        return false;
    }
    *out_lost = !node || !str_eq(node->state, "active");
    return true;
}

/* A giver that was told to switch may have the guest still, should it not have arrived, until
 * it reports it absent: the migration takes it down there. */
static bool
giver_is_done(const struct scene *s, bool *out, struct err *err)
{
    const struct row_migration *m = s->migration;
    const struct row_node_want *machine;
    bool lost;
    *out = true;
    if (!m || m->cold || !migration_has_switched(m)) {
        return true;
    }
    if (!node_is_lost(s, m->from_node, &lost, err) ||
        !want_get(s->pass->txn, m->from_node, LINK_MACHINE, m->instance_id, &machine,
                  err)) {
        return false;
    }
    *out = lost || !machine;
    return true;
}

/* The machine goes first; when the node reports it absent, its port, disk and rows
 * follow. The volume's row stays until the node reports its disk absent too
 * (volume_pass). */
static bool
instance_end(const struct scene *s, struct err *err)
{
    const struct row_instance *i = s->instance;
    struct txn *txn = s->pass->txn;
    if (!str_empty(i->node_id)) {
        const struct row_node_want *machine;
        bool lost, given;
        if (!node_is_lost(s, i->node_id, &lost, err) ||
            !giver_is_done(s, &given, err) ||
            !want_take_down(txn, i->node_id, LINK_MACHINE, i->id, err) ||
            !want_get(txn, i->node_id, LINK_MACHINE, i->id, &machine, err)) {
            return false;
        }
        if ((machine && !lost) || !given) {
            return true;
        }
        if (!drop_all_ports(s, err)) {
            return false;
        }
    }
    log_info("instance %s: terminated", i->id);
    return instance_mark_terminated(txn, i, s->pass->now_ns, NULL, err) &&
           (!s->vpc || str_empty(i->node_id) ||
            network_release(s->pass, i->node_id, s->vpc, err));
}

/* ---- one pass -------------------------------------------------------------------- */

static bool
want_side(struct scene *s, const char *node_id, struct err *err)
{
    s->node_id = node_id;
    s->standby = !str_eq(node_id, s->instance->node_id);
    return want_ports(s, err) &&
           instance_metadata_want(s->pass, s->instance, node_id, err) &&
           want_disk(s, err) && want_machine(s, err);
}

/* Both nodes of a migration have the machine, but for the one that is left. */
static bool
want_sides(struct scene *s, struct err *err)
{
    const char *state = s->migration->state;
    return (str_eq(state, "undoing") || want_side(s, s->migration->to_node, err)) &&
           (str_eq(state, "settling") || want_side(s, s->migration->from_node, err));
}

bool
instance_sides(const struct pass *pass, const char *account, const char *id,
               struct err *err)
{
    struct scene s = {.pass = pass};
    if (!GET(&s, instance, &s.instance, err, .account = account, .id = id)) {
        return false;
    }
    if (!s.instance || s.instance->terminated_at) {
        return true;
    }
    if (!recovery_leave(pass, &s.instance, err) || !scene_load(&s, err) ||
        !instance_settle(&s, err)) {
        return false;
    }
    bool ends = str_eq(s.instance->want_state, "terminated");
    /* One that is stopped meanwhile has its new root volume at its next start. */
    if (!str_eq(s.instance->want_state, "running") &&
        !settle_root_task(&s, ends, err)) {
        return false;
    }
    if (ends) {
        return instance_end(&s, err);
    }
    if (!recovery_settle(pass, &s.instance, err) ||
        !recovery_stop(pass, &s.instance, err) ||
        !recovery_move(pass, &s.instance, err) ||
        !recovery_leave(pass, &s.instance, err) || !scene_load(&s, err)) {
        return false;
    }
    if (str_empty(s.instance->node_id)) {
        return true;
    }
    if (!s.root || !s.eni || !s.subnet || !s.vpc) {
        return err_set(err, ERR_CORRUPT, "instance %s has lost its %s", id,
                       s.root ? "network interface" : "root volume");
    }
    bool wanted =
        s.migration ? want_sides(&s, err) : want_side(&s, s.instance->node_id, err);
    return wanted && drop_ports(&s, err);
}

bool
instance_pass(const struct pass *pass, const char *account, const char *id,
              struct err *err)
{
    const struct row_instance key = {.account = account, .id = id};
    const struct row_instance *inst;
    return instance_sides(pass, account, id, err) &&
           row_get(pass->txn, &row_instance_type, &key, (const void **)&inst, err) &&
           (!inst || drain_tell(pass, inst, err)) &&
           (!inst || str_empty(inst->migration_id) ||
            migration_pass(pass, account, inst->migration_id, err));
}

/* In a shared pool only a word of its own ends the file itself: whoever merely loses its
 * part in a disk leaves it to the others. Its node may never have heard of one that came to it
 * last. */
static bool
erase_shared(const struct pass *pass, const struct row_volume *v, struct err *err)
{
    const struct row_node_want *old;
    struct link_disk record = {
        .id = v->id,
        .generation = v->generation,
        .size_bytes = v->size_gib * (int64_t)GIB,
        .base_blob = v->base_blob,
        .tier = v->pool,
        .made = true,
    };
    if (str_empty(v->pool)) {
        return true;
    }
    if (!want_get(pass->txn, v->node_id, LINK_DISK, v->id, &old, err)) {
        return false;
    }
    if (old && !tlv_decode(&link_disk_desc, old->body.data, old->body.len,
                           txn_arena(pass->txn), &record, err)) {
        return false;
    }
    if (old && old->deleted && record.erase) {
        return true;
    }
    record.erase = true;
    return want_put(pass->txn, v->node_id, LINK_DISK, v->id, v->account, &record, err);
}

bool
volume_pass(const struct pass *pass, const char *account, const char *id,
            struct err *err)
{
    struct scene s = {.pass = pass};
    if (!GET(&s, volume, &s.root, err, .account = account, .id = id)) {
        return false;
    }
    const struct row_volume *v = s.root;
    const struct row_image *copy;
    if (!v || !v->want_deleted) {
        return true;
    }
    if (!capture_of(pass, v, &copy, err)) {
        return false;
    }
    if (copy) { /* Its end comes back here. */
        return job_pass(pass, account, copy->job_id, err);
    }
    if (!str_empty(v->node_id)) {
        const struct row_node_want *disk;
        if (!erase_shared(pass, v, err) ||
            !want_take_down(pass->txn, v->node_id, LINK_DISK, v->id, err) ||
            !want_get(pass->txn, v->node_id, LINK_DISK, v->id, &disk, err)) {
            return false;
        }
        const struct row_node *node;
        if (!GET(&s, node, &node, err, .id = v->node_id)) {
            return false;
        }
        if (disk && node && str_eq(node->state, "active")) {
            return true;
        }
    }
    return volume_mark_deleted(pass->txn, v, err);
}
