/* uplink_rows.c - see uplink_rows.h. */
#include "core/uplink_rows.h"

bool
uplink_is_lent(const struct row_uplink *uplink)
{
    return str_eq(uplink->mode, UPLINK_PASSTHROUGH_MODE);
}

bool
lni_at(const struct row_subnet *subnet, int64_t device_index)
{
    return subnet->lni_index > 0 && subnet->lni_index == device_index;
}

bool
uplink_lent_somewhere(struct txn *txn, const char *account, const char *zone, bool *out,
                      struct err *err)
{
    struct row_list list;
    *out = false;
    if (!row_list(txn, &row_uplink_type, &(struct row_query){0}, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *u = list.rows[i];
        *out |=
            uplink_is_lent(u) && str_eq(u->account, account) && str_eq(u->zone, zone);
    }
    return true;
}

bool
uplink_lent(struct txn *txn, const char *account, const char *zone, const char *node_id,
            const struct row_uplink **out, struct err *err)
{
    struct row_list list;
    *out = NULL;
    if (!row_list(txn, &row_uplink_type, &(struct row_query){0}, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *u = list.rows[i];
        bool own = node_id && str_eq(u->node_id, node_id);
        bool here = own || (str_empty(u->node_id) && str_eq(u->zone, zone));
        if (uplink_is_lent(u) && str_eq(u->account, account) && here &&
            (own || !*out)) {
            *out = u;
        }
    }
    return true;
}

static bool
lni_in(struct txn *txn, const struct row_subnet *subnet, const struct row_eni **out,
       struct err *err)
{
    const struct row_eni prefix = {.account = subnet->account, .subnet_id = subnet->id};
    const struct row_query query = {
        .index = "by_subnet", .prefix = &prefix, .prefix_fields = 2};
    struct row_list enis;
    if (!row_list(txn, &row_eni_type, &query, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < enis.count && !*out; i++) {
        const struct row_eni *eni = enis.rows[i];
        bool attached = !str_empty(eni->instance_id);
        *out = attached && lni_at(subnet, eni->device_index) ? eni : NULL;
    }
    return true;
}

bool
lni_any(struct txn *txn, const char *account, const char *region, const char *zone,
        const char *subnet_id, const struct row_eni **out, struct err *err)
{
    const struct row_subnet prefix = {.account = account, .region = region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    struct row_list subnets;
    *out = NULL;
    if (!row_list(txn, &row_subnet_type, &query, &subnets, err)) {
        return false;
    }
    for (size_t i = 0; i < subnets.count && !*out; i++) {
        const struct row_subnet *s = subnets.rows[i];
        if (s->lni_index > 0 && str_eq(s->zone, zone) &&
            (!subnet_id || str_eq(s->id, subnet_id)) && !lni_in(txn, s, out, err)) {
            return false;
        }
    }
    return true;
}
