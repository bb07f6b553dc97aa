/* nat_loop.c - see nat_loop.h. */
#include "control/nat_loop.h"

#include "base/log.h"
#include "control/network_loop.h"
#include "control/wants.h"
#include "core/network_rows.h"

#define NAT_VISIBLE_NS (3600 * NS_PER_S)

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

static bool
nat_is_down(const struct pass *pass, const struct row_nat_gateway *nat, bool *out,
            struct err *err)
{
    struct row_list nodes;
    *out = true;
    if (!row_list(pass->txn, &row_node_type, &(struct row_query){0}, &nodes, err)) {
        return false;
    }
    for (size_t i = 0; i < nodes.count; i++) {
        const struct row_node *node = nodes.rows[i];
        const struct row_node_want *want;
        if (!want_get(pass->txn, node->id, LINK_NAT_GATEWAY, nat->id, &want, err)) {
            return false;
        }
        *out &= !want || !str_eq(node->state, "active");
    }
    return true;
}

/* Its interface and address are given back when no node has it any more. */
static bool
nat_end(const struct pass *pass, const struct row_nat_gateway *nat, struct err *err)
{
    const struct row_eni *eni;
    struct row_nat_gateway next = *nat;
    next.state = "deleted";
    next.deleted_at = pass->now_ns;
    log_info("NAT gateway %s: deleted", nat->id);
    return GET(pass, eni, &eni, err, .account = nat->account, .id = nat->eni_id) &&
           (!eni || eni_remove(pass->txn, eni, err)) &&
           row_put(pass->txn, &row_nat_gateway_type, &next, err);
}

static bool
nat_step(const struct pass *pass, const struct row_nat_gateway *nat, struct err *err)
{
    bool down;
    if (str_eq(nat->state, "pending")) {
        struct row_nat_gateway next = *nat;
        next.state = "available";
        return row_put(pass->txn, &row_nat_gateway_type, &next, err);
    }
    if (str_eq(nat->state, "deleting")) {
        return network_pass(pass, nat->account, nat->vpc_id, err) &&
               nat_is_down(pass, nat, &down, err) && (!down || nat_end(pass, nat, err));
    }
    if (nat->deleted_at && pass->now_ns >= nat->deleted_at + NAT_VISIBLE_NS) {
        return resource_tags_drop(pass->txn, nat->account, nat->region, nat->id, err) &&
               row_delete(pass->txn, &row_nat_gateway_type, nat, err);
    }
    return true;
}

bool
nats_pass(const struct pass *pass, const char *account UNUSED, const char *id UNUSED,
          struct err *err)
{
    static const char *const states[] = {"pending", "deleting", "deleted"};
    for (size_t s = 0; s < ARRAY_LEN(states); s++) {
        const struct row_nat_gateway prefix = {.state = states[s]};
        const struct row_query query = {
            .index = "by_state", .prefix = &prefix, .prefix_fields = 1};
        struct row_list list;
        if (!row_list(pass->txn, &row_nat_gateway_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            if (!nat_step(pass, list.rows[i], err)) {
                return false;
            }
        }
    }
    return true;
}
