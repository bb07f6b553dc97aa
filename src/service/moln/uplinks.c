/* uplinks.c - the interfaces of hosts that lead to the world, as operators name them. */
#include "core/address.h"
#include "core/uplink_rows.h"
#include "link/link.h"
#include "service/moln/operators.h"

/* ---- what is answered ----------------------------------------------------------------- */

/* What the nodes that are to have it say. */
static bool
nodes_out(struct call *call, const struct row_uplink *row, struct moln_uplink *out,
          struct err *err)
{
    struct row_list nodes;
    if (!row_all(call, &row_node_type, &nodes, err)) {
        return false;
    }
    struct moln_uplink_node *items =
        ARENA_ARRAY(call->arena, nodes.count, struct moln_uplink_node);
    size_t count = 0;
    for (size_t i = 0; i < nodes.count; i++) {
        const struct row_node *node = nodes.rows[i];
        const struct row_node_want want = {
            .node_id = node->id, .kind = LINK_UPLINK, .id = row->id};
        const struct row_uplink_seen key = {.uplink_id = row->id, .node_id = node->id};
        const struct row_node_want *wanted;
        const struct row_uplink_seen *seen;
        if (!row_get(call->txn, &row_node_want_type, &want, (const void **)&wanted,
                     err) ||
            !row_get(call->txn, &row_uplink_seen_type, &key, (const void **)&seen,
                     err)) {
            return false;
        }
        if (!wanted || wanted->deleted || !str_eq(node->state, "active")) {
            continue;
        }
        items[count++] = (struct moln_uplink_node){
            .node_id = node->id,
            .state = seen ? seen->state : "pending",
            .message = seen && !str_empty(seen->message) ? seen->message : NULL,
            HAS_TIME(at, seen ? seen->at : 0),
        };
    }
    out->nodes.items = items;
    out->nodes.count = count;
    return true;
}

static bool
uplink_out(struct call *call, const struct row_uplink *row, struct moln_uplink *out,
           struct err *err)
{
    *out = (struct moln_uplink){
        .uplink_id = row->id,
        .zone = row->zone,
        .node_id = str_empty(row->node_id) ? NULL : row->node_id,
        .mode = row->mode,
        .interface = str_empty(row->link) ? NULL : row->link,
        .address = str_empty(row->address) ? NULL : row->address,
        .router = str_empty(row->router) ? NULL : row->router,
        HAS(default_route_too, row->default_too),
        .account_id = str_empty(row->account) ? NULL : row->account,
        .unfiltered = row->unfiltered,
        .has_unfiltered = uplink_is_lent(row),
        HAS_TIME(created_at, row->created_at),
    };
    return nodes_out(call, row, out, err);
}

/* ---- CreateUplink --------------------------------------------------------------------- */

static bool
place_read(struct call *call, const struct moln_create_uplink_request *in,
           struct row_uplink *row, struct err *err)
{
    if (!in->node_id == !in->zone) {
        return err_set(err, ERR_VALIDATION, "Name either NodeId or Zone");
    }
    if (in->node_id) {
        const struct row_node *node;
        if (!node_find(call, in->node_id, &node, err)) {
            return false;
        }
        row->node_id = node->id;
        row->zone = node->zone;
        row->region = node->region;
        return true;
    }
    const struct region_config *region = region_of_zone(call->config, in->zone);
    if (!region) {
        return err_no(err, "zone", in->zone);
    }
    row->zone = in->zone;
    row->region = region->name;
    return true;
}

static bool
bridge_read(const struct moln_create_uplink_request *in, struct err *err)
{
    struct cidr block;
    uint32_t router, own;
    char ip[IPV4_TEXT_LEN];
    const char *slash = in->address ? strchr(in->address, '/') : NULL;
    if (!in->node_id) {
        return err_set(
            err, ERR_VALIDATION,
            "A bridge has an address of the node's own: name a node, not a zone");
    }
    if (!slash || slash - in->address >= IPV4_TEXT_LEN || !in->router) {
        return err_set(err, ERR_VALIDATION,
                       "A bridge needs Address, as 192.0.2.2/24, and Router");
    }
    (void)snprintf(ip, sizeof ip, "%.*s", (int)(slash - in->address), in->address);
    if (!ipv4_parse(ip, &own) || !cidr_parse(in->address, &block) || block.bits < 8 ||
        block.bits > 30 || !ipv4_parse(in->router, &router) || router == own ||
        !cidr_contains(&block, router)) {
        return err_set(err, ERR_VALIDATION,
                       "%s and %s are no address, prefix and router of one network",
                       in->address, in->router);
    }
    return true;
}

static bool
lent_check(struct call *call, const struct moln_create_uplink_request *in,
           struct err *err)
{
    const struct row_account *account;
    bool lent = str_eq(in->mode, UPLINK_PASSTHROUGH_MODE);
    if (lent && !in->account_id) {
        return err_set(err, ERR_VALIDATION,
                       "Mode passthrough lends the interface: name the AccountId");
    }
    if (!lent && (in->account_id || in->unfiltered)) {
        return err_set(err, ERR_VALIDATION,
                       "AccountId and Unfiltered are for mode passthrough");
    }
    return !lent || account_find(call, in->account_id, &account, err);
}

static bool
mode_check(const struct moln_create_uplink_request *in, struct err *err)
{
    bool bridge = str_eq(in->mode, "bridge"), none = str_eq(in->mode, "none");
    if (none != !in->interface) {
        return err_set(err, ERR_VALIDATION,
                       none ? "Mode none has no Interface" : "Name the Interface");
    }
    if (!bridge && (in->address || in->router)) {
        return err_set(err, ERR_VALIDATION, "Address and Router are for mode bridge");
    }
    return !bridge || bridge_read(in, err);
}

/* A node's, or a zone's, gateways use one; so do an account's local network interfaces. */
static bool
check_single(struct call *call, const struct row_uplink *row, struct err *err)
{
    struct row_list list;
    if (!row_all(call, &row_uplink_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *old = list.rows[i];
        if (str_eq(old->zone, row->zone) &&
            uplink_is_lent(old) == uplink_is_lent(row) &&
            (!uplink_is_lent(row) || str_eq(old->account, row->account)) &&
            str_eq(str_empty(old->node_id) ? "" : old->node_id,
                   row->node_id ? row->node_id : "")) {
            return err_set(err, ERR_RESOURCE_IN_USE,
                           "%s has an uplink already: %s. Delete that first",
                           row->node_id ? row->node_id : row->zone, old->id);
        }
    }
    return true;
}

bool
moln_create_uplink(struct call *call, const struct moln_create_uplink_request *in,
                   struct moln_create_uplink_response *out, struct err *err)
{
    struct row_uplink row = {
        .id = id_new(call->arena, call->rng, "uplink"),
        .mode = in->mode,
        .link = in->interface,
        .address = in->address,
        .router = in->router,
        .default_too = in->default_route_too,
        .account = in->account_id,
        .unfiltered = in->unfiltered,
        .created_at = call->now_ns,
    };
    if (!place_read(call, in, &row, err) || !mode_check(in, err) ||
        !lent_check(call, in, err) || !check_single(call, &row, err) ||
        !row_insert(call->txn, &row_uplink_type, &row, err)) {
        return false;
    }
    out->uplink = ARENA_NEW(call->arena, struct moln_uplink);
    return uplink_out(call, &row, out->uplink, err);
}

/* ---- ListUplinks, DeleteUplink -------------------------------------------------------- */

bool
moln_list_uplinks(struct call *call, const struct moln_list_uplinks_request *in,
                  struct moln_list_uplinks_response *out, struct err *err)
{
    struct listing listing;
    struct row_list list;
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token, NULL,
                      &listing, err) ||
        !row_all(call, &row_uplink_type, &list, err)) {
        return false;
    }
    struct moln_uplink *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_uplink);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *row = list.rows[i];
        if (listing_take(&listing, row->id) &&
            !uplink_out(call, row, &items[count++], err)) {
            return false;
        }
    }
    out->uplinks.items = items;
    out->uplinks.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

/* A lent one goes when no interface of its account stands there. */
static bool
check_free(struct call *call, const struct row_uplink *row, struct err *err)
{
    const struct row_eni *eni = NULL;
    if (uplink_is_lent(row) &&
        !lni_any(call->txn, row->account, row->region, row->zone, NULL, &eni, err)) {
        return false;
    }
    return !eni || err_set(err, ERR_RESOURCE_IN_USE,
                           "%s stands on it, or may: account %s must detach it first",
                           eni->id, eni->account);
}

bool
moln_delete_uplink(struct call *call, const struct moln_delete_uplink_request *in,
                   struct moln_delete_uplink_response *out UNUSED, struct err *err)
{
    const struct row_uplink key = {.id = in->uplink_id};
    const void *row;
    if (!row_get(call->txn, &row_uplink_type, &key, &row, err)) {
        return false;
    }
    if (!row) {
        return err_no(err, "uplink", in->uplink_id);
    }
    return check_free(call, row, err) &&
           row_delete(call->txn, &row_uplink_type, &key, err);
}
