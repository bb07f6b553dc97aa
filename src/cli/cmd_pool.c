/* moln pool: what guests of each zone may count on, whatever host they are on. */
#include "cli/api.h"
#include "cli/command.h"
#include "cli/grid.h"

static const char *const titles[] = {"ZONE",  "ACCEL", "CPU",   "MACHINE", "CHOSEN",
                                     "HOSTS", "BELOW", "SINCE", NULL};

static void
put_baseline(struct cli *cli, struct grid *grid, json_t *b)
{
    grid_put(grid, json_text(cli->arena, b, "Zone"));
    grid_put(grid, json_text(cli->arena, b, "Accelerator"));
    grid_put(grid, json_text(cli->arena, b, "CpuModel"));
    grid_put(grid, json_text(cli->arena, b, "MachineType"));
    grid_put(grid, json_bool(b, "Automatic") ? "automatic" : "by hand");
    grid_printf(grid, "%" PRId64, json_int(b, "Nodes"));
    grid_printf(grid, "%" PRId64, json_int(b, "NodesBelow"));
    grid_put(grid, json_when(cli->arena, b, "ChosenAt"));
}

static bool
list(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_object();
    AUTO(json) json_t *answer = NULL;
    AUTO(grid) struct grid grid;
    if (args->word_count) {
        json_object_set_new(in, "Zone", json_string(args->words[0]));
    }
    grid_init(&grid, titles);
    if (!api_operator_all(cli, "ListBaselines", in, "Baselines", &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    size_t i;
    json_t *baseline;
    json_array_foreach(json_object_get(answer, "Baselines"), i, baseline)
    {
        put_baseline(cli, &grid, baseline);
    }
    if (grid.cells.count == 0) {
        (void)fprintf(stderr, "No host has told what it offers yet.\n");
    } else {
        grid_print(&grid, stdout);
    }
    return true;
}

static bool
run_pool(struct cli *cli, const struct args *args, struct err *err)
{
    const char *cpu = args_get(args, "cpu-baseline");
    const char *machine = args_get(args, "machine-baseline");
    const char *accel = args_get(args, "accel");
    if (!cpu && !machine) {
        return accel ? cli_usage(err, "--accel goes with what is to be set")
                     : list(cli, args, err);
    }
    if (args->word_count == 0) {
        return cli_usage(err, "say of which zone: moln pool ZONE --cpu-baseline MODEL");
    }
    AUTO(json) json_t *in = json_pack("{ss}", "Zone", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    AUTO(grid) struct grid grid;
    grid_init(&grid, titles);
    if (accel) {
        json_object_set_new(in, "Accelerator", json_string(accel));
    }
    if (str_eq(cpu, "auto")) {
        json_object_set_new(in, "Automatic", json_true());
    } else if (cpu) {
        json_object_set_new(in, "CpuModel", json_string(cpu));
    }
    if (machine) {
        json_object_set_new(in, "MachineType", json_string(machine));
    }
    if (!api_operator(cli, "SetBaseline", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    put_baseline(cli, &grid, json_object_get(answer, "Baseline"));
    grid_print(&grid, stdout);
    return true;
}

static const struct option pool_options[] = {
    {"cpu-baseline", 0, "MODEL",
     "the processor; 'auto': the best that all hosts can give"},
    {"machine-baseline", 0, "TYPE", "the machine type: pc-q35-7.2"},
    {"accel", 0, "kvm|tcg", "of these hosts, where a zone has both"},
    {NULL, 0, NULL, NULL},
};

const struct command pool_commands[] = {
    {"pool", "[ZONE] [--cpu-baseline MODEL|auto] [--machine-baseline TYPE]",
     "the processor and machine that guests get, by zone, so that they can move",
     "New guests, and those that are started again, get their zone's baseline; what "
     "runs\n"
     "keeps what it has. It is picked when a zone's first host joins, and by all of "
     "them "
     "as\n"
     "long as none has guests. A host that cannot give it takes no new guests.\n"
     "\n"
     "  moln pool us-east-1a --cpu-baseline x86-64-v2-AES\n"
     "  moln pool us-east-1a --cpu-baseline auto       # after hosts came, went, or "
     "were "
     "upgraded\n",
     pool_options, 0, 1, WORD_NONE, false, run_pool},
    {NULL},
};
