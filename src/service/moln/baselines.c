/* baselines.c - what every guest of a zone may count on, as operators see and set it. */
#include "core/baseline.h"
#include "service/moln/operators.h"

static bool
baseline_out(struct call *call, const struct row_baseline *row,
             struct moln_baseline *out, struct err *err)
{
    const struct baseline_key key = {row->region, row->zone, row->accel};
    struct baseline_hosts hosts;
    if (!baseline_hosts(call->txn, &key, &hosts, err)) {
        return false;
    }
    *out = (struct moln_baseline){
        .zone = row->zone,
        .accelerator = row->accel,
        .cpu_model = row->cpu_model,
        .machine_type = row->machine_type,
        HAS(automatic, !row->fixed),
        HAS_TIME(chosen_at, row->chosen_at),
        .has_nodes = true,
        .has_nodes_below = true,
    };
    for (size_t i = 0; i < hosts.count; i++) {
        if (baseline_told(hosts.items[i].seen)) {
            out->nodes++;
            out->nodes_below += !str_empty(hosts.items[i].node->lacks);
        }
    }
    return true;
}

bool
moln_list_baselines(struct call *call, const struct moln_list_baselines_request *in,
                    struct moln_list_baselines_response *out, struct err *err)
{
    struct listing listing;
    struct row_list list;
    if (in->zone && !region_of_zone(call->config, in->zone)) {
        return err_no(err, "zone", in->zone);
    }
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token,
                      in->zone, &listing, err) ||
        !row_all(call, &row_baseline_type, &list, err)) {
        return false;
    }
    struct moln_baseline *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_baseline);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_baseline *row = list.rows[i];
        const char *key =
            arena_printf(call->arena, "%s/%s/%s", row->region, row->zone, row->accel);
        bool is_asked_for = !in->zone || str_eq(in->zone, row->zone);
        if (is_asked_for && listing_take(&listing, key) &&
            !baseline_out(call, row, &items[count++], err)) {
            return false;
        }
    }
    out->baselines.items = items;
    out->baselines.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

/* ---- SetBaseline ------------------------------------------------------------------------- */

/* The accelerator that was meant: the only one of which there is a baseline, if none was
 * named. */
static bool
accel_of(struct call *call, const char *region,
         const struct moln_set_baseline_request *in, const char **out, struct err *err)
{
    const struct row_baseline prefix = {.region = region, .zone = in->zone};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (in->accelerator) {
        *out = in->accelerator;
        return true;
    }
    if (!row_list(call->txn, &row_baseline_type, &query, &list, err)) {
        return false;
    }
    if (list.count != 1) {
        return err_set(err, ERR_VALIDATION,
                       list.count
                           ? "Zone %s has hosts of both accelerators: say which, "
                             "kvm or tcg"
                           : "No host of zone %s has told what it offers yet",
                       in->zone);
    }
    *out = ((const struct row_baseline *)list.rows[0])->accel;
    return true;
}

/* A name that no host knows is a mistake, not a plan. */
static bool
check_offered(struct call *call, const struct row_baseline *row, struct err *err)
{
    const struct baseline_key key = {row->region, row->zone, row->accel};
    struct baseline_hosts hosts;
    if (!baseline_hosts(call->txn, &key, &hosts, err)) {
        return false;
    }
    for (size_t i = 0; i < hosts.count; i++) {
        const struct row_node_seen *seen = hosts.items[i].seen;
        if (baseline_told(seen) &&
            baseline_offers(seen, row->cpu_model, row->machine_type)) {
            return true;
        }
    }
    return err_set(
        err, ERR_VALIDATION,
        "No %s host of zone %s offers the processor %s with the machine type "
        "%s; 'moln node show' says what each does",
        row->accel, row->zone, row->cpu_model, row->machine_type);
}

static bool
set_fixed(struct call *call, const struct baseline_key *key,
          const struct moln_set_baseline_request *in, const struct row_baseline **out,
          struct err *err)
{
    const struct row_baseline *old;
    if (!baseline_get(call->txn, key, &old, err)) {
        return false;
    }
    struct row_baseline *row = ARENA_NEW(call->arena, struct row_baseline);
    *row = (struct row_baseline){
        .region = key->region,
        .zone = key->zone,
        .accel = key->accel,
        .cpu_model = in->cpu_model ? in->cpu_model
                     : old         ? old->cpu_model
                                   : NULL,
        .machine_type = in->machine_type ? in->machine_type
                        : old            ? old->machine_type
                                         : NULL,
        .chosen_at = call->now_ns,
        .fixed = true,
    };
    *out = row;
    if (str_empty(row->cpu_model) || str_empty(row->machine_type)) {
        return err_set(
            err, ERR_VALIDATION,
            "Zone %s has no baseline yet: name both CpuModel and MachineType",
            key->zone);
    }
    return check_offered(call, row, err) &&
           row_put(call->txn, &row_baseline_type, row, err);
}

bool
moln_set_baseline(struct call *call, const struct moln_set_baseline_request *in,
                  struct moln_set_baseline_response *out, struct err *err)
{
    const struct region_config *region = region_of_zone(call->config, in->zone);
    const struct row_baseline *row = NULL;
    struct baseline_key key;
    bool named = in->cpu_model || in->machine_type;
    if (!region) {
        return err_no(err, "zone", in->zone);
    }
    if (named == (in->has_automatic && in->automatic)) {
        return err_set(err, ERR_VALIDATION,
                       "Name a CpuModel or a MachineType, or let it be Automatic");
    }
    key = (struct baseline_key){.region = region->name, .zone = in->zone};
    if (!accel_of(call, region->name, in, &key.accel, err) ||
        !(named ? set_fixed(call, &key, in, &row, err)
                : baseline_renew(call->txn, &key, call->now_ns, &row, err))) {
        return false;
    }
    if (!row) {
        return err_set(err, ERR_RESOURCE_IN_USE,
                       "The %s hosts of zone %s have no processor and machine type in "
                       "common",
                       key.accel, key.zone);
    }
    out->baseline = ARENA_NEW(call->arena, struct moln_baseline);
    return baseline_judge_all(call->txn, &key, NULL, err) &&
           baseline_out(call, row, out->baseline, err);
}
