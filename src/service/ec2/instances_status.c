/* instances_status.c - DescribeInstanceStatus: health, and what is scheduled;
 * ModifyInstanceEventStartTime: when that may be. */
#include "core/instance_events.h"
#include "service/ec2/instances.h"

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

/* ---- scheduled events ---- */

/* "[Completed] ..." once it is over, as AWS marks it. */
static const char *
event_text(struct arena *arena, const struct row_instance_event *event)
{
    return event->ended_at == 0
               ? event->description
               : arena_printf(arena, "[%s] %s",
                              event->canceled ? "Canceled" : "Completed",
                              event->description);
}

/* Defines NAME_values-like functions: each event's part is offered. */
#define EVENT_FILTER(name, offer, part) \
    static void name(const void *object, struct filter_test *test) \
    { \
        const struct instance_view *v = object; \
        for (size_t i = 0; i < v->event_count; i++) { \
            offer(test, v->events[i]->part); \
        } \
    }
EVENT_FILTER(event_code, filter_offer, code)
EVENT_FILTER(event_description, filter_offer, description)
EVENT_FILTER(event_id, filter_offer, id)
EVENT_FILTER(event_not_after, filter_offer_time, not_after)
EVENT_FILTER(event_not_before, filter_offer_time, not_before)
EVENT_FILTER(event_deadline, filter_offer_time, not_before_deadline)

static bool
events_load(struct call *call, struct instance_view *v, struct err *err)
{
    struct row_list list;
    if (!instance_events_of(call->txn, v->inst->account, v->inst->id, &list, err)) {
        return false;
    }
    const struct row_instance_event **events =
        ARENA_ARRAY(call->arena, list.count, const struct row_instance_event *);
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance_event *event = list.rows[i];
        if (instance_event_visible(event, call->now_ns)) {
            events[v->event_count++] = event;
        }
    }
    v->events = events;
    return true;
}

static struct ec2_instance_status_event
event_out(struct call *call, const struct row_instance_event *event)
{
    return (struct ec2_instance_status_event){
        .instance_event_id = event->id,
        .code = event->code,
        .description = event_text(call->arena, event),
        .not_before = event->not_before,
        .has_not_before = true,
        .not_after = event->not_after,
        .has_not_after = event->not_after != 0,
        .not_before_deadline = event->not_before_deadline,
        .has_not_before_deadline = event->not_before_deadline != 0,
    };
}

static void
events_out(struct call *call, const struct instance_view *v,
           struct ec2_instance_status *out)
{
    struct ec2_instance_status_event *items =
        ARENA_ARRAY(call->arena, v->event_count, struct ec2_instance_status_event);
    for (size_t i = 0; i < v->event_count; i++) {
        items[i] = event_out(call, v->events[i]);
    }
    out->events.items = items;
    out->events.count = v->event_count;
}

/* ---- DescribeInstanceStatus ---- */

static const struct filter_def status_filters[] = {
    {"availability-zone", status_zone},
    {"event.code", event_code},
    {"event.description", event_description},
    {"event.instance-event-id", event_id},
    {"event.not-after", event_not_after},
    {"event.not-before", event_not_before},
    {"event.not-before-deadline", event_deadline},
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
    events_out(call, v, out);
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
        struct instance_view *v = &views.items[i];
        if (!all && v->state != INSTANCE_RUNNING) {
            continue;
        }
        if (!events_load(call, v, err)) {
            return false;
        }
        views.items[kept++] = *v;
    }
    views.count = kept;
    instance_views_select(call, &filters, &page, &views);

    out->instance_statuses.items =
        ARENA_ARRAY(call->arena, views.count, struct ec2_instance_status);
    out->instance_statuses.count = views.count;
    for (size_t i = 0; i < views.count; i++) {
        status_out(call, &views.items[i], &out->instance_statuses.items[i]);
    }
    out->next_token = page_next_token(call, &page);
    return true;
}

/* ---- ModifyInstanceEventStartTime ---- */

/* AWS's: what begins so soon is not put off, and nothing is put nearer than that. */
#define EVENT_IS_NEAR_NS (300 * NS_PER_S)
#define EVENT_NOTICE_NS (3600 * NS_PER_S)

static bool
event_find(struct call *call, const struct row_instance *inst, const char *id,
           const struct row_instance_event **out, struct err *err)
{
    const struct row_instance_event key = {
        .account = inst->account, .instance_id = inst->id, .id = id};
    return row_get(call->txn, &row_instance_event_type, &key, (const void **)out,
                   err) &&
           (*out || err_set(err, ERR_INSTANCE_EVENT_NOT_FOUND,
                            "The instance event ID '%.64s' does not exist for %s", id,
                            inst->id));
}

static bool
check_start(const struct row_instance_event *event, int64_t not_before, int64_t now_ns,
            struct err *err)
{
    const char *why = event->ended_at ? "it is over"
                      : event->not_before_deadline == 0
                          ? "it has no deadline up to which it could be"
                      : event->not_before < now_ns + EVENT_IS_NEAR_NS
                          ? "it begins within five minutes"
                      : not_before < now_ns + EVENT_NOTICE_NS
                          ? "the new time must be an hour from now or later"
                      : not_before > event->not_before_deadline
                          ? "the new time is beyond its deadline"
                          : NULL;
    return !why || err_set(err, ERR_INSTANCE_EVENT_START_TIME,
                           "The event %s cannot be rescheduled: %s", event->id, why);
}

bool
ec2_modify_instance_event_start_time(
    struct call *call, const struct ec2_modify_instance_event_start_time_request *in,
    struct ec2_modify_instance_event_start_time_result *out, struct err *err)
{
    const struct row_instance *inst;
    const struct row_instance_event *event;
    enum instance_state state;
    if (!instance_find_changeable(call, in->instance_id, &inst, &state, err) ||
        !event_find(call, inst, in->instance_event_id, &event, err) ||
        !check_start(event, in->not_before, call->now_ns, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    struct row_instance_event next = *event;
    next.not_before = in->not_before;
    out->event = ARENA_NEW(call->arena, struct ec2_instance_status_event);
    *out->event = event_out(call, &next);
    return row_put(call->txn, &row_instance_event_type, &next, err);
}
