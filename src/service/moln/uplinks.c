/* uplinks.c - the interfaces of hosts that lead to the world, as operators name them. */
#include "core/address.h"
#include "core/address6.h"
#include "core/network_rows.h"
#include "core/uplink_rows.h"
#include "link/link.h"
#include "service/moln/operators.h"

#define ADDRESSES_MAX 1024 /* Of a zone's nodes on one bridge. */

/* ---- what is answered ----------------------------------------------------------------- */

static bool
is_for_zone(const struct row_uplink *row, const struct row_node *node)
{
    return row->addresses > 0 && str_eq(row->zone, node->zone);
}

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
        int64_t place = -1;
        bool waits = seen && is_for_zone(row, node); /* No address is left for it. */
        if (((!wanted || wanted->deleted) && !waits) ||
            !str_eq(node->state, "active")) {
            continue;
        }
        if ((row->addresses > 0 || uplink_is_overlay(row)) &&
            !uplink_place_of(call->txn, row->id, node->id, &place, err)) {
            return false;
        }
        items[count++] = (struct moln_uplink_node){
            .address = place < 0 ? NULL
                       : uplink_is_overlay(row)
                           ? uplink_overlay_address(call->arena, place)
                           : uplink_address_at(call->arena, row, place),
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

/* "192.0.2.2/24", or "192.0.2.2-192.0.2.9/24" of a zone. */
static const char *
address_text(struct arena *arena, const struct row_uplink *row)
{
    const char *slash = str_empty(row->address) ? NULL : strchr(row->address, '/');
    if (!slash || row->addresses == 0) {
        return slash ? row->address : NULL;
    }
    return arena_printf(arena, "%.*s-%s", (int)(slash - row->address), row->address,
                        uplink_address_at(arena, row, row->addresses - 1));
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
        .address = address_text(call->arena, row),
        .router = str_empty(row->router) ? NULL : row->router,
        .address6 = str_empty(row->address6) ? NULL : row->address6,
        .router6 = str_empty(row->router6) ? NULL : row->router6,
        HAS(default_route_too, row->default_too),
        .account_id = str_empty(row->account) ? NULL : row->account,
        .unfiltered = row->unfiltered,
        .has_unfiltered = uplink_is_lent(row),
        .device = !uplink_is_lent(row)     ? NULL
                  : str_empty(row->device) ? "macvtap"
                                           : row->device,
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

/* "192.0.2.2/24"; of a zone "192.0.2.2-192.0.2.9/24": one for each of its nodes. */
static bool
range_read(struct call *call, const char *text, uint32_t *first, uint32_t *last,
           struct cidr *block, const char **out_first)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    const char *dash = slash ? memchr(text, '-', (size_t)(slash - text)) : NULL;
    const char *end = dash ? dash : slash;
    if (!slash) {
        return false;
    }
    const char *from = arena_strndup(call->arena, text, (size_t)(end - text));
    const char *to =
        dash ? arena_strndup(call->arena, dash + 1, (size_t)(slash - dash - 1)) : from;
    *out_first = arena_printf(call->arena, "%s%s", from, slash);
    return ipv4_parse(from, first) && ipv4_parse(to, last) &&
           cidr_parse(*out_first, block) && block->bits >= 8 && block->bits <= 30 &&
           *last >= *first && *last - *first < ADDRESSES_MAX &&
           cidr_contains(block, *last);
}

static bool
bridge_read4(struct call *call, const struct moln_create_uplink_request *in,
             struct row_uplink *row, struct err *err)
{
    struct cidr block;
    uint32_t router, first, last;
    if (!in->address || !in->router) {
        return err_set(err, ERR_VALIDATION,
                       "A bridge needs Address, as 192.0.2.2/24, and Router");
    }
    if (!range_read(call, in->address, &first, &last, &block, &row->address) ||
        !ipv4_parse(in->router, &router) || !cidr_contains(&block, router) ||
        (router >= first && router <= last)) {
        return err_set(err, ERR_VALIDATION,
                       "%s and %s are no address (or range), prefix and router of one "
                       "network",
                       in->address, in->router);
    }
    if (in->node_id ? first != last : first == last) {
        return err_set(
            err, ERR_VALIDATION,
            in->node_id ? "A node has one address: a range is for a zone"
                        : "A bridge has an address of each node's own: name a range, "
                          "as 192.0.2.2-192.0.2.9/24, or a node");
    }
    row->addresses = in->node_id ? 0 : (int64_t)(last - first) + 1;
    return true;
}

/* IPv6 beside it, where the operator wants that. */
static bool
bridge_read6(struct call *call, const struct moln_create_uplink_request *in,
             const struct row_uplink *row, struct err *err)
{
    struct cidr6 block;
    uint8_t first[16], last[16], router[16];
    const char *slash = in->address6 ? strchr(in->address6, '/') : NULL;
    if (!in->address6 && !in->router6) {
        return true;
    }
    bool good = slash && in->router6 &&
                ipv6_parse(arena_strndup(call->arena, in->address6,
                                         (size_t)(slash - in->address6)),
                           first) &&
                cidr6_parse(in->address6, &block) && block.bits >= 16 &&
                block.bits <= 126 && ipv6_parse(in->router6, router);
    if (good) {
        memcpy(last, first, sizeof last);
        ipv6_advance(last, (uint32_t)MAX(row->addresses - 1, 0));
        bool local = router[0] == 0xfe && (router[1] & 0xc0) == 0x80;
        bool taken = memcmp(router, first, sizeof router) >= 0 &&
                     memcmp(router, last, sizeof router) <= 0;
        good = cidr6_contains(&block, last) && !taken &&
               (local || cidr6_contains(&block, router));
    }
    return good ||
           err_set(err, ERR_VALIDATION,
                   "Address6, as 2001:db8::2/64, and Router6, on its network or "
                   "link-local, belong together");
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
    if (!lent && (in->account_id || in->unfiltered || in->device)) {
        return err_set(err, ERR_VALIDATION,
                       "AccountId, Device and Unfiltered are for mode passthrough");
    }
    if (str_eq(in->device, "vfio") && !in->unfiltered) {
        return err_set(err, ERR_VALIDATION,
                       "No rule of the hosts sees what a virtual function sends: say "
                       "Unfiltered, or lend macvtaps");
    }
    return !lent || account_find(call, in->account_id, &account, err);
}

static bool
mode_check(struct call *call, const struct moln_create_uplink_request *in,
           struct row_uplink *row, struct err *err)
{
    bool bridge = str_eq(in->mode, "bridge");
    bool bare = str_eq(in->mode, "none") || uplink_is_overlay(row);
    if (bare != !in->interface) {
        return bare ? err_set(err, ERR_VALIDATION, "Mode %s has no Interface", in->mode)
                    : err_set(err, ERR_VALIDATION, "Name the Interface");
    }
    if (!bridge && (in->address || in->router || in->address6 || in->router6)) {
        return err_set(err, ERR_VALIDATION, "Address and Router are for mode bridge");
    }
    return !bridge ||
           (bridge_read4(call, in, row, err) && bridge_read6(call, in, row, err));
}

/* All overlays of a region are one. */
static bool
overlay_number(struct call *call, struct row_uplink *row, struct err *err)
{
    struct row_list list;
    if (!uplink_is_overlay(row)) {
        return true;
    }
    if (!row_all(call, &row_uplink_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *old = list.rows[i];
        if (uplink_is_overlay(old) && str_eq(old->region, row->region)) {
            row->vni = old->vni;
            return true;
        }
    }
    return vni_take(call->txn, &row->vni, err);
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
        .router = in->router,
        .address6 = in->address6,
        .router6 = in->router6,
        .default_too = in->default_route_too,
        .account = in->account_id,
        .unfiltered = in->unfiltered,
        .device = in->device,
        .created_at = call->now_ns,
    };
    if (!place_read(call, in, &row, err) || !mode_check(call, in, &row, err) ||
        !lent_check(call, in, err) || !check_single(call, &row, err) ||
        !overlay_number(call, &row, err) ||
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
           uplink_places_drop(call->txn, in->uplink_id, err) &&
           row_delete(call->txn, &row_uplink_type, &key, err);
}
