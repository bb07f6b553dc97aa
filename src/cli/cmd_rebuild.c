/* cmd_rebuild.c - moln rebuild. */
#include "cli/cmd_run.h"
#include "cli/instance.h"

#define POLL_MS 200
#define WAIT_S 180

const struct option rebuild_options[] = {
    {"image", 'i', "AMI",
     "another image (default: what the instance was launched from)"},
    {"keep", 'k', NULL, "keep the old root volume, attached to nothing"},
    {"no-wait", 0, NULL, "answer at once, without waiting for the new state"},
    {NULL, 0, NULL, NULL}};

static bool
start_task(struct cli *cli, const struct args *args, const char *instance,
           const char **out_task, struct err *err)
{
    AUTO(form) struct form form = {0};
    AUTO(json) json_t *answer = NULL;
    form_put(&form, "InstanceId", instance);
    form_put(&form, "DeleteReplacedRootVolume",
             args_has(args, "keep") ? "false" : "true");
    if (args_has(args, "image")) {
        form_put(&form, "ImageId", args_get(args, "image"));
    }
    if (!api_ec2(cli, "CreateReplaceRootVolumeTask", &form, &answer, err)) {
        return false;
    }
    *out_task = arena_strdup(
        cli->arena,
        json_text(cli->arena, answer, "ReplaceRootVolumeTask.ReplaceRootVolumeTaskId"));
    return true;
}

/* The tasks as they stand; '*out_left' of them are under way. */
static bool
look(struct cli *cli, const struct form *form, json_t **out, size_t *out_left,
     struct err *err)
{
    AUTO(json) json_t *answer = NULL;
    size_t i, left = 0;
    json_t *task;
    if (!api_ec2(cli, "DescribeReplaceRootVolumeTasks", form, &answer, err)) {
        return false;
    }
    json_array_foreach(json_object_get(answer, "ReplaceRootVolumeTasks"), i, task)
    {
        const char *state = json_text(cli->arena, task, "TaskState");
        if (str_eq(state, "failed")) {
            return err_set(err, ERR_SYSTEM, "%s ended before it was rebuilt",
                           json_text(cli->arena, task, "InstanceId"));
        }
        left += !str_eq(state, "succeeded");
    }
    *out_left = left;
    *out = json_incref(answer);
    return true;
}

static bool
wait_tasks(struct cli *cli, const struct form *form, bool wait, json_t **out,
           struct err *err)
{
    int64_t end = clock_mono(cli->clock) + WAIT_S * NS_PER_S;
    for (;;) {
        AUTO(json) json_t *answer = NULL;
        size_t left = 0;
        if (!look(cli, form, &answer, &left, err)) {
            return false;
        }
        if (left == 0 || !wait) {
            *out = json_incref(answer);
            return true;
        }
        if (clock_mono(cli->clock) > end) {
            return err_set(err, ERR_TIMEOUT, "not rebuilt after %d s; 'moln ls'",
                           WAIT_S);
        }
        cli_sleep_ms(POLL_MS);
    }
}

bool
run_rebuild(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(form) struct form form = {0};
    AUTO(json) json_t *answer = NULL;
    const char **ids = ARENA_ARRAY(cli->arena, args->word_count, const char *);
    bool wait = !args_has(args, "no-wait");
    for (size_t i = 0; i < args->word_count; i++) {
        const char *task;
        if (!instance_id(cli, args->words[i], &ids[i], err) ||
            !start_task(cli, args, ids[i], &task, err)) {
            return false;
        }
        form_put(&form, arena_printf(cli->arena, "ReplaceRootVolumeTaskId.%zu", i + 1),
                 task);
    }
    if (wait) {
        cli_progress("waiting until %s runs on its new root volume",
                     args->word_count == 1 ? ids[0] : "each");
    }
    if (!wait_tasks(cli, &form, wait, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    for (size_t i = 0; i < args->word_count; i++) {
        printf("%s  %s\n", ids[i], wait ? "rebuilt" : "asked");
    }
    return true;
}
