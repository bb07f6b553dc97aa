/* uplinks.c - see uplinks.h. */
#include "control/uplinks.h"

#include "base/log.h"
#include "control/outside.h"
#include "control/wants.h"
#include "core/id.h"
#include "core/uplink_rows.h"

#define FUNCTIONS_MAX 65536 /* A node that says more says nothing. */

static bool
is_for(const struct row_uplink *u, const struct row_node *node)
{
    return str_empty(u->node_id) ? str_eq(u->zone, node->zone)
                                 : str_eq(u->node_id, node->id);
}

/* The one that the node's gateways use; NULL: none. */
static const struct row_uplink *
uplink_of(const struct row_list *uplinks, const struct row_node *node)
{
    const struct row_uplink *found = NULL;
    for (size_t i = 0; i < uplinks->count; i++) {
        const struct row_uplink *u = uplinks->rows[i];
        if (!uplink_is_lent(u) && is_for(u, node) &&
            (!found || !str_empty(u->node_id))) {
            found = u;
        }
    }
    return found;
}

static bool
tell(const struct pass *pass, const struct row_uplink_seen *seen, const char *event_id,
     struct err *err)
{
    const struct row_node_event event = {
        .node_id = seen->node_id,
        .id = event_id,
        .at = pass->now_ns,
        .kind = "uplink",
        .object = seen->uplink_id,
        .message = seen->message,
        .level = "error",
    };
    log_warn("node %s: %s", seen->node_id, seen->message);
    return row_put(pass->txn, &row_node_event_type, &event, err);
}

static bool
same_text(const char *a, const char *b)
{
    return (str_empty(a) && str_empty(b)) || str_eq(a, b);
}

/* Keeps what is to be said of an uplink on a node; an error is told once. */
static bool
note_seen(const struct pass *pass, const struct row_uplink_seen *row,
          const char *event_id, struct err *err)
{
    const struct row_uplink_seen *old;
    if (!row_get(pass->txn, &row_uplink_seen_type, row, (const void **)&old, err)) {
        return false;
    }
    if (old && str_eq(old->state, row->state) && old->functions == row->functions &&
        same_text(old->message, row->message)) {
        return true;
    }
    return row_put(pass->txn, &row_uplink_seen_type, row, err) &&
           (!str_eq(row->state, "error") || tell(pass, row, event_id, err));
}

/* The zone has more nodes than addresses. */
static bool
no_place(const struct pass *pass, const struct row_node *node,
         const struct row_uplink *u, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    const struct row_uplink_seen row = {
        .uplink_id = u->id,
        .node_id = node->id,
        .state = "error",
        .message = arena_printf(arena,
                                "uplink %s: all of its %" PRId64
                                " addresses are other nodes': name more",
                                u->id, u->addresses),
        .at = pass->now_ns,
    };
    return note_seen(pass, &row, id_new(arena, pass->rng, "event"), err);
}

static bool
want_uplink(const struct pass *pass, const struct row_node *node,
            const struct row_uplink *u, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    int64_t place = 0;
    if ((u->addresses > 0 && !uplink_place_take(pass->txn, u, node->id, &place, err)) ||
        (uplink_is_overlay(u) &&
         !uplink_number_take(pass->txn, u, node->id, &place, err))) {
        return false;
    }
    if (place < 0) {
        return no_place(pass, node, u, err);
    }
    const struct link_uplink record = {
        .id = u->id,
        .mode = u->mode,
        .link = u->link,
        .generation = 1,
        .address =
            uplink_is_overlay(u)
                ? arena_printf(arena, "%s/13", uplink_overlay_address(arena, place))
                : uplink_address_at(arena, u, place),
        .router = u->router,
        .address6 = uplink_address6_at(arena, u, place),
        .router6 = u->router6,
        .default_too = u->default_too,
        .unfiltered = u->unfiltered,
        .device = u->device,
        .vni = u->vni,
    };
    return want_put(pass->txn, node->id, LINK_UPLINK, u->id, NULL, &record, err);
}

/* Whether the node is to have it: the gateways' one, and each that is lent there. */
static bool
is_wanted(const struct row_list *uplinks, const struct row_node *node, const char *id)
{
    const struct row_uplink *own = uplink_of(uplinks, node);
    for (size_t i = 0; i < uplinks->count; i++) {
        const struct row_uplink *u = uplinks->rows[i];
        if (str_eq(u->id, id)) {
            return u == own || (uplink_is_lent(u) && is_for(u, node));
        }
    }
    return false;
}

static bool
drop_others(const struct pass *pass, const struct row_list *uplinks,
            const struct row_node *node, struct err *err)
{
    const struct row_node_want prefix = {.node_id = node->id, .kind = LINK_UPLINK};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list there;
    if (!row_list(pass->txn, &row_node_want_type, &query, &there, err)) {
        return false;
    }
    for (size_t i = 0; i < there.count; i++) {
        const struct row_node_want *want = there.rows[i];
        if (!want->deleted && !is_wanted(uplinks, node, want->id) &&
            (!want_take_down(pass->txn, node->id, LINK_UPLINK, want->id, err) ||
             !uplink_place_give_back(pass->txn, want->id, node->id, err))) {
            return false;
        }
    }
    return true;
}

static bool
node_uplinks(const struct pass *pass, const struct row_list *uplinks,
             const struct row_node *node, struct err *err)
{
    if (!str_eq(node->state, "active")) {
        return true;
    }
    if (!drop_others(pass, uplinks, node, err)) {
        return false;
    }
    for (size_t i = 0; i < uplinks->count; i++) {
        const struct row_uplink *u = uplinks->rows[i];
        if (is_wanted(uplinks, node, u->id) && !want_uplink(pass, node, u, err)) {
            return false;
        }
    }
    return true;
}

static bool
any_overlay(const struct row_list *uplinks)
{
    for (size_t i = 0; i < uplinks->count; i++) {
        if (uplink_is_overlay(uplinks->rows[i])) {
            return true;
        }
    }
    return false;
}

bool
uplinks_pass(const struct pass *pass, const char *account UNUSED, const char *id,
             struct err *err)
{
    struct row_list uplinks, nodes;
    bool every = str_empty(id) || str_eq(id, "-");
    if (!row_list(pass->txn, &row_uplink_type, &(struct row_query){0}, &uplinks, err)) {
        return false;
    }
    if (!every) {
        const struct row_node key = {.id = id};
        const void *node;
        return row_get(pass->txn, &row_node_type, &key, &node, err) &&
               (!node || node_uplinks(pass, &uplinks, node, err)) &&
               (!any_overlay(&uplinks) || outside_pass(pass, err));
    }
    if (!row_list(pass->txn, &row_node_type, &(struct row_query){0}, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count; i++) {
        if (!node_uplinks(pass, &uplinks, nodes.rows[i], err)) {
            return false;
        }
    }
    return outside_pass(pass, err);
}

/* ---- what nodes say ------------------------------------------------------------------- */

bool
uplink_report(const struct pass *pass, const struct row_node_want *want,
              const struct link_network_seen *seen, const char *event_id,
              struct err *err)
{
    const struct row_uplink_seen row = {
        .uplink_id = want->id,
        .node_id = want->node_id,
        .state = seen->state,
        .message = seen->message,
        .at = pass->now_ns,
        .functions = MIN(MAX(seen->functions, 0), FUNCTIONS_MAX),
    };
    if (want->deleted && str_eq(seen->state, "absent")) {
        return want_forget(pass->txn, want->node_id, LINK_UPLINK, want->id, err) &&
               row_delete(pass->txn, &row_uplink_seen_type, &row, err);
    }
    return note_seen(pass, &row, event_id, err);
}
