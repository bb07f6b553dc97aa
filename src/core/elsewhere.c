/* elsewhere.c - see elsewhere.h. */
#include "core/elsewhere.h"

#include "core/id.h"
#include "core/instance_rows.h"
#include "core/root_volume.h"
#include "core/uplink_rows.h"

#define GET(txn, type, out, err, ...) \
    row_get((txn), &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

/* ---- whether ----------------------------------------------------------------------- */

/* Whether the tenant said that its root volume may be made anew. */
static bool
may_rebuild(struct txn *txn, const struct row_instance *inst, bool *out,
            struct err *err)
{
    const struct row_tag *tag;
    if (!GET(txn, tag, &tag, err, .account = inst->account, .region = inst->region,
             .resource_id = inst->id, .tag_key = RECOVERY_TAG)) {
        return false;
    }
    *out = tag && str_eq(tag->value, RECOVERY_REBUILD);
    return true;
}

/* Whether another volume than its root ties it to its node. */
static bool
is_tied(struct txn *txn, const struct row_instance *inst, bool *out, struct err *err)
{
    struct row_list list;
    *out = false;
    if (!instance_volumes(txn, inst->account, inst->id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_volume *v = list.rows[i];
        *out |= !str_eq(v->id, inst->root_volume_id);
    }
    return true;
}

bool
elsewhere_how(struct txn *txn, const struct row_instance *inst, enum elsewhere *out,
              const struct row_volume **out_root, struct err *err)
{
    const struct row_volume *root;
    bool rebuild, tied;
    if (!GET(txn, volume, &root, err, .account = inst->account,
             .id = inst->root_volume_id) ||
        !may_rebuild(txn, inst, &rebuild, err) || !is_tied(txn, inst, &tied, err)) {
        return false;
    }
    if (out_root) {
        *out_root = root;
    }
    *out = !root || tied            ? ELSEWHERE_NOT
           : !str_empty(root->pool) ? ELSEWHERE_SHARED
           : rebuild                ? ELSEWHERE_REBUILT
                                    : ELSEWHERE_NOT;
    return true;
}

/* ---- where ------------------------------------------------------------------------- */

/* The nodes that see the pool; not one of them: a word that no node has. */
static bool
nodes_of_pool(struct txn *txn, const char *pool, struct placement_words *out,
              struct err *err)
{
    const struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_node_seen_type, &query, &list, err)) {
        return false;
    }
    const char **ids = ARENA_ARRAY(txn_arena(txn), list.count + 1, const char *);
    size_t count = 0;
    for (size_t n = 0; n < list.count; n++) {
        const struct row_node_seen *seen = list.rows[n];
        if (str_eq(seen->shared_pool, pool)) {
            ids[count++] = seen->id;
        }
    }
    if (count == 0) {
        ids[count++] = "none";
    }
    *out = (struct placement_words){ids, count};
    return true;
}

bool
elsewhere_want(struct txn *txn, const struct cloud_config *config,
               const struct row_instance *inst, const struct row_volume *root,
               struct place_terms *terms, struct place_want *out, struct err *err)
{
    struct place_want want = {
        .account = inst->account,
        .region = inst->region,
        .zone = inst->zone,
        .terms = terms,
        .type = config_type(config, inst->type),
        .vcpus = inst->vcpus,
        .memory_bytes = inst->memory_bytes,
        .disk_bytes = root->size_gib * (int64_t)GIB,
        .instance_id = inst->id,
        .not_node = inst->node_id,
        .vpc_id = inst->vpc_id,
        .count = 1,
    };
    const struct row_eni *card;
    if (!lni_cards(txn, inst, &card, &want.lent_cards, err) ||
        !place_terms_of(txn, inst, terms, err) ||
        (!str_empty(root->pool) && !nodes_of_pool(txn, root->pool, &want.among, err))) {
        return false;
    }
    *out = want;
    return true;
}

/* ---- the move ---------------------------------------------------------------------- */

/* A root volume from the same image in place of the old one, which is deleted as soon as
 * its node is back. */
static bool
rebuild_root(struct txn *txn, const struct row_volume *old, const char *node_id,
             const struct rng *rng, int64_t now_ns, const char **out_id,
             struct err *err)
{
    const struct root_change change = {
        .volume_id = id_new(txn_arena(txn), rng, "vol"),
        .node_id = node_id,
        .base_blob = old->base_blob,
        .image_id = old->image_id,
        .snapshot_id = old->snapshot_id,
        .delete_old = true,
    };
    *out_id = change.volume_id;
    return root_volume_replace(txn, old, &change, now_ns, err);
}

/* The same volume, on another node: its file stays where both see it, or is made there, if the
 * old one never said that it had been. */
static bool
carry_root(struct txn *txn, const struct row_volume *root, const char *node_id,
           struct err *err)
{
    struct row_volume next = *root;
    const int64_t bytes = root->size_gib * (int64_t)GIB;
    const struct claim less = {.disk_bytes = -bytes}, more = {.disk_bytes = bytes};
    const struct row_disk_seen seen = {.id = root->id};
    next.node_id = node_id;
    next.generation++;
    return node_claim_add(txn, root->node_id, &less, err) &&
           node_claim_add(txn, node_id, &more, err) &&
           row_delete(txn, &row_disk_seen_type, &seen, err) &&
           row_put(txn, &row_volume_type, &next, err);
}

/* What it has of CPU credits goes along, as its old node said last: the new one takes them once,
 * under a name that no other move has. */
static bool
carry_credits(struct txn *txn, const char *left_node, struct row_instance *inst,
              struct err *err)
{
    const struct row_node_use *use;
    if (!GET(txn, node_use, &use, err, .id = left_node)) {
        return false;
    }
    inst->brought_as = NULL;
    for (size_t i = 0; use && i < use->machines.count; i++) {
        const struct row_machine_use *m = &use->machines.items[i];
        if (str_eq(m->id, inst->id)) {
            inst->brought_as = arena_printf(txn_arena(txn), "%s.%" PRId64, left_node,
                                            inst->generation);
            inst->brought_credits_milli = m->credits_milli;
            inst->brought_surplus_milli = m->surplus_milli;
            inst->brought_charged_milli = m->charged_milli;
        }
    }
    return true;
}

bool
elsewhere_move(struct txn *txn, const struct row_instance *inst,
               const struct row_volume *root, const struct pool_pick *to,
               const struct rng *rng, int64_t now_ns, const struct row_instance **out,
               struct err *err)
{
    const struct row_instance *unclaimed;
    const char *root_id = root->id;
    if (!instance_unclaim(txn, inst, &unclaimed, err) ||
        !(str_empty(root->pool)
              ? rebuild_root(txn, root, to->node_id, rng, now_ns, &root_id, err)
              : carry_root(txn, root, to->node_id, err))) {
        return false;
    }
    struct row_instance next = *unclaimed;
    next.left_node = inst->node_id;
    next.node_id = to->node_id;
    next.claim_memory_bytes = to->memory_bytes;
    next.root_volume_id = root_id;
    next.generation++;
    next.want_generation = next.generation; /* Pending, until seen running there. */
    next.observed_state = NULL;
    next.leased_generation = 0; /* As every want of it there will say. */
    return carry_credits(txn, inst->node_id, &next, err) &&
           instance_claim(txn, &next, out, err);
}
