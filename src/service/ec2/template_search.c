/* template_search.c - DescribeLaunchTemplateVersions: of one template, or of all. */
#include "base/map.h"
#include "service/ec2/templates.h"

#define DATA(object) \
    (((const struct ec2_launch_template_version *)(object))->launch_template_data)

FILTER_TIME(version_create_time, struct ec2_launch_template_version, create_time)
FILTER_BOOL(version_default, struct ec2_launch_template_version, default_version)

static void
version_ebs_optimized(const void *object, struct filter_test *test)
{
    filter_offer_bool(test, DATA(object)->ebs_optimized);
}

static void
version_http_endpoint(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->metadata_options
                           ? DATA(object)->metadata_options->http_endpoint
                           : NULL);
}

static void
version_http_tokens(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->metadata_options
                           ? DATA(object)->metadata_options->http_tokens
                           : NULL);
}

static void
version_profile(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->iam_instance_profile
                           ? DATA(object)->iam_instance_profile->arn
                           : NULL);
}

static void
version_image(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->image_id);
}

static void
version_type(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->instance_type);
}

static void
version_kernel(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->kernel_id);
}

static void
version_ram_disk(const void *object, struct filter_test *test)
{
    filter_offer(test, DATA(object)->ram_disk_id);
}

static const struct filter_def version_filters[] = {
    {"create-time", version_create_time_values},
    {"ebs-optimized", version_ebs_optimized},
    {"http-endpoint", version_http_endpoint},
    {"http-protocol-ipv4", version_http_endpoint},
    {"host-resource-group-arn", NULL},
    {"http-tokens", version_http_tokens},
    {"iam-instance-profile", version_profile},
    {"image-id", version_image},
    {"instance-type", version_type},
    {"is-default-version", version_default_values},
    {"kernel-id", version_kernel},
    {"license-configuration-arn", NULL},
    {"network-card-index", NULL},
    {"ram-disk-id", version_ram_disk},
};

/* What a DescribeLaunchTemplateVersions call asks for, and its answer as it grows. */
struct version_search {
    struct call *call;
    const struct ec2_describe_launch_template_versions_request *in;
    struct filters filters;
    struct page page;
    VEC(struct ec2_launch_template_version) found;
};

/* Newest first; the token's key rises as the number falls. */
static bool
search_add(struct version_search *s, const struct row_launch_template *t,
           const struct row_launch_template_version *v, struct err *err)
{
    struct ec2_launch_template_version item;
    const char *key = arena_printf(s->call->arena, "%s/%010" PRId64, t->id,
                                   INT64_C(9999999999) - v->version);
    if (!template_version_out(s->call, t, v, &item, err)) {
        return false;
    }
    if (filters_match(&s->filters, &item, (struct tag_set){0}) &&
        page_take(&s->page, key)) {
        VEC_PUSH(&s->found, item);
    }
    return true;
}

/* Whether version 'number' is among those asked for. */
static bool
wanted(const struct version_search *s, const struct row_launch_template *t,
       int64_t number, bool *out, struct err *err)
{
    int64_t low = 1, high = INT64_MAX, named;
    if ((s->in->min_version &&
         !template_version_number(t, s->in->min_version, &low, err)) ||
        (s->in->max_version &&
         !template_version_number(t, s->in->max_version, &high, err))) {
        return false;
    }
    *out = s->in->versions.count == 0 && number >= low && number <= high;
    for (size_t i = 0; i < s->in->versions.count; i++) {
        if (!template_version_number(t, s->in->versions.items[i], &named, err)) {
            return false;
        }
        *out |= named == number;
    }
    return true;
}

static bool
search_template(struct version_search *s, const struct row_launch_template *t,
                struct err *err)
{
    const struct row_launch_template_version prefix = {.account = t->account,
                                                       .template_id = t->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(s->call->txn, &row_launch_template_version_type, &query, &list,
                  err)) {
        return false;
    }
    for (size_t i = list.count; i-- > 0;) {
        const struct row_launch_template_version *v = list.rows[i];
        bool take;
        if (!wanted(s, t, v->version, &take, err) ||
            (take && !search_add(s, t, v, err))) {
            return false;
        }
    }
    return true;
}

/* Named versions must exist. */
static bool
check_named(struct version_search *s, const struct row_launch_template *t,
            struct err *err)
{
    for (size_t i = 0; i < s->in->versions.count; i++) {
        const struct row_launch_template_version *v;
        int64_t number;
        if (!template_version_number(t, s->in->versions.items[i], &number, err) ||
            !template_version_get(s->call, t, number, &v, err)) {
            return false;
        }
        if (!v) {
            return err_no_version(err, t, number);
        }
    }
    return true;
}

/* Without a template, only $Latest and $Default mean something. */
static bool
search_all(struct version_search *s, struct err *err)
{
    const struct row_launch_template prefix = {.account = s->call->account};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    bool good = s->in->versions.count > 0 && !s->in->min_version && !s->in->max_version;
    for (size_t i = 0; i < s->in->versions.count; i++) {
        good &= s->in->versions.items[i][0] == '$';
    }
    if (!good) {
        return err_set(
            err, ERR_MISSING_PARAMETER,
            "When neither a launch template ID nor a launch template name is "
            "specified, the versions must be $Latest, $Default, or both.");
    }
    if (!row_list(s->call->txn, &row_launch_template_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_launch_template *t = list.rows[i];
        if (str_eq(t->region, s->call->region) && !search_template(s, t, err)) {
            return false;
        }
    }
    return true;
}

static bool
search(struct version_search *s, struct err *err)
{
    const struct template_name by = {s->in->launch_template_id,
                                     s->in->launch_template_name};
    const struct row_launch_template *t;
    if (str_empty(by.id) && str_empty(by.name)) {
        return search_all(s, err);
    }
    return template_find(s->call, &by, &t, err) && check_named(s, t, err) &&
           search_template(s, t, err);
}

bool
ec2_describe_launch_template_versions(
    struct call *call, const struct ec2_describe_launch_template_versions_request *in,
    struct ec2_describe_launch_template_versions_result *out, struct err *err)
{
    struct version_search s = {.call = call, .in = in};
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 1,
                                 .max = 200,
                                 .next_token = in->next_token};
    if (!filters_init(call, version_filters, ARRAY_LEN(version_filters),
                      in->filters.items, in->filters.count, &s.filters, err) ||
        !page_init(call, &ask, &s.filters, &s.page, err)) {
        return false;
    }
    bool ok = search(&s, err) && dry_run_check(in->has_dry_run && in->dry_run, err);
    if (ok) {
        out->launch_template_versions.count = s.found.count;
        out->launch_template_versions.items =
            ARENA_ARRAY(call->arena, s.found.count, struct ec2_launch_template_version);
        if (s.found.count) {
            memcpy(out->launch_template_versions.items, s.found.items,
                   s.found.count * sizeof *s.found.items);
        }
        out->next_token = page_next_token(call, &s.page);
    }
    VEC_FREE(&s.found);
    return ok;
}
