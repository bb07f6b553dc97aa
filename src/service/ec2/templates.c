/* templates.c - launch templates: made, described, changed, deleted. */
#include "service/ec2/templates.h"
#include "service/ec2/describe.h"

static const char *const taggable[] = {"launch-template", NULL};

static bool
find_by_name(struct call *call, const char *name,
             const struct row_launch_template **out, struct err *err)
{
    const struct row_launch_template prefix = {
        .account = call->account, .region = call->region, .name = name};
    const struct row_query query = {
        .index = "by_name", .prefix = &prefix, .prefix_fields = 3, .limit = 1};
    struct row_list list;
    if (!row_list(call->txn, &row_launch_template_type, &query, &list, err)) {
        return false;
    }
    *out = list.count ? list.rows[0] : NULL;
    return true;
}

static bool
find_by_id(struct call *call, const char *id, const struct row_launch_template **out,
           struct err *err)
{
    const struct row_launch_template key = {.account = call->account, .id = id};
    const void *row;
    if (!ids_check("lt", &id, 1, ERR_TEMPLATE_MALFORMED, err) ||
        !row_get(call->txn, &row_launch_template_type, &key, &row, err)) {
        return false;
    }
    const struct row_launch_template *t = row;
    *out = t && str_eq(t->region, call->region) ? t : NULL;
    return true;
}

bool
template_find(struct call *call, const struct template_name *by,
              const struct row_launch_template **out, struct err *err)
{
    bool has_id = !str_empty(by->id), has_name = !str_empty(by->name);
    if (has_id == has_name) {
        return err_set(
            err, has_id ? ERR_INVALID_PARAMETER_COMBINATION : ERR_MISSING_PARAMETER,
            "Either a launch template ID or a launch template name must be "
            "specified in the request%s.",
            has_id ? ", but not both" : "");
    }
    const struct row_launch_template *t;
    if (!(has_id ? find_by_id(call, by->id, &t, err)
                 : find_by_name(call, by->name, &t, err))) {
        return false;
    }
    if (!t) {
        return err_set(
            err, has_id ? ERR_TEMPLATE_NOT_FOUND : ERR_TEMPLATE_NAME_NOT_FOUND,
            "The specified launch template, with template %s %.128s, does not "
            "exist.",
            has_id ? "ID" : "name", has_id ? by->id : by->name);
    }
    *out = t;
    return true;
}

struct ec2_launch_template *
template_out(struct call *call, const struct row_launch_template *t,
             struct ec2_launch_template *out)
{
    if (!out) {
        out = ARENA_NEW(call->arena, struct ec2_launch_template);
    }
    *out = (struct ec2_launch_template){
        .launch_template_id = t->id,
        .launch_template_name = t->name,
        .create_time = t->created_at,
        .has_create_time = true,
        .created_by = t->created_by,
        .default_version_number = t->default_version,
        .has_default_version_number = true,
        .latest_version_number = t->latest_version,
        .has_latest_version_number = true,
    };
    return out;
}

/* ---- DescribeLaunchTemplates ---- */

FILTER_TIME(template_create_time, struct row_launch_template, created_at)
FILTER_TEXT(template_name, struct row_launch_template, name)

static const struct filter_def template_filters[] = {
    {"create-time", template_create_time_values},
    {"launch-template-name", template_name_values},
};

static int
template_order(const void *a, const void *b)
{
    const struct row_launch_template *x = *(const struct row_launch_template *const *)a;
    const struct row_launch_template *y = *(const struct row_launch_template *const *)b;
    return strcmp(x->id, y->id);
}

/* The templates that ids and names name, each once, by id. */
static bool
load_named(struct call *call, const struct ec2_describe_launch_templates_request *in,
           struct row_list *out, struct err *err)
{
    size_t ids = in->launch_template_ids.count, names = in->launch_template_names.count;
    const void **rows = ARENA_ARRAY(call->arena, ids + names, const void *);
    size_t count = 0;
    for (size_t i = 0; i < ids + names; i++) {
        const struct template_name by = {
            .id = i < ids ? in->launch_template_ids.items[i] : NULL,
            .name = i < ids ? NULL : in->launch_template_names.items[i - ids],
        };
        const struct row_launch_template *t;
        if (!template_find(call, &by, &t, err)) {
            return false;
        }
        rows[count++] = t;
    }
    qsort(rows, count, sizeof *rows, template_order);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || template_order(&rows[kept - 1], &rows[i]) != 0) {
            rows[kept++] = rows[i];
        }
    }
    *out = (struct row_list){rows, kept};
    return true;
}

static bool
load_all(struct call *call, struct row_list *out, struct err *err)
{
    const struct row_launch_template prefix = {.account = call->account};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    return row_list(call->txn, &row_launch_template_type, &query, out, err);
}

bool
ec2_describe_launch_templates(struct call *call,
                              const struct ec2_describe_launch_templates_request *in,
                              struct ec2_describe_launch_templates_result *out,
                              struct err *err)
{
    struct filters filters;
    struct page page;
    struct row_list list;
    struct tags tags;
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 1,
                                 .max = 200,
                                 .next_token = in->next_token};
    bool named = in->launch_template_ids.count || in->launch_template_names.count;
    if (!filters_init(call, template_filters, ARRAY_LEN(template_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !(named ? load_named(call, in, &list, err) : load_all(call, &list, err)) ||
        !tags_load_all(call, &tags, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    out->launch_templates.items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_launch_template);
    for (size_t i = 0; i < list.count; i++) {
        const struct row_launch_template *t = list.rows[i];
        struct tag_set set = tags_of(&tags, t->id);
        if (!str_eq(t->region, call->region) || !filters_match(&filters, t, set) ||
            !page_take(&page, t->id)) {
            continue;
        }
        struct ec2_launch_template *o = template_out(
            call, t, &out->launch_templates.items[out->launch_templates.count++]);
        o->tags.items = tags_out(call, set);
        o->tags.count = set.count;
    }
    out->next_token = page_next_token(call, &page);
    return true;
}

/* ---- changes ---- */

static bool
name_check(const char *name, struct err *err)
{
    size_t len = strlen(name);
    bool good = len >= 3 && len <= 128 &&
                strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789().-/_") == len;
    return good ||
           err_set(err, ERR_TEMPLATE_NAME_MALFORMED,
                   "Launch template name must contain 3 to 128 letters, digits or "
                   "the characters ( ) . - / _");
}

bool
ec2_create_launch_template(struct call *call,
                           const struct ec2_create_launch_template_request *in,
                           struct ec2_create_launch_template_result *out,
                           struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_launch_template_request_desc, in);
    const char *before;
    const struct row_launch_template *taken;
    if (!token_get(call, in->client_token, digest, &before, err)) {
        return false;
    }
    if (before) {
        const struct template_name by = {.id = before};
        if (!template_find(call, &by, &taken, err)) {
            return false;
        }
        out->launch_template = template_out(call, taken, NULL);
        return true;
    }
    if (!name_check(in->launch_template_name, err) ||
        !tag_specs_check(in->tag_specifications.items, in->tag_specifications.count,
                         taggable, err) ||
        !template_data_check(call, in->launch_template_data, err) ||
        !find_by_name(call, in->launch_template_name, &taken, err)) {
        return false;
    }
    if (taken) {
        return err_set(err, ERR_TEMPLATE_NAME_EXISTS,
                       "Launch template name already in use.");
    }
    if (!room_for_one(call, &row_launch_template_type, "by_name", TEMPLATES_MAX,
                      ERR_RESOURCE_LIMIT, "launch templates", err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    const struct row_launch_template t = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "lt"),
        .region = call->region,
        .name = in->launch_template_name,
        .default_version = 1,
        .latest_version = 1,
        .next_version = 2,
        .created_at = call->now_ns,
        .created_by = call->user_arn,
    };
    if (!row_insert(call->txn, &row_launch_template_type, &t, err) ||
        !template_version_put(call, &t, 1, in->version_description,
                              in->launch_template_data, NULL, err) ||
        !tag_specs_put(call, in->tag_specifications.items, in->tag_specifications.count,
                       "launch-template", t.id, err) ||
        !token_put(call, in->client_token, digest, t.id, err)) {
        return false;
    }
    struct tag_set set;
    if (!tags_load_one(call, t.id, &set, err)) {
        return false;
    }
    out->launch_template = template_out(call, &t, NULL);
    out->launch_template->tags.items = tags_out(call, set);
    out->launch_template->tags.count = set.count;
    return true;
}

bool
ec2_modify_launch_template(struct call *call,
                           const struct ec2_modify_launch_template_request *in,
                           struct ec2_modify_launch_template_result *out,
                           struct err *err)
{
    const struct template_name by = {in->launch_template_id, in->launch_template_name};
    const struct row_launch_template *t;
    const struct row_launch_template_version *version;
    int64_t number;
    if (!template_find(call, &by, &t, err) ||
        !template_version_number(t, in->default_version, &number, err) ||
        !template_version_get(call, t, number, &version, err)) {
        return false;
    }
    if (!version) {
        return err_no_version(err, t, number);
    }
    if (!dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    struct row_launch_template next = *t;
    next.default_version = number;
    if (!row_put(call->txn, &row_launch_template_type, &next, err)) {
        return false;
    }
    out->launch_template = template_out(call, &next, NULL);
    return true;
}

bool
ec2_delete_launch_template(struct call *call,
                           const struct ec2_delete_launch_template_request *in,
                           struct ec2_delete_launch_template_result *out,
                           struct err *err)
{
    const struct template_name by = {in->launch_template_id, in->launch_template_name};
    const struct row_launch_template *t;
    struct row_list versions;
    if (!template_find(call, &by, &t, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    const struct row_launch_template_version prefix = {.account = t->account,
                                                       .template_id = t->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    if (!row_list(call->txn, &row_launch_template_version_type, &query, &versions,
                  err)) {
        return false;
    }
    for (size_t i = 0; i < versions.count; i++) {
        if (!row_delete(call->txn, &row_launch_template_version_type, versions.rows[i],
                        err)) {
            return false;
        }
    }
    out->launch_template = template_out(call, t, NULL);
    return tags_drop(call, t->id, err) &&
           row_delete(call->txn, &row_launch_template_type, t, err);
}
