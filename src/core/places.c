/* places.c - see places.h.
 *
 * A group's members say which hosts, and what fails with them (a rack, or the host
 * itself), are taken: a spread group's next instance keeps off all of them; a partition's
 * keeps off those of the other partitions, and likes its own; a cluster's stays in the
 * segment of the first and likes the hosts of the others. */
#include "core/places.h"

#include "core/reach.h"

#define SPREAD_MAX 7 /* Running at once, of a group in a zone. */
#define PARTITIONS_MAX 7

/* Hosts that one partition has (the whole of another group is one). */
struct part {
    struct placement_words nodes, domains;
    size_t count;   /* Instances. */
    size_t running; /* Of them, those that hold a claim. */
};

struct finding {
    struct txn *txn;
    struct arena *arena;
    const struct place_want *want;
    struct part parts[PARTITIONS_MAX + 1]; /* [0]: what has no partition. */
    const char *segment;
    int64_t *partitions;
    pool_next_fn *next; /* As the group has it; NULL: there is none. */
};

/* ---- members --------------------------------------------------------------------- */

/* What fails together with a host, as the group sees it. */
static const char *
domain_of(const struct row_placement_group *group, const char *node_id,
          const char *rack)
{
    return str_empty(rack) || str_eq(group->spread_level, "host") ? node_id : rack;
}

static void
part_add(struct arena *arena, struct part *part, const char *node_id,
         const char *domain)
{
    if (!placement_words_have(part->nodes, node_id)) {
        placement_words_add(arena, &part->nodes, node_id);
    }
    if (!placement_words_have(part->domains, domain)) {
        placement_words_add(arena, &part->domains, domain);
    }
}

static bool
err_other_zone(struct err *err, const struct row_placement_group *group,
               const char *zone)
{
    return err_set(
        err, ERR_PLACEMENT_GROUP_IN_USE,
        "The placement group '%s' is in use in another availability zone: %s",
        group->name, zone);
}

static bool
member_add(struct finding *f, const struct row_instance *inst, struct err *err)
{
    const struct row_placement_group *group = f->want->terms->group;
    const struct row_node key = {.id = inst->node_id};
    const void *row;
    if (!str_eq(inst->zone, f->want->zone)) {
        return !str_eq(group->strategy, "cluster") ||
               err_other_zone(err, group, inst->zone);
    }
    struct part *part = &f->parts[MIN(MAX(inst->partition, 0), PARTITIONS_MAX)];
    part->count++;
    part->running += inst->claimed;
    if (str_empty(inst->node_id)) {
        return true;
    }
    if (!row_get(f->txn, &row_node_type, &key, &row, err)) {
        return false;
    }
    const struct row_node *node = row;
    part_add(f->arena, part, inst->node_id,
             domain_of(group, inst->node_id, node ? node->rack : NULL));
    if (node && !str_empty(node->segment)) {
        f->segment = node->segment;
    }
    return true;
}

static bool
members_load(struct finding *f, struct err *err)
{
    const struct row_placement_member prefix = {.account = f->want->account,
                                                .group_id = f->want->terms->group->id};
    struct row_list list;
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    if (!row_list(f->txn, &row_placement_member_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_placement_member *member = list.rows[i];
        const struct row_instance key = {.account = f->want->account,
                                         .id = member->instance_id};
        const void *inst;
        if (str_eq(member->instance_id, f->want->instance_id)) {
            continue;
        }
        if (!row_get(f->txn, &row_instance_type, &key, &inst, err) ||
            (inst && !member_add(f, inst, err))) {
            return false;
        }
    }
    return true;
}

/* ---- one machine after the other ------------------------------------------------- */

static void
next_in_spread(void *ctx, size_t index UNUSED, const struct placement_host *last,
               struct placement_ask *ask)
{
    struct finding *f = ctx;
    struct arena *arena = f->arena;
    if (last) {
        const char *domain = domain_of(f->want->terms->group, last->id, last->rack);
        placement_words_add(arena, &ask->avoid, arena_strdup(arena, domain));
    }
}

static void
next_in_cluster(void *ctx, size_t index UNUSED, const struct placement_host *last,
                struct placement_ask *ask)
{
    struct arena *arena = ((struct finding *)ctx)->arena;
    if (last && !placement_words_have(ask->prefer, last->id)) {
        placement_words_add(arena, &ask->prefer, arena_strdup(arena, last->id));
        ask->segment = str_empty(last->segment) ? ask->segment
                                                : arena_strdup(arena, last->segment);
    }
}

/* The partition with the fewest instances, the first of several. */
static int64_t
emptiest_partition(const struct finding *f)
{
    int64_t best = 1;
    for (int64_t p = 2; p <= f->want->terms->group->partition_count; p++) {
        best = f->parts[p].count < f->parts[best].count ? p : best;
    }
    return best;
}

static void
next_in_partition(void *ctx, size_t index, const struct placement_host *last,
                  struct placement_ask *ask)
{
    struct finding *f = ctx;
    struct arena *arena = f->arena;
    const struct place_terms *terms = f->want->terms;
    if (last) {
        const char *domain = domain_of(terms->group, last->id, last->rack);
        part_add(arena, &f->parts[f->partitions[index - 1]],
                 arena_strdup(arena, last->id), arena_strdup(arena, domain));
    }
    int64_t own = terms->partition ? terms->partition : emptiest_partition(f);
    f->parts[own].count++;
    f->partitions[index] = own;
    ask->prefer = f->parts[own].nodes;
    ask->avoid = (struct placement_words){0};
    if (f->want->not_node) {
        placement_words_add(arena, &ask->avoid, f->want->not_node);
    }
    for (int64_t p = 1; p <= PARTITIONS_MAX; p++) {
        for (size_t i = 0; p != own && i < f->parts[p].domains.count; i++) {
            placement_words_add(arena, &ask->avoid, f->parts[p].domains.items[i]);
        }
    }
}

/* For each, whatever its group: what came before it is where its network is now. */
static void
next_of_any(void *ctx, size_t index, const struct placement_host *last,
            struct placement_ask *ask)
{
    struct finding *f = ctx;
    if (last) {
        reach_placed(f->arena, last, ask);
    }
    if (f->next) {
        f->next(ctx, index, last, ask);
    }
}

/* ---- groups ---------------------------------------------------------------------- */

static bool
err_spread_full(struct err *err, const struct row_placement_group *group,
                const char *zone)
{
    return err_set(err, ERR_INSTANCE_LIMIT,
                   "You may have %d running instances of the spread placement group "
                   "'%s' in an availability zone (%s).",
                   SPREAD_MAX, group->name, zone);
}

/* Sets the ask as the group has it; '*most': no more than these. */
static bool
use_group(struct finding *f, struct placement_ask *ask, pool_next_fn **next,
          size_t *most, struct err *err)
{
    const struct row_placement_group *group = f->want->terms->group;
    if (!members_load(f, err)) {
        return false;
    }
    if (str_eq(group->strategy, "partition")) {
        *next = next_in_partition;
        return true;
    }
    if (str_eq(group->strategy, "cluster")) {
        *next = next_in_cluster;
        ask->prefer = f->parts[0].nodes;
        ask->segment = f->segment;
        return true;
    }
    *next = next_in_spread;
    ask->avoid = f->parts[0].domains;
    *most = SPREAD_MAX - MIN(f->parts[0].running, SPREAD_MAX);
    return *most > 0 || err_spread_full(err, group, f->want->zone);
}

/* ---- dedicated hosts ------------------------------------------------------------- */

static bool
host_serves(const struct row_dedicated_host *host, const struct place_want *want)
{
    const struct instance_type *type = want->type;
    return !host->released_at && str_eq(host->zone, want->zone) && type &&
           (str_empty(host->type) ? str_eq(host->family, type->family)
                                  : str_eq(host->type, type->name));
}

/* The nodes of the dedicated hosts that may take it: the one that was named, or those that
 * take what does not name one. */
static bool
use_hosts(struct finding *f, struct placement_ask *ask, struct err *err)
{
    const struct place_terms *terms = f->want->terms;
    const struct row_dedicated_host prefix = {.account = f->want->account,
                                              .region = f->want->region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    ask->tenancy = PLACEMENT_HOST;
    ask->host_id = terms->host_id;
    if (!row_list(f->txn, &row_dedicated_host_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_dedicated_host *host = list.rows[i];
        bool named = terms->host_id && str_eq(terms->host_id, host->id);
        if (named && !host_serves(host, f->want)) {
            return err_set(err, ERR_HOST_CONFIGURATION,
                           "Dedicated host '%s' in %s does not support %s instances in "
                           "%s",
                           host->id, host->zone,
                           f->want->type ? f->want->type->name : "", f->want->zone);
        }
        bool open = str_eq(host->auto_placement, "on") ||
                    placement_words_have(f->want->among, host->node_id);
        if (named || (!terms->host_id && open && host_serves(host, f->want))) {
            placement_words_add(f->arena, &ask->among, host->node_id);
        }
    }
    /* No host at all is not the same as any host. */
    if (ask->among.count == 0) {
        placement_words_add(f->arena, &ask->among, "none");
    }
    return true;
}

/* Only those of 'nodes' that were allowed so far. */
static void
use_nodes(struct placement_ask *ask, struct arena *arena, struct placement_words nodes)
{
    struct placement_words allowed = {0};
    for (size_t i = 0; i < nodes.count; i++) {
        if (ask->among.count == 0 || placement_words_have(ask->among, nodes.items[i])) {
            placement_words_add(arena, &allowed, nodes.items[i]);
        }
    }
    if (allowed.count == 0) {
        placement_words_add(arena, &allowed, "none");
    }
    ask->among = allowed;
}

void
places_ask_type(const struct cloud_config *config, const struct instance_type *type,
                struct placement_ask *ask)
{
    int64_t percent = config->speed_percent ? config->speed_percent : 100;
    ask->speed = type->promised_speed * percent / 100;
    ask->features =
        (struct placement_words){type->features.items, type->features.count};
}

static struct placement_ask
ask_of(const struct cloud_config *config, const struct place_want *want)
{
    struct placement_ask ask = {
        .region = want->region,
        .zone = want->zone,
        .account = want->account,
        .tenancy = str_eq(want->terms->tenancy, "dedicated") ? PLACEMENT_DEDICATED
                                                             : PLACEMENT_DEFAULT,
        .claim = {.vcpus = want->vcpus,
                  .memory_bytes = want->memory_bytes,
                  .disk_bytes = want->disk_bytes,
                  .machines = 1},
    };
    memcpy(ask.overhead_bytes, want->overhead_bytes, sizeof ask.overhead_bytes);
    if (want->type) {
        places_ask_type(config, want->type, &ask);
    }
    return ask;
}

/* What it must reach from there. */
static bool
use_reach(struct finding *f, struct placement_ask *ask, struct err *err)
{
    const struct place_want *want = f->want;
    ask->in_network = want->vpc_id != NULL;
    ask->lent.cards = want->lent_cards;
    return (!want->vpc_id || reach_of_network(f->txn, want->vpc_id, want->instance_id,
                                              &ask->reach, err)) &&
           (want->lent_cards == 0 || reach_of_lent(f->txn, want->account, want->region,
                                                   want->zone, &ask->lent, err));
}

bool
places_find(struct pool *pool, struct txn *txn, const struct cloud_config *config,
            const struct place_want *want, struct places_found *out, struct err *err)
{
    struct arena *arena = txn_arena(txn);
    struct finding f = {.txn = txn, .arena = arena, .want = want};
    struct placement_ask ask = ask_of(config, want);
    size_t most = want->count;
    f.partitions = ARENA_ARRAY(arena, want->count, int64_t);
    out->picks = ARENA_ARRAY(arena, want->count, struct pool_pick);
    out->partitions = f.partitions;
    if ((str_eq(want->terms->tenancy, "host") && !use_hosts(&f, &ask, err)) ||
        (want->terms->group && !use_group(&f, &ask, &f.next, &most, err)) ||
        !use_reach(&f, &ask, err)) {
        return false;
    }
    if (want->among.count > 0) {
        use_nodes(&ask, arena, want->among);
    }
    if (want->not_node) {
        placement_words_add(arena, &ask.avoid, want->not_node);
    }
    out->ask = ask;
    return pool_place_each(pool, txn, config, &ask, next_of_any, &f,
                           MIN(most, want->count), out->picks, &out->count, err);
}

bool
place_terms_of(struct txn *txn, const struct row_instance *inst,
               struct place_terms *out, struct err *err)
{
    const struct row_placement_group key = {.account = inst->account,
                                            .id = inst->placement_group_id};
    const void *group = NULL;
    if (!str_empty(key.id) &&
        !row_get(txn, &row_placement_group_type, &key, &group, err)) {
        return false;
    }
    *out = (struct place_terms){
        .group = group,
        .partition = inst->partition,
        .tenancy = str_empty(inst->tenancy) ? "default" : inst->tenancy,
        .host_id = str_eq(inst->affinity, "host") ? inst->host_id : NULL,
        .affinity = str_empty(inst->affinity) ? NULL : inst->affinity,
    };
    return true;
}

bool
host_of_node(struct txn *txn, struct row_instance *inst, struct err *err)
{
    const struct row_node_claim key = {.id = inst->node_id};
    const void *row;
    if (!str_eq(inst->tenancy, "host")) {
        return true;
    }
    if (!row_get(txn, &row_node_claim_type, &key, &row, err)) {
        return false;
    }
    inst->host_id = row ? ((const struct row_node_claim *)row)->host_id : NULL;
    return true;
}
