/* moln pool: what guests of each zone may count on, whatever host they are on. */
#include "cli/command.h"
#include "cli/listing.h"

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

static const struct listing baselines = {
    (const char *const[]){"ZONE", "ACCEL", "CPU", "MACHINE", "CHOSEN", "HOSTS", "BELOW",
                          "SINCE", NULL},
    put_baseline, "No host has told what it offers yet."};

static bool
list(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_object();
    if (args->word_count) {
        json_object_set_new(in, "Zone", json_string(args->words[0]));
    }
    return listing_all(cli, &baselines, "ListBaselines", in, "Baselines", err);
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
    return listing_one(cli, &baselines, "SetBaseline", in, "Baseline", err);
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
