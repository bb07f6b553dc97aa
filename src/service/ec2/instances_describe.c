/* instances_describe.c - DescribeInstances, DescribeInstanceStatus,
 * DescribeInstanceCreditSpecifications. */
#include "service/ec2/instances.h"

/* Instances are listed by reservation, so a page ends at both ids. */
static const char *
page_key(struct call *call, const struct page *page, const struct instance_view *v)
{
    return page->bind ? arena_printf(call->arena, "%s/%s", v->inst->reservation_id,
                                     v->inst->id)
                      : v->inst->id;
}

/* Keeps those that pass the filters and belong on the page. */
static void
select_views(struct call *call, const struct filters *filters, struct page *page,
             struct instance_views *views)
{
    size_t kept = 0;
    for (size_t i = 0; i < views->count; i++) {
        const struct instance_view *v = &views->items[i];
        if (filters_match(filters, v, v->tags) &&
            page_take(page, page_key(call, page, v))) {
            views->items[kept++] = *v;
        }
    }
    views->count = kept;
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
        .next_token = in->next_token,
        .ids = in->instance_ids.count,
        .ids_name = "instancesSet",
    };
    if (!filters_init(call, instance_filters, instance_filter_count, in->filters.items,
                      in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !instance_views_load(call, in->instance_ids.items, in->instance_ids.count,
                             VIEW_ALL, &views, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    select_views(call, &filters, &page, &views);
    out->reservations.items = reservations_out(call, &views, &out->reservations.count);
    out->next_token = page_next_token(call, &page);
    return true;
}

/* ---- DescribeInstanceStatus ---- */

enum health { HEALTH_OK, HEALTH_IMPAIRED, HEALTH_NOT_APPLICABLE };

static enum health
instance_health(const struct instance_view *v)
{
    if (v->state != INSTANCE_RUNNING) {
        return HEALTH_NOT_APPLICABLE;
    }
    /* Wanted and once seen running, but just now it is not: it crashed or restarts. */
    return v->seen && str_eq(v->seen->state, "running") ? HEALTH_OK : HEALTH_IMPAIRED;
}

static enum health
system_health(const struct instance_view *v)
{
    if (v->state != INSTANCE_RUNNING) {
        return HEALTH_NOT_APPLICABLE;
    }
    return v->seen && v->seen->host_fault ? HEALTH_IMPAIRED : HEALTH_OK;
}

static const char *
health_name(enum health health)
{
    static const char *const names[] = {"ok", "impaired", "not-applicable"};
    return names[health];
}

/* NULL where there is nothing to reach. */
static const char *
health_reachability(enum health health)
{
    static const char *const names[] = {"passed", "failed", NULL};
    return names[health];
}

static void
status_zone(const void *object, struct filter_test *test)
{
    filter_offer(test, ((const struct instance_view *)object)->inst->zone);
}

static void
status_state_code(const void *object, struct filter_test *test)
{
    filter_offer_int(test, ((const struct instance_view *)object)->state);
}

static void
status_state_name(const void *object, struct filter_test *test)
{
    filter_offer(test,
                 instance_state_name(((const struct instance_view *)object)->state));
}

static void
status_instance(const void *object, struct filter_test *test)
{
    filter_offer(test, health_name(instance_health(object)));
}

static void
status_instance_reach(const void *object, struct filter_test *test)
{
    filter_offer(test, health_reachability(instance_health(object)));
}

static void
status_system(const void *object, struct filter_test *test)
{
    filter_offer(test, health_name(system_health(object)));
}

static void
status_system_reach(const void *object, struct filter_test *test)
{
    filter_offer(test, health_reachability(system_health(object)));
}

static const struct filter_def status_filters[] = {
    {"availability-zone", status_zone},
    {"event.code", NULL},
    {"event.description", NULL},
    {"event.instance-event-id", NULL},
    {"event.not-after", NULL},
    {"event.not-before", NULL},
    {"event.not-before-deadline", NULL},
    {"instance-state-code", status_state_code},
    {"instance-state-name", status_state_name},
    {"instance-status.reachability", status_instance_reach},
    {"instance-status.status", status_instance},
    {"system-status.reachability", status_system_reach},
    {"system-status.status", status_system},
};

static struct ec2_instance_status_summary *
summary_out(struct call *call, enum health health)
{
    struct ec2_instance_status_summary *out =
        ARENA_NEW(call->arena, struct ec2_instance_status_summary);
    out->status = health_name(health);
    if (health_reachability(health)) {
        out->details.items = ARENA_NEW(call->arena, struct ec2_instance_status_details);
        out->details.count = 1;
        out->details.items[0].name = "reachability";
        out->details.items[0].status = health_reachability(health);
    }
    return out;
}

static void
status_out(struct call *call, const struct instance_view *v,
           struct ec2_instance_status *out)
{
    out->availability_zone = v->inst->zone;
    out->instance_id = v->inst->id;
    out->instance_state = instance_state_out(call, v->state);
    out->instance_status = summary_out(call, instance_health(v));
    out->system_status = summary_out(call, system_health(v));
}

bool
ec2_describe_instance_status(struct call *call,
                             const struct ec2_describe_instance_status_request *in,
                             struct ec2_describe_instance_status_result *out,
                             struct err *err)
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
    if (!filters_init(call, status_filters, ARRAY_LEN(status_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !instance_views_load(call, in->instance_ids.items, in->instance_ids.count,
                             VIEW_SEEN | VIEW_TAGS, &views, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    bool all = in->has_include_all_instances && in->include_all_instances;
    size_t kept = 0;
    for (size_t i = 0; i < views.count; i++) {
        if (all || views.items[i].state == INSTANCE_RUNNING) {
            views.items[kept++] = views.items[i];
        }
    }
    views.count = kept;
    select_views(call, &filters, &page, &views);

    out->instance_statuses.items =
        ARENA_ARRAY(call->arena, views.count, struct ec2_instance_status);
    out->instance_statuses.count = views.count;
    for (size_t i = 0; i < views.count; i++) {
        status_out(call, &views.items[i], &out->instance_statuses.items[i]);
    }
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
    select_views(call, &filters, &page, &views);

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
