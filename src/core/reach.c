/* reach.c - see reach.h. */
#include "core/reach.h"

#include "core/instance_rows.h"
#include "core/uplink_rows.h"

#define GET(txn, name, out, err, ...) \
    row_get((txn), &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* ---- networks -------------------------------------------------------------------- */

/* A network lies on one host, or on hosts that all have an underlay: so the first two say
 * everything. */
bool
reach_of_network(struct txn *txn, const char *vpc_id, const char *but,
                 struct placement_reach *out, struct err *err)
{
    const struct row_instance *first, *second = NULL;
    const struct row_node *node = NULL;
    const struct vpc_machine_ask ask = {.vpc_id = vpc_id, .but = but};
    if (!vpc_machine(txn, &ask, &first, err)) {
        return false;
    }
    if (first) {
        struct vpc_machine_ask next = ask;
        next.after = first->node_id;
        if (!vpc_machine(txn, &next, &second, err) ||
            !GET(txn, node, &node, err, .id = first->node_id)) {
            return false;
        }
    }
    *out = (struct placement_reach){
        .host = first ? first->node_id : NULL,
        .joined = node && !str_empty(node->underlay),
        .many = second != NULL,
    };
    return true;
}

/* ---- interfaces lent ------------------------------------------------------------- */

/* How many virtual functions the account's cards have on the node. */
static bool
cards_on(struct txn *txn, const char *account, const char *node_id, int64_t *out,
         struct err *err)
{
    struct row_list machines;
    *out = 0;
    if (!instances_on(txn, node_id, &machines, err)) {
        return false;
    }
    for (size_t i = 0; i < machines.count; i++) {
        const struct row_instance *machine = machines.rows[i];
        const struct row_eni *first;
        int64_t cards;
        if (!str_eq(machine->account, account) || machine->terminated_at) {
            continue;
        }
        if (!lni_cards(txn, machine, &first, &cards, err)) {
            return false;
        }
        *out += cards;
    }
    return true;
}

/* For how many cards the node has an interface that is lent to the account, and up. */
static bool
room_on(struct txn *txn, const char *account, const struct row_node *node, int64_t *out,
        struct err *err)
{
    const struct row_uplink *uplink;
    const struct row_uplink_seen *seen;
    int64_t taken;
    *out = 0;
    if (!uplink_lent(txn, account, node->zone, node->id, &uplink, err)) {
        return false;
    }
    if (!uplink) {
        return true;
    }
    if (!GET(txn, uplink_seen, &seen, err, .uplink_id = uplink->id,
             .node_id = node->id)) {
        return false;
    }
    if (!seen || !str_eq(seen->state, "ready")) {
        return true;
    }
    if (seen->functions == 0) {
        *out = INT64_MAX;
        return true;
    }
    if (!cards_on(txn, account, node->id, &taken, err)) {
        return false;
    }
    *out = MAX(seen->functions - taken, 0);
    return true;
}

bool
reach_of_lent(struct txn *txn, const char *account, const char *region,
              const char *zone, struct placement_lent *out, struct err *err)
{
    const struct row_node prefix = {.region = region, .zone = zone};
    const struct row_query query = {
        .index = "by_zone", .prefix = &prefix, .prefix_fields = 2};
    struct row_list nodes;
    if (!row_list(txn, &row_node_type, &query, &nodes, err)) {
        return false;
    }
    struct placement_room *items =
        ARENA_ARRAY(txn_arena(txn), nodes.count, struct placement_room);
    size_t count = 0;
    for (size_t i = 0; i < nodes.count; i++) {
        const struct row_node *node = nodes.rows[i];
        items[count] = (struct placement_room){.host = node->id};
        if (!room_on(txn, account, node, &items[count].cards, err)) {
            return false;
        }
        count += items[count].cards > 0;
    }
    out->items = items;
    out->count = count;
    return true;
}

/* ---- the next one ---------------------------------------------------------------- */

static void
network_placed(struct arena *arena, const struct placement_host *host,
               struct placement_reach *reach)
{
    if (reach->host || reach->many) {
        reach->many |= !str_eq(reach->host, host->id);
        return;
    }
    reach->host = arena_strdup(arena, host->id);
    reach->joined = host->joined;
}

void
reach_placed(struct arena *arena, const struct placement_host *host,
             struct placement_ask *ask)
{
    if (ask->in_network) {
        network_placed(arena, host, &ask->reach);
    }
    for (size_t i = 0; i < ask->lent.count; i++) {
        struct placement_room *room = &ask->lent.items[i];
        if (str_eq(room->host, host->id) && room->cards < INT64_MAX) {
            room->cards -= ask->lent.cards;
        }
    }
}
