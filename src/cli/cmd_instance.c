/* moln ls, show, stop, start, reboot, rm. ('moln run' and 'moln rebuild' have files of
 * their own.) */
#include "base/timefmt.h"
#include "cli/cmd_run.h"
#include "cli/command.h"
#include "cli/grid.h"
#include "cli/instance.h"

#define WAIT_S 180

static void
put_instance(struct cli *cli, struct grid *grid, json_t *instance)
{
    char age[32];
    int64_t launched = 0;
    if (!time_parse(json_text(cli->arena, instance, "LaunchTime"), &launched)) {
        launched = 0;
    }
    human_age(launched, clock_real(cli->clock), age);
    grid_put(grid, json_text(cli->arena, instance, "InstanceId"));
    grid_put(grid, json_tag(instance, "Name"));
    grid_put(grid, json_text(cli->arena, instance, "State.Name"));
    grid_put(grid, json_text(cli->arena, instance, "InstanceType"));
    grid_put(grid, json_text(cli->arena, instance, "ImageId"));
    grid_put(grid, json_text(cli->arena, instance, "PrivateIpAddress"));
    grid_put(grid, json_text(cli->arena, instance, "Placement.AvailabilityZone"));
    grid_put(grid, age);
}

static bool
run_ls(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(form) struct form form = {0};
    if (args_has(args, "state-name")) {
        form_put(&form, "Filter.1.Name", "instance-state-name");
        form_put(&form, "Filter.1.Value.1", args_get(args, "state-name"));
    }
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2_all(cli, "DescribeInstances", &form, "Reservations", &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    static const char *const titles[] = {"INSTANCE", "NAME", "STATE", "TYPE", "IMAGE",
                                         "ADDRESS",  "ZONE", "AGE",   NULL};
    AUTO(grid) struct grid grid;
    grid_init(&grid, titles);
    size_t i, j;
    json_t *reservation, *instance;
    json_array_foreach(json_object_get(answer, "Reservations"), i, reservation)
    {
        json_array_foreach(json_object_get(reservation, "Instances"), j, instance)
        {
            put_instance(cli, &grid, instance);
        }
    }
    if (grid.cells.count == 0) {
        (void)fprintf(stderr, "No instances. 'moln run' launches one.\n");
        return true;
    }
    grid_print(&grid, stdout);
    return true;
}

/* One line of 'moln show'; left out when empty. */
static void
show_line(const char *title, const char *value)
{
    if (!str_empty(value)) {
        printf("%-14s %s\n", title, value);
    }
}

static void
show_tags(json_t *instance)
{
    size_t i;
    json_t *tag;
    json_array_foreach(json_object_get(instance, "Tags"), i, tag)
    {
        printf("%-14s %s = %s\n", i ? "" : "tags",
               json_string_value(json_object_get(tag, "Key")),
               json_string_value(json_object_get(tag, "Value")));
    }
}

static void
show_groups(json_t *instance)
{
    size_t i;
    json_t *group;
    json_array_foreach(json_object_get(instance, "SecurityGroups"), i, group)
    {
        printf("%-14s %s (%s)\n", i ? "" : "groups",
               json_string_value(json_object_get(group, "GroupId")),
               json_string_value(json_object_get(group, "GroupName")));
    }
}

static bool
run_show(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *instance = NULL;
    if (!instance_find(cli, args->words[0], &instance, err)) {
        return false;
    }
    if (cli->json) {
        json_print(instance);
        return true;
    }
    static const struct {
        const char *title, *path;
    } lines[] = {
        {"instance", "InstanceId"},
        {"state", "State.Name"},
        {"reason", "StateReason.Message"},
        {"transition", "StateTransitionReason"},
        {"type", "InstanceType"},
        {"image", "ImageId"},
        {"key", "KeyName"},
        {"launched", "LaunchTime"},
        {"zone", "Placement.AvailabilityZone"},
        {"address", "PrivateIpAddress"},
        {"name", "PrivateDnsName"},
        {"network", "VpcId"},
        {"subnet", "SubnetId"},
        {"root", "RootDeviceName"},
        {"root volume", "BlockDeviceMappings.0.Ebs.VolumeId"},
        {"cores", "CpuOptions.CoreCount"},
        {"metadata", "MetadataOptions.HttpTokens"},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        show_line(lines[i].title, json_text(cli->arena, instance, lines[i].path));
    }
    show_groups(instance);
    show_tags(instance);
    return true;
}

/* Which call an action makes, and the state that it leads to. */
struct action {
    const char *call, *list, *state, *done;
    const char *option, *parameter; /* A switch of the command that sets a parameter. */
};

/* The ids of all instances named on the command line. */
static bool
ids_of_words(struct cli *cli, const struct args *args, const char ***out,
             struct err *err)
{
    const char **ids = ARENA_ARRAY(cli->arena, args->word_count, const char *);
    for (size_t i = 0; i < args->word_count; i++) {
        if (!instance_id(cli, args->words[i], &ids[i], err)) {
            return false;
        }
    }
    *out = ids;
    return true;
}

static bool
act(struct cli *cli, const struct args *args, const struct action *action,
    struct err *err)
{
    const char **ids;
    if (!ids_of_words(cli, args, &ids, err)) {
        return false;
    }
    AUTO(form) struct form form = {0};
    for (size_t i = 0; i < args->word_count; i++) {
        form_put(&form, arena_printf(cli->arena, "InstanceId.%zu", i + 1), ids[i]);
    }
    if (action->option && args_has(args, action->option)) {
        form_put(&form, action->parameter, "true");
    }
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2(cli, action->call, &form, &answer, err)) {
        return false;
    }
    if (action->state && !args_has(args, "no-wait")) {
        cli_progress("waiting until %s is %s", args->word_count == 1 ? ids[0] : "each",
                     action->state);
        if (!instance_wait(cli, ids, args->word_count, action->state, WAIT_S, err)) {
            return false;
        }
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    for (size_t i = 0; i < args->word_count; i++) {
        printf("%s  %s\n", ids[i], args_has(args, "no-wait") ? "asked" : action->done);
    }
    return true;
}

static bool
run_stop(struct cli *cli, const struct args *args, struct err *err)
{
    static const struct action action = {
        "StopInstances", "StoppingInstances", "stopped", "stopped", "force", "Force"};
    return act(cli, args, &action, err);
}

static bool
run_start(struct cli *cli, const struct args *args, struct err *err)
{
    static const struct action action = {
        "StartInstances", "StartingInstances", "running", "running", NULL, NULL};
    return act(cli, args, &action, err);
}

static bool
run_reboot(struct cli *cli, const struct args *args, struct err *err)
{
    static const struct action action = {"RebootInstances", NULL, NULL,
                                         "asked to reboot", NULL, NULL};
    return act(cli, args, &action, err);
}

static bool
run_rm(struct cli *cli, const struct args *args, struct err *err)
{
    static const struct action action = {"TerminateInstances",
                                         "TerminatingInstances",
                                         "terminated",
                                         "terminated",
                                         NULL,
                                         NULL};
    return act(cli, args, &action, err);
}

#define NO_WAIT \
    { \
        "no-wait", 0, NULL, "answer at once, without waiting for the new state" \
    }
#define END \
    { \
        NULL, 0, NULL, NULL \
    }

static const struct option ls_options[] = {
    {"state-name", 's', "STATE", "only those in this state: running, stopped, ..."},
    END};
static const struct option stop_options[] = {
    {"force", 'f', NULL, "cut the power instead of asking the guest"}, NO_WAIT, END};
static const struct option wait_options[] = {NO_WAIT, END};

const struct command instance_commands[] = {
    {"run", "[--image NAME] [--type TYPE] [--name NAME]", "launch instances",
     "Launches one instance, or more with --count, waits until they run, and prints "
     "their\n"
     "ids. Without --key-name the key pair 'moln' is used; it is made, and its "
     "private\n"
     "half kept in the state folder's keys/, the first time.\n"
     "\n"
     "  moln run\n"
     "  moln run --image debian-12 --type t3.small --name web --user-data setup.sh\n"
     "  moln ssh $(moln run --image micro)\n",
     run_options, 0, 0, WORD_NONE, false, run_run},
    {"ls", "[--state-name STATE]", "list instances",
     "Terminated instances stay in the list for an hour.\n"
     "\n"
     "  moln ls\n"
     "  moln ls --state-name running --json\n",
     ls_options, 0, 0, WORD_NONE, false, run_ls},
    {"show", "INSTANCE", "tell all about one instance",
     "INSTANCE is an id, or the value of its Name tag.\n"
     "\n"
     "  moln show i-0123456789abcdef0\n"
     "  moln show web --json\n",
     NULL, 1, 1, WORD_INSTANCE, false, run_show},
    {"stop", "INSTANCE... [--force]", "shut instances down; disks stay",
     "The guest is asked first, as by its power button, and has a minute for it.\n"
     "\n"
     "  moln stop web\n",
     stop_options, 1, 100, WORD_INSTANCE, false, run_stop},
    {"start", "INSTANCE...", "start stopped instances",
     "  moln start i-0123456789abcdef0\n", wait_options, 1, 100, WORD_INSTANCE, false,
     run_start},
    {"reboot", "INSTANCE...", "reboot instances", "  moln reboot web\n", NULL, 1, 100,
     WORD_INSTANCE, false, run_reboot},
    {"rebuild", "INSTANCE... [--image AMI] [--keep]",
     "start instances on a root volume made anew",
     "The power is cut, the root volume made anew from the instance's image, and the\n"
     "instance started again, all within seconds; its id, addresses, tags and user data\n"
     "stay. What was on the old root volume is lost, unless it is kept. This is EC2's\n"
     "CreateReplaceRootVolumeTask.\n"
     "\n"
     "  moln rebuild web\n"
     "  moln rebuild web --image ami-0123456789abcdef0 --keep\n",
     rebuild_options, 1, 100, WORD_INSTANCE, false, run_rebuild},
    {"rm", "INSTANCE...", "terminate instances; their root disks go",
     "There is no way back. An instance with termination protection is refused.\n"
     "\n"
     "  moln rm i-0123456789abcdef0\n",
     wait_options, 1, 100, WORD_INSTANCE, false, run_rm},
    {NULL},
};
