/* prefix_lists.c - managed prefix lists, with every version they had. */
#include "service/ec2/network.h"

#define ENTRIES_LIMIT 1000 /* AWS's largest MaxEntries. */

/* ---- shown ---- */

static struct ec2_managed_prefix_list
list_out(struct call *call, const struct row_prefix_list *row, const char *state,
         struct tag_set tags)
{
    return (struct ec2_managed_prefix_list){
        .prefix_list_id = row->id,
        .address_family = row->family,
        .state = state,
        .prefix_list_arn = arena_printf(call->arena, "arn:aws:ec2:%s:%s:prefix-list/%s",
                                        row->region, row->account, row->id),
        .prefix_list_name = row->name,
        HAS(max_entries, row->max_entries),
        HAS(version, row->version),
        .owner_id = row->account,
        .tags = {tags_out(call, tags), tags.count},
    };
}

FILTER_TEXT(list_id, struct ec2_managed_prefix_list, prefix_list_id)
FILTER_TEXT(list_name, struct ec2_managed_prefix_list, prefix_list_name)
FILTER_TEXT(list_owner, struct ec2_managed_prefix_list, owner_id)

static const struct filter_def list_filters[] = {
    {"owner-id", list_owner_values},
    {"prefix-list-id", list_id_values},
    {"prefix-list-name", list_name_values},
};

bool
ec2_describe_managed_prefix_lists(
    struct call *call, const struct ec2_describe_managed_prefix_lists_request *in,
    struct ec2_describe_managed_prefix_lists_result *out, struct err *err)
{
    const struct row_prefix_list prefix = {.account = call->account,
                                           .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, prefix_list_ids, filters, "prefixListIds", kind_prefix_list,
                    list_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_managed_prefix_list *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_managed_prefix_list);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_prefix_list *row = listing.rows.rows[i];
        items[count] = list_out(
            call, row, row->version > 1 ? "modify-complete" : "create-complete",
            tags_of(&listing.tags, row->id));
        count += listing_accepts(&listing, row->id, &items[count]);
    }
    out->prefix_lists.items = items;
    out->prefix_lists.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

/* The lists that AWS itself keeps: this cloud keeps none. */
bool
ec2_describe_prefix_lists(struct call *call,
                          const struct ec2_describe_prefix_lists_request *in,
                          struct ec2_describe_prefix_lists_result *out, struct err *err)
{
    struct filters filters;
    (void)out;
    if (!filters_init(call, list_filters, ARRAY_LEN(list_filters), in->filters.items,
                      in->filters.count, &filters, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    return !in->prefix_list_ids.count ||
           err_no_such_ids(err, ERR_PREFIX_LIST_NOT_FOUND, kind_prefix_list.what,
                           in->prefix_list_ids.items, in->prefix_list_ids.count);
}

/* ---- versions ---- */

static bool
version_get(struct call *call, const struct row_prefix_list *list, int64_t version,
            const struct row_prefix_list_version **out, struct err *err)
{
    const struct row_prefix_list_version key = {
        .account = list->account, .list_id = list->id, .version = version};
    const void *row;
    if (!row_get(call->txn, &row_prefix_list_version_type, &key, &row, err)) {
        return false;
    }
    *out = row;
    return row || err_set(err, ERR_PREFIX_LIST_VERSION,
                          "The prefix list '%s' has no version %" PRId64 ".", list->id,
                          version);
}

/* The list with one version more, which has 'entries'; the oldest one goes. */
static bool
version_add(struct call *call, const struct row_prefix_list *list,
            struct row_prefix_entry *entries, size_t count,
            struct row_prefix_list *next, struct err *err)
{
    *next = *list;
    next->version++;
    if ((int64_t)count > next->max_entries) {
        return err_set(err, ERR_PREFIX_LIST_FULL,
                       "You've reached the maximum number of entries for the prefix "
                       "list.");
    }
    const struct row_prefix_list_version row = {.account = list->account,
                                                .list_id = list->id,
                                                .version = next->version,
                                                .entries = {entries, count}};
    const struct row_prefix_list_version oldest = {.account = list->account,
                                                   .list_id = list->id,
                                                   .version = next->version -
                                                              PREFIX_VERSIONS_KEPT};
    return row_put(call->txn, &row_prefix_list_type, next, err) &&
           (oldest.version < 1 ||
            row_delete(call->txn, &row_prefix_list_version_type, &oldest, err)) &&
           row_insert(call->txn, &row_prefix_list_version_type, &row, err);
}

static bool
entry_block(struct call *call, const struct row_prefix_list *list, const char *text,
            const char **out, struct err *err)
{
    return str_eq(list->family, "IPv4")
               ? block_canonical(call, text, "cidr", out, err)
               : block6_canonical(call, text, "cidr", out, err);
}

static size_t
entry_find(const struct row_prefix_entry *entries, size_t count, const char *cidr)
{
    size_t at = 0;
    while (at < count && !str_eq(entries[at].cidr, cidr)) {
        at++;
    }
    return at;
}

/* Adds entries to those there are; of one that is there, the description is replaced. */
static bool
entries_add(struct call *call, const struct row_prefix_list *list,
            const struct ec2_add_prefix_list_entry *added, size_t added_count,
            struct row_prefix_entry *entries, size_t *count, struct err *err)
{
    for (size_t i = 0; i < added_count; i++) {
        const char *cidr;
        if (!entry_block(call, list, added[i].cidr, &cidr, err)) {
            return false;
        }
        size_t at = entry_find(entries, *count, cidr);
        entries[at] = (struct row_prefix_entry){cidr, added[i].description};
        *count = MAX(*count, at + 1);
    }
    return true;
}

/* ---- made ---- */

static bool
answer(struct call *call, const struct row_prefix_list *row, const char *state,
       struct ec2_managed_prefix_list **out, struct err *err)
{
    struct tag_set tags;
    if (!tags_shown(call, row->id, &tags, err)) {
        return false;
    }
    *out = ARENA_NEW(call->arena, struct ec2_managed_prefix_list);
    **out = list_out(call, row, state, tags);
    return true;
}

bool
ec2_create_managed_prefix_list(struct call *call,
                               const struct ec2_create_managed_prefix_list_request *in,
                               struct ec2_create_managed_prefix_list_result *out,
                               struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_managed_prefix_list_request_desc, in);
    const char *before;
    struct row_prefix_list list = {.account = call->account,
                                   .id = id_new(call->arena, call->rng, "pl"),
                                   .region = call->region,
                                   .name = in->prefix_list_name,
                                   .family = in->address_family,
                                   .max_entries = in->max_entries,
                                   .created_at = call->now_ns};
    const struct row_prefix_list *old;
    struct row_prefix_list made;
    struct row_prefix_entry *entries =
        ARENA_ARRAY(call->arena, in->entries.count, struct row_prefix_entry);
    size_t count = 0;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        return FIND(call, kind_prefix_list, before, &old, err) &&
               answer(call, old, "create-complete", &out->prefix_list, err);
    }
    if (!str_eq(list.family, "IPv4") && !str_eq(list.family, "IPv6")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.40s) for parameter addressFamily is invalid.",
                       text_or_empty(list.family));
    }
    if (list.max_entries < 1 || list.max_entries > ENTRIES_LIMIT) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64 ") for parameter maxEntries is invalid.",
                       list.max_entries);
    }
    return need(list.name, "prefixListName", err) &&
           room_for_one(call, &row_prefix_list_type, "by_region", PREFIX_LISTS_MAX,
                        ERR_RESOURCE_LIMIT, "prefix lists", err) &&
           new_tags_check(&kind_prefix_list, in->tag_specifications.items,
                          in->tag_specifications.count, err) &&
           entries_add(call, &list, in->entries.items, in->entries.count, entries,
                       &count, err) &&
           dry_run_check(in->dry_run, err) &&
           version_add(call, &list, entries, count, &made, err) &&
           new_tags_put(call, &kind_prefix_list, in->tag_specifications.items,
                        in->tag_specifications.count, list.id, err) &&
           token_put(call, in->client_token, digest, list.id, err) &&
           answer(call, &made, "create-complete", &out->prefix_list, err);
}

/* ---- changed ---- */

static bool
check_version(const struct row_prefix_list *list, bool has, int64_t version,
              struct err *err)
{
    return !has || version == list->version ||
           err_set(err, ERR_PREFIX_LIST_VERSION,
                   "The prefix list '%s' has the version %" PRId64 ", not %" PRId64 ".",
                   list->id, list->version, version);
}

static bool
entries_change(struct call *call, const struct row_prefix_list *list,
               const struct ec2_modify_managed_prefix_list_request *in,
               struct row_prefix_list *next, struct err *err)
{
    const struct row_prefix_list_version *now;
    if (!version_get(call, list, list->version, &now, err)) {
        return false;
    }
    size_t count = now->entries.count;
    struct row_prefix_entry *entries = ARENA_ARRAY(
        call->arena, count + in->add_entries.count, struct row_prefix_entry);
    for (size_t i = 0; i < count; i++) {
        entries[i] = now->entries.items[i];
    }
    for (size_t i = 0; i < in->remove_entries.count; i++) {
        const char *cidr;
        if (!entry_block(call, list, in->remove_entries.items[i].cidr, &cidr, err)) {
            return false;
        }
        size_t at = entry_find(entries, count, cidr);
        if (at == count) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "The entry '%s' is not in the prefix list.", cidr);
        }
        memmove(&entries[at], &entries[at + 1], (count - at - 1) * sizeof *entries);
        count--;
    }
    return entries_add(call, list, in->add_entries.items, in->add_entries.count,
                       entries, &count, err) &&
           version_add(call, list, entries, count, next, err);
}

bool
ec2_modify_managed_prefix_list(struct call *call,
                               const struct ec2_modify_managed_prefix_list_request *in,
                               struct ec2_modify_managed_prefix_list_result *out,
                               struct err *err)
{
    const struct row_prefix_list *list;
    bool entries = in->add_entries.count || in->remove_entries.count;
    if (!FIND(call, kind_prefix_list, in->prefix_list_id, &list, err) ||
        !check_version(list, in->has_current_version, in->current_version, err)) {
        return false;
    }
    if (entries && in->has_max_entries) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "You cannot modify the entries and the size of a prefix list in "
                       "one request.");
    }
    struct row_prefix_list next = *list;
    if (in->prefix_list_name) {
        next.name = in->prefix_list_name;
    }
    if (in->has_max_entries) {
        const struct row_prefix_list_version *now;
        next.max_entries = in->max_entries;
        if (!version_get(call, list, list->version, &now, err)) {
            return false;
        }
        if (next.max_entries < (int64_t)now->entries.count ||
            next.max_entries > ENTRIES_LIMIT) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Value (%" PRId64 ") for parameter maxEntries is invalid.",
                           next.max_entries);
        }
    }
    struct row_prefix_list changed = next;
    bool ok = entries ? entries_change(call, &next, in, &changed, err)
                      : row_put(call->txn, &row_prefix_list_type, &next, err);
    return ok && dry_run_check(in->dry_run, err) &&
           answer(call, &changed, "modify-complete", &out->prefix_list, err);
}

bool
ec2_restore_managed_prefix_list_version(
    struct call *call, const struct ec2_restore_managed_prefix_list_version_request *in,
    struct ec2_restore_managed_prefix_list_version_result *out, struct err *err)
{
    const struct row_prefix_list *list;
    const struct row_prefix_list_version *old;
    struct row_prefix_list next;
    return FIND(call, kind_prefix_list, in->prefix_list_id, &list, err) &&
           check_version(list, true, in->current_version, err) &&
           version_get(call, list, in->previous_version, &old, err) &&
           dry_run_check(in->dry_run, err) &&
           version_add(call, list, old->entries.items, old->entries.count, &next,
                       err) &&
           answer(call, &next, "restore-complete", &out->prefix_list, err);
}

/* ---- who uses it; deleted ---- */

/* Routes and rules of the account that name the list: one association a resource. */
static bool
users_of(struct call *call, const struct row_prefix_list *list,
         struct ec2_prefix_list_association **out, size_t *out_count, struct err *err)
{
    const struct row_route route = {.account = list->account};
    const struct row_security_group_rule rule = {.account = list->account};
    struct row_list routes, rules;
    size_t count = 0;
    if (!rows_of_account(call, &row_route_type, &route, &routes, err) ||
        !rows_of_account(call, &row_security_group_rule_type, &rule, &rules, err)) {
        return false;
    }
    *out = ARENA_ARRAY(call->arena, routes.count + rules.count,
                       struct ec2_prefix_list_association);
    for (size_t i = 0; i < routes.count + rules.count; i++) {
        const struct row_route *r = i < routes.count ? routes.rows[i] : NULL;
        const struct row_security_group_rule *g =
            r ? NULL : rules.rows[i - routes.count];
        if (str_eq(r ? r->destination : g->prefix_list_id, list->id)) {
            (*out)[count++] = (struct ec2_prefix_list_association){
                .resource_id = r ? r->table_id : g->group_id,
                .resource_owner = list->account};
        }
    }
    *out_count = count;
    return true;
}

bool
ec2_get_managed_prefix_list_associations(
    struct call *call,
    const struct ec2_get_managed_prefix_list_associations_request *in,
    struct ec2_get_managed_prefix_list_associations_result *out, struct err *err)
{
    const struct row_prefix_list *list;
    return FIND(call, kind_prefix_list, in->prefix_list_id, &list, err) &&
           dry_run_check(in->dry_run, err) &&
           users_of(call, list, &out->prefix_list_associations.items,
                    &out->prefix_list_associations.count, err);
}

bool
ec2_get_managed_prefix_list_entries(
    struct call *call, const struct ec2_get_managed_prefix_list_entries_request *in,
    struct ec2_get_managed_prefix_list_entries_result *out, struct err *err)
{
    const struct row_prefix_list *list;
    const struct row_prefix_list_version *version;
    if (!FIND(call, kind_prefix_list, in->prefix_list_id, &list, err) ||
        !version_get(call, list,
                     in->has_target_version ? in->target_version : list->version,
                     &version, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    size_t count = version->entries.count;
    out->entries.items = ARENA_ARRAY(call->arena, count, struct ec2_prefix_list_entry);
    out->entries.count = count;
    for (size_t i = 0; i < count; i++) {
        out->entries.items[i] = (struct ec2_prefix_list_entry){
            .cidr = version->entries.items[i].cidr,
            .description = version->entries.items[i].description};
    }
    return true;
}

bool
ec2_delete_managed_prefix_list(struct call *call,
                               const struct ec2_delete_managed_prefix_list_request *in,
                               struct ec2_delete_managed_prefix_list_result *out,
                               struct err *err)
{
    const struct row_prefix_list *list;
    struct ec2_prefix_list_association *users;
    struct row_list versions;
    size_t used;
    if (!FIND(call, kind_prefix_list, in->prefix_list_id, &list, err) ||
        !users_of(call, list, &users, &used, err)) {
        return false;
    }
    const struct row_prefix_list_version prefix = {.account = list->account,
                                                   .list_id = list->id};
    if (used) {
        return err_set(err, ERR_DEPENDENCY,
                       "The prefix list '%s' is used by '%s' and cannot be deleted.",
                       list->id, users[0].resource_id);
    }
    if (!dry_run_check(in->dry_run, err) ||
        !answer(call, list, "delete-complete", &out->prefix_list, err) ||
        !rows_by(call, &row_prefix_list_version_type, NULL, 2, &prefix, &versions,
                 err)) {
        return false;
    }
    for (size_t i = 0; i < versions.count; i++) {
        if (!row_delete(call->txn, &row_prefix_list_version_type, versions.rows[i],
                        err)) {
            return false;
        }
    }
    return object_delete(call, &kind_prefix_list, list, err);
}
