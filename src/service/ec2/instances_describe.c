/* instances_describe.c - DescribeInstances, DescribeInstanceCreditSpecifications.
 */
#include "service/ec2/instances.h"

#define PAGE_MOST 10000 /* Of who does not say how many: some 40 MB. */
#define WHOLE_ROWS 2000 /* Up to here, whole listings are cheaper than looking up. */

const char *
instance_page_key(struct call *call, const struct instance_view *v)
{
    return arena_printf(call->arena, "%s/%s", v->inst->reservation_id, v->inst->id);
}

void
instance_views_select(struct call *call, const struct filters *filters,
                      struct page *page, struct instance_views *views)
{
    size_t kept = 0;
    for (size_t i = 0; i < views->count; i++) {
        const struct instance_view *v = &views->items[i];
        if (filters_match(filters, v, v->tags) &&
            page_take(page, page->bind ? instance_page_key(call, v) : v->inst->id)) {
            views->items[kept++] = *v;
        }
    }
    views->count = kept;
}

static bool
describe_views(struct call *call, const struct ec2_describe_instances_request *in,
               const struct filters *filters, struct page *page,
               struct instance_views *views, struct err *err)
{
    bool pages = page->bind || filters->count;
    if (!in->instance_ids.count && !pages &&
        !instance_rows_exceed(call, WHOLE_ROWS, &pages, err)) {
        return false;
    }
    if (!in->instance_ids.count && pages) {
        return instance_views_page(call, filters, page, VIEW_ALL, views, err);
    }
    if (!instance_views_load(call, in->instance_ids.items, in->instance_ids.count,
                             VIEW_ALL, views, err)) {
        return false;
    }
    instance_views_select(call, filters, page, views);
    return true;
}

bool
ec2_describe_instances(struct call *call,
                       const struct ec2_describe_instances_request *in,
                       struct ec2_describe_instances_result *out, struct err *err)
{
    struct filters filters;
    struct page page;
    struct instance_views views;
    const struct page_ask ask = {
        .has_max = in->has_max_results,
        .max_results = in->max_results,
        .min = 5,
        .max = 1000,
        .most = PAGE_MOST,
        .next_token = in->next_token,
        .ids = in->instance_ids.count,
        .ids_name = "instancesSet",
    };
    if (!filters_init(call, instance_filters, instance_filter_count, in->filters.items,
                      in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !describe_views(call, in, &filters, &page, &views, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    out->reservations.items = reservations_out(call, &views, &out->reservations.count);
    out->next_token = page_next_token(call, &page);
    return true;
}

/* ---- DescribeInstanceCreditSpecifications ---- */

static void
credit_instance_id(const void *object, struct filter_test *test)
{
    filter_offer(test, ((const struct instance_view *)object)->inst->id);
}

static const struct filter_def credit_filters[] = {{"instance-id", credit_instance_id}};

bool
ec2_describe_instance_credit_specifications(
    struct call *call,
    const struct ec2_describe_instance_credit_specifications_request *in,
    struct ec2_describe_instance_credit_specifications_result *out, struct err *err)
{
    struct filters filters;
    struct page page;
    struct instance_views views;
    const struct page_ask ask = {
        .has_max = in->has_max_results,
        .max_results = in->max_results,
        .min = 5,
        .max = 1000,
        .next_token = in->next_token,
        .ids = in->instance_ids.count,
        .ids_name = "instancesSet",
    };
    if (!filters_init(call, credit_filters, ARRAY_LEN(credit_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !instance_views_load(call, in->instance_ids.items, in->instance_ids.count,
                             VIEW_TAGS, &views, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    /* Named ones are all answered; otherwise only those that are set to unlimited. */
    size_t kept = 0;
    for (size_t i = 0; i < views.count; i++) {
        if (in->instance_ids.count ||
            str_eq(views.items[i].inst->credit_mode, "unlimited")) {
            views.items[kept++] = views.items[i];
        }
    }
    views.count = kept;
    instance_views_select(call, &filters, &page, &views);

    struct ec2_instance_credit_specification *items =
        ARENA_ARRAY(call->arena, views.count, struct ec2_instance_credit_specification);
    for (size_t i = 0; i < views.count; i++) {
        const struct row_instance *inst = views.items[i].inst;
        items[i].instance_id = inst->id;
        items[i].cpu_credits =
            str_empty(inst->credit_mode) ? "standard" : inst->credit_mode;
    }
    out->instance_credit_specifications.items = items;
    out->instance_credit_specifications.count = views.count;
    out->next_token = page_next_token(call, &page);
    return true;
}
