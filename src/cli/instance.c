#include "cli/instance.h"
#include "base/crypto.h"

#define POLL_MS 300

/* The single instance in an answer of DescribeInstances, or NULL with '*out_count'. */
static json_t *
only_instance(json_t *answer, size_t *out_count)
{
    json_t *only = NULL;
    size_t count = 0, i, j;
    json_t *reservation, *instance;
    json_array_foreach(json_object_get(answer, "Reservations"), i, reservation){
        json_array_foreach(json_object_get(reservation, "Instances"), j,
                           instance){only = instance;
    count++;
}
}
*out_count = count;
return count == 1 ? only : NULL;
}

bool
instance_find(struct cli *cli, const char *name, json_t **out, struct err *err)
{
    AUTO(form) struct form form = {0};
    bool by_id = str_starts(name, "i-");
    if (by_id) {
        form_put(&form, "InstanceId.1", name);
    } else {
        form_put(&form, "Filter.1.Name", "tag:Name");
        form_put(&form, "Filter.1.Value.1", name);
        form_put(&form, "Filter.2.Name", "instance-state-name");
        form_put(&form, "Filter.2.Value.1", "pending");
        form_put(&form, "Filter.2.Value.2", "running");
        form_put(&form, "Filter.2.Value.3", "stopping");
        form_put(&form, "Filter.2.Value.4", "stopped");
    }
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2(cli, "DescribeInstances", &form, &answer, err)) {
        return false;
    }
    size_t count;
    json_t *instance = only_instance(answer, &count);
    if (!instance) {
        return count ? err_set(err, ERR_NOT_FOUND,
                               "%zu instances are called '%s': use an id ('moln ls')",
                               count, name)
                     : err_set(
                           err, ERR_NOT_FOUND,
                           "no instance is called '%s'; 'moln ls' shows what is there",
                           name);
    }
    *out = json_incref(instance);
    return true;
}

bool
instance_id(struct cli *cli, const char *name, const char **out, struct err *err)
{
    if (str_starts(name, "i-")) {
        *out = name;
        return true;
    }
    AUTO(json) json_t *instance = NULL;
    if (!instance_find(cli, name, &instance, err)) {
        return false;
    }
    *out = arena_strdup(cli->arena, json_text(cli->arena, instance, "InstanceId"));
    return true;
}

/* Whether 'now' can never become 'wanted' by waiting alone. */
static bool
is_dead_end(const char *now, const char *wanted)
{
    if (str_eq(now, wanted)) {
        return false;
    }
    bool ended = str_eq(now, "terminated") || str_eq(now, "shutting-down");
    bool stopped = str_eq(now, "stopped") && str_eq(wanted, "running");
    return (ended && !str_eq(wanted, "terminated")) || stopped;
}

/* Counts those of 'answer' in 'state'; false with the reason at a dead end. */
static bool
count_in_state(struct cli *cli, json_t *answer, const char *state, size_t *out_count,
               struct err *err)
{
    size_t there = 0, i, j;
    json_t *reservation, *instance;
    json_array_foreach(json_object_get(answer, "Reservations"), i, reservation){
        json_array_foreach(json_object_get(reservation, "Instances"), j, instance){
            const char *now = json_text(cli->arena, instance, "State.Name");
    if (is_dead_end(now, state)) {
        return err_set(err, ERR_SYSTEM, "%s is %s: %s",
                       json_text(cli->arena, instance, "InstanceId"), now,
                       json_text(cli->arena, instance, "StateReason.Message"));
    }
    there += str_eq(now, state);
}
}
*out_count = there;
return true;
}

bool
instance_wait(struct cli *cli, const char *const *ids, size_t count, const char *state,
              int seconds, struct err *err)
{
    AUTO(form) struct form form = {0};
    for (size_t i = 0; i < count; i++) {
        form_put(&form, arena_printf(cli->arena, "InstanceId.%zu", i + 1), ids[i]);
    }
    int64_t end = clock_mono(cli->clock) + seconds * NS_PER_S;
    for (;;) {
        AUTO(json) json_t *answer = NULL;
        size_t there = 0;
        if (!api_ec2(cli, "DescribeInstances", &form, &answer, err) ||
            !count_in_state(cli, answer, state, &there, err)) {
            return false;
        }
        if (there == count) {
            return true;
        }
        if (clock_mono(cli->clock) > end) {
            return err_set(err, ERR_TIMEOUT, "%s is not %s after %d s; 'moln show %s'",
                           ids[0], state, seconds, ids[0]);
        }
        cli_sleep_ms(POLL_MS);
    }
}

bool
instance_console(struct cli *cli, const char *id, const char **out, struct err *err)
{
    AUTO(form) struct form form = {0};
    form_put(&form, "InstanceId", id);
    form_put(&form, "Latest", "true");
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2(cli, "GetConsoleOutput", &form, &answer, err)) {
        return false;
    }
    const char *encoded = json_text(cli->arena, answer, "Output");
    uint8_t *bytes = NULL;
    size_t len = 0;
    if (!base64_decode(cli->arena, encoded, strlen(encoded), &bytes, &len, err)) {
        return err_wrap(err, "the console of %s", id);
    }
    *out = len ? arena_strndup(cli->arena, (const char *)bytes, len) : "";
    return true;
}
