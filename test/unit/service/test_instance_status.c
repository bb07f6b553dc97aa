/* test_instance_status.c - DescribeInstanceStatus: what is scheduled for an instance;
 * ModifyInstanceEventStartTime: what of it may be put off. */
#include "core/instance_events.h"
#include "ec2_fixture.h"

struct plan {
    const char *instance_id, *code;
    bool ends, canceled;
    int64_t deadline_ns; /* From now on; 0: none. */
};

/* What a drain does to one instance, or its end. */
static bool
plan_step(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct plan *plan = in;
    const struct row_instance key = {.account = ACCOUNT, .id = plan->instance_id};
    const void *row;
    const struct instance_event event = {
        .code = plan->code,
        .description = "The instance is moved to another host.",
        .not_before = call->now_ns + 60 * NS_PER_S,
        .not_before_deadline = plan->deadline_ns ? call->now_ns + plan->deadline_ns : 0,
    };
    if (plan->ends) {
        return instance_event_end(call->txn, ACCOUNT, plan->instance_id, plan->code,
                                  plan->canceled, call->now_ns, err);
    }
    return row_get(call->txn, &row_instance_type, &key, &row, err) &&
           instance_event_put(call->txn, call->rng, row, &event, err);
}

static void
planned(struct ec2 *e, struct plan plan)
{
    struct err err;
    CHECK_OK(ec2_step(e, "plan", plan_step, &plan, NULL, 0, &err), &err);
}

static struct ec2_describe_instance_status_result
statuses(struct ec2 *e, const char *filter, const char *value)
{
    struct err err;
    static struct ec2_filter one;
    static const char *values[1];
    struct ec2_describe_instance_status_request in = {0};
    struct ec2_describe_instance_status_result out;
    one = (struct ec2_filter){.name = filter};
    values[0] = value;
    one.values.items = values;
    one.values.count = 1;
    in.filters.items = &one;
    in.filters.count = filter ? 1 : 0;
    CHECK_OK(CALL(e, describe_instance_status, &in, &out, &err), &err);
    return out;
}

static const char *
launch_running(struct ec2 *e)
{
    struct err err;
    struct ec2_reservation out;
    const struct ec2_run_instances_request in = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    CHECK_OK(CALL(e, run_instances, &in, &out, &err), &err);
    ec2_node_says(e, out.instances.items[0].instance_id, "running");
    return out.instances.items[0].instance_id;
}

TEST(instance_status_shows_what_is_scheduled_until_a_week_after_its_end)
{
    struct ec2 e;
    ec2_init(&e);
    const char *id = launch_running(&e), *other = launch_running(&e);
    planned(&e, (struct plan){id, INSTANCE_EVENT_MAINTENANCE, false, false});
    planned(&e, (struct plan){id, INSTANCE_EVENT_MAINTENANCE, false, false});
    struct ec2_describe_instance_status_result out =
        statuses(&e, "event.code", INSTANCE_EVENT_MAINTENANCE);
    CHECK_EQ(out.instance_statuses.count, 1);
    const struct ec2_instance_status *status = &out.instance_statuses.items[0];
    CHECK_STR(status->instance_id, id);
    CHECK_EQ(status->events.count, 1);
    CHECK(id_valid("instance-event", status->events.items[0].instance_event_id));
    CHECK_STR(status->events.items[0].description,
              "The instance is moved to another host.");
    CHECK_EQ(status->events.items[0].not_before, e.now_ns + 60 * NS_PER_S);
    CHECK(!status->events.items[0].has_not_after);

    planned(&e, (struct plan){id, INSTANCE_EVENT_MAINTENANCE, true, false});
    planned(&e, (struct plan){other, INSTANCE_EVENT_MAINTENANCE, true, false});
    out = statuses(&e, "event.description", "The instance*");
    CHECK_EQ(out.instance_statuses.count, 1);
    CHECK_STR(out.instance_statuses.items[0].events.items[0].description,
              "[Completed] The instance is moved to another host.");
    e.now_ns += INSTANCE_EVENT_VISIBLE_NS;
    out = statuses(&e, NULL, NULL);
    CHECK_EQ(out.instance_statuses.count, 2);
    CHECK_EQ(out.instance_statuses.items[0].events.count, 0);
    CHECK_EQ(out.instance_statuses.items[1].events.count, 0);
    ec2_fini(&e);
}

TEST(instance_status_marks_what_was_called_off)
{
    struct ec2 e;
    ec2_init(&e);
    const char *id = launch_running(&e);
    planned(&e, (struct plan){id, INSTANCE_EVENT_RETIREMENT, false, false});
    planned(&e, (struct plan){id, INSTANCE_EVENT_RETIREMENT, true, true});
    planned(&e, (struct plan){id, INSTANCE_EVENT_RETIREMENT, false, false});
    const struct ec2_describe_instance_status_result out = statuses(&e, NULL, NULL);
    const struct ec2_instance_status *status = &out.instance_statuses.items[0];
    CHECK_EQ(status->events.count, 2); /* A new one: the old one stays called off. */
    bool first_ended = str_starts(status->events.items[0].description, "[Canceled] ");
    bool second_ended = str_starts(status->events.items[1].description, "[Canceled] ");
    CHECK(first_ended != second_ended);
    ec2_fini(&e);
}

#define HOURS(n) ((n)*3600 * NS_PER_S)

static const struct ec2_instance_status_event *
first_event(struct ec2 *e)
{
    const struct ec2_describe_instance_status_result out = statuses(e, NULL, NULL);
    return &out.instance_statuses.items[0].events.items[0];
}

static enum err_code
put_off(struct ec2 *e, const char *instance_id, const char *event_id, int64_t to_ns)
{
    struct err err = {0};
    struct ec2_modify_instance_event_start_time_result out;
    const struct ec2_modify_instance_event_start_time_request in = {
        .instance_id = instance_id,
        .instance_event_id = event_id,
        .not_before = e->now_ns + to_ns,
        .has_not_before = true};
    if (CALL(e, modify_instance_event_start_time, &in, &out, &err)) {
        CHECK_EQ(out.event->not_before, in.not_before);
    }
    return err.code;
}

TEST(event_is_put_off_up_to_its_deadline_and_an_hour_ahead)
{
    struct ec2 e;
    ec2_init(&e);
    const char *id = launch_running(&e), *other = launch_running(&e);
    planned(&e, (struct plan){.instance_id = id,
                              .code = INSTANCE_EVENT_MAINTENANCE,
                              .deadline_ns = HOURS(48)});
    const struct ec2_instance_status_event event = *first_event(&e);
    CHECK(event.has_not_before_deadline);
    const char *which = event.instance_event_id;
    CHECK_EQ(put_off(&e, id, which, HOURS(24)),
             ERR_INSTANCE_EVENT_START_TIME); /* Near. */
    e.now_ns -= HOURS(2);
    CHECK_EQ(put_off(&e, id, which, HOURS(1) - 1), ERR_INSTANCE_EVENT_START_TIME);
    CHECK_EQ(put_off(&e, id, which, HOURS(51)), ERR_INSTANCE_EVENT_START_TIME);
    CHECK_EQ(put_off(&e, other, which, HOURS(24)), ERR_INSTANCE_EVENT_NOT_FOUND);
    CHECK_EQ(put_off(&e, id, "instance-event-0", HOURS(24)),
             ERR_INSTANCE_EVENT_NOT_FOUND);
    CHECK_EQ(first_event(&e)->not_before, event.not_before); /* Refused: as it was. */
    CHECK_EQ(put_off(&e, id, which, HOURS(24)), ERR_NONE);
    CHECK_EQ(first_event(&e)->not_before, e.now_ns + HOURS(24));

    planned(&e, (struct plan){id, INSTANCE_EVENT_MAINTENANCE, .ends = true});
    CHECK_EQ(put_off(&e, id, which, HOURS(24)), ERR_INSTANCE_EVENT_START_TIME);
    ec2_fini(&e);
}

TEST(event_without_a_deadline_stands)
{
    struct ec2 e;
    ec2_init(&e);
    const char *id = launch_running(&e);
    planned(&e, (struct plan){.instance_id = id, .code = INSTANCE_EVENT_MAINTENANCE});
    e.now_ns -= HOURS(2);
    CHECK_EQ(put_off(&e, id, first_event(&e)->instance_event_id, HOURS(1)),
             ERR_INSTANCE_EVENT_START_TIME);
    ec2_fini(&e);
}
