/* launch_places.c - the zone, and the nodes in it, that a launch gets. */
#include "core/uplink_rows.h"
#include "service/ec2/launch.h"

/* The subnets, those in the emptiest zone first. */
static const struct row_subnet **
by_load(struct call *call, const struct launch *l)
{
    size_t count = l->net.subnet_count;
    const struct row_subnet **out =
        ARENA_ARRAY(call->arena, count, const struct row_subnet *);
    double *loads = ARENA_ARRAY(call->arena, count, double);
    for (size_t i = 0; i < count; i++) {
        double load = pool_load(call->pool, l->net.subnets[i]->zone);
        size_t at = i;
        for (; at > 0 && loads[at - 1] > load; at--) {
            loads[at] = loads[at - 1];
            out[at] = out[at - 1];
        }
        loads[at] = load;
        out[at] = l->net.subnets[i];
    }
    return out;
}

/* Whether another zone may serve where this one cannot. */
static bool
only_this_zone(enum err_code code)
{
    return code == ERR_PLACEMENT_GROUP_IN_USE || code == ERR_HOST_CONFIGURATION ||
           code == ERR_INSTANCE_LIMIT;
}

/* Cards on an interface that the hosts' operator has lent. */
static int64_t
lent_cards(const struct launch *l)
{
    int64_t count = 0;
    for (size_t i = 0; i < l->net.more_count; i++) {
        const struct launch_nic *nic = &l->net.more[i];
        count += lni_at(nic->ask.subnet, nic->index);
    }
    return count;
}

bool
launch_choose_nodes(struct call *call, const struct launch *l, int64_t want,
                    struct launch_places *out, struct err *err)
{
    const struct row_subnet **subnets = by_load(call, l);
    struct places_found found = {0};
    struct err why;
    err_clear(&why);
    bool asked = false;
    for (size_t i = 0; i < l->net.subnet_count && out->count < (size_t)want; i++) {
        struct place_want ask = {
            .terms = &l->terms,
            .type = l->type,
            .zone = subnets[i]->zone,
            .vcpus = launch_vcpus(l),
            .memory_bytes = l->type->memory_bytes,
            .disk_bytes = l->disk.size_gib * (int64_t)GIB,
            .count = (size_t)want,
            .vpc_id = l->net.vpc_id,
            .lent_cards = lent_cards(l),
        };
        place_want_fill(call, &ask);
        if (!places_find(call->pool, call->txn, call->config, &ask, &found, err)) {
            if (!only_this_zone(err->code)) {
                return false;
            }
            why = *err;
            err_clear(err);
            continue;
        }
        asked = true;
        if (found.count > out->count || !out->subnet) {
            out->count = found.count;
            out->picks = found.picks;
            out->partitions = found.partitions;
            out->subnet = subnets[i];
        }
    }
    if (out->count >= (size_t)l->in->min_count) {
        return true;
    }
    if (!asked) {
        *err = why;
        return false;
    }
    found.ask.zone = l->net.subnet_count == 1 ? out->subnet->zone : NULL;
    return err_capacity(call, &found.ask, l->type->name, found.ask.zone, err);
}
