/* placement_groups.c - Create, Describe and DeletePlacementGroup(s). */
#include "service/ec2/network.h"
#include "service/ec2/placement_load.h"

#define GROUPS_MAX 500
#define NAME_MAX_LEN 255
#define PARTITIONS_MAX 7
#define PARTITIONS_DEFAULT 2

static struct ec2_placement_group
group_out(struct call *call, const struct row_placement_group *row, struct tag_set tags)
{
    bool partition = str_eq(row->strategy, "partition");
    return (struct ec2_placement_group){
        .group_name = row->name,
        .group_id = row->id,
        .group_arn = arena_printf(call->arena, "arn:aws:ec2:%s:%s:placement-group/%s",
                                  row->region, row->account, row->name),
        .state = "available",
        .strategy = row->strategy,
        .partition_count = row->partition_count,
        .has_partition_count = partition,
        .spread_level = str_empty(row->spread_level) ? NULL : row->spread_level,
        .tags = {tags_out(call, tags), tags.count},
    };
}

FILTER_TEXT(group_name, struct ec2_placement_group, group_name)
FILTER_TEXT(group_arn, struct ec2_placement_group, group_arn)
FILTER_TEXT(group_state, struct ec2_placement_group, state)
FILTER_TEXT(group_strategy, struct ec2_placement_group, strategy)
FILTER_TEXT(group_level, struct ec2_placement_group, spread_level)

static const struct filter_def group_filters[] = {
    {"group-arn", group_arn_values},      {"group-name", group_name_values},
    {"spread-level", group_level_values}, {"state", group_state_values},
    {"strategy", group_strategy_values},
};

bool
ec2_describe_placement_groups(struct call *call,
                              const struct ec2_describe_placement_groups_request *in,
                              struct ec2_describe_placement_groups_result *out,
                              struct err *err)
{
    const struct row_placement_group prefix = {.account = call->account,
                                               .region = call->region};
    struct filters filters;
    struct pick names, ids;
    struct tags tags;
    struct row_list list;
    pick_init(call, in->group_names.items, in->group_names.count, &names);
    pick_init(call, in->group_ids.items, in->group_ids.count, &ids);
    if (!filters_init(call, group_filters, ARRAY_LEN(group_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !ids_check("pg", in->group_ids.items, in->group_ids.count,
                   ERR_PLACEMENT_GROUP_ID, err) ||
        !rows_by(call, &row_placement_group_type, "by_region", 2, &prefix, &list,
                 err) ||
        !tags_load_all(call, &tags, err) || !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct ec2_placement_group *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_placement_group);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_placement_group *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        items[count] = group_out(call, row, set);
        bool named = pick_take(&names, row->name), listed = pick_take(&ids, row->id);
        count += named && listed && filters_match(&filters, &items[count], set);
    }
    out->placement_groups.items = items;
    out->placement_groups.count = count;
    return pick_check(call, &names, ERR_PLACEMENT_GROUP, "Placement Group", err) &&
           pick_check(call, &ids, ERR_PLACEMENT_GROUP, "Placement Group ID", err);
}

/* ---- made ------------------------------------------------------------------------ */

static bool
check_name(const char *name, struct err *err)
{
    if (!need(name, "groupName", err)) {
        return false;
    }
    bool ok =
        strlen(name) <= NAME_MAX_LEN && name[0] != ' ' && name[strlen(name) - 1] != ' ';
    for (const char *c = name; ok && *c; c++) {
        ok = *c >= ' ' && *c <= '~';
    }
    return ok || err_set(err, ERR_INVALID_PARAMETER_VALUE,
                         "Value (%.255s) for parameter groupName is invalid: up to %d "
                         "ASCII characters, no spaces at its ends.",
                         name, NAME_MAX_LEN);
}

static bool
check_strategy(const struct ec2_create_placement_group_request *in,
               struct row_placement_group *row, struct err *err)
{
    row->strategy = in->strategy;
    if (str_empty(in->strategy)) {
        /* AWS's rule: a number of partitions says which strategy is meant. */
        row->strategy = in->has_partition_count ? "partition" : "cluster";
    }
    bool partition = str_eq(row->strategy, "partition");
    if (in->has_partition_count && !partition) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "PartitionCount may be specified only for the strategy "
                       "partition");
    }
    if (!str_empty(in->spread_level) && !str_eq(row->strategy, "spread")) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "SpreadLevel may be specified only for the strategy spread");
    }
    if (partition) {
        row->partition_count =
            in->has_partition_count ? in->partition_count : PARTITIONS_DEFAULT;
    }
    if (partition &&
        (row->partition_count < 1 || row->partition_count > PARTITIONS_MAX)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64 ") for parameter PartitionCount is invalid. "
                       "Expecting a value between 1 and %d.",
                       row->partition_count, PARTITIONS_MAX);
    }
    if (str_eq(row->strategy, "spread")) {
        row->spread_level = str_empty(in->spread_level) ? "rack" : in->spread_level;
    }
    return true;
}

static bool
check_place(struct call *call, const struct row_placement_group *row, struct err *err)
{
    struct row_list list;
    if (!rows_by(call, &row_placement_group_type, "by_region", 2, row, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (str_eq(((const struct row_placement_group *)list.rows[i])->name,
                   row->name)) {
            return err_set(err, ERR_PLACEMENT_GROUP_EXISTS,
                           "The Placement Group '%s' already exists.", row->name);
        }
    }
    return list.count < GROUPS_MAX ||
           err_set(err, ERR_PLACEMENT_GROUP_LIMIT,
                   "The maximum number of placement groups (%d) has been reached.",
                   GROUPS_MAX);
}

bool
ec2_create_placement_group(struct call *call,
                           const struct ec2_create_placement_group_request *in,
                           struct ec2_create_placement_group_result *out,
                           struct err *err)
{
    struct row_placement_group row = {.account = call->account,
                                      .id = id_new(call->arena, call->rng, "pg"),
                                      .region = call->region,
                                      .name = in->group_name,
                                      .created_at = call->now_ns};
    const struct ec2_tag_specification *specs = in->tag_specifications.items;
    size_t spec_count = in->tag_specifications.count;
    struct tag_set tags;
    if (!check_name(in->group_name, err) || !check_strategy(in, &row, err) ||
        !new_tags_check(&kind_placement_group, specs, spec_count, err) ||
        !check_place(call, &row, err) || !dry_run_check(in->dry_run, err) ||
        !row_insert(call->txn, &row_placement_group_type, &row, err) ||
        !new_tags_put(call, &kind_placement_group, specs, spec_count, row.id, err) ||
        !tags_shown(call, row.id, &tags, err)) {
        return false;
    }
    out->placement_group = ARENA_NEW(call->arena, struct ec2_placement_group);
    *out->placement_group = group_out(call, &row, tags);
    return true;
}

/* ---- deleted --------------------------------------------------------------------- */

bool
ec2_delete_placement_group(struct call *call,
                           const struct ec2_delete_placement_group_request *in,
                           struct err *err)
{
    const struct row_placement_group *group;
    struct row_list members;
    if (!need(in->group_name, "groupName", err) ||
        !placement_group_find(call, in->group_name, NULL, &group, err)) {
        return false;
    }
    const struct row_placement_member prefix = {.account = call->account,
                                                .group_id = group->id};
    if (!rows_by(call, &row_placement_member_type, NULL, 2, &prefix, &members, err)) {
        return false;
    }
    if (members.count > 0) {
        return err_set(err, ERR_PLACEMENT_GROUP_IN_USE,
                       "The placement group '%s' is in use and may not be deleted.",
                       group->name);
    }
    return dry_run_check(in->dry_run, err) &&
           object_delete(call, &kind_placement_group, group, err);
}
