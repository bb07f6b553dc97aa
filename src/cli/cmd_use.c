/* cmd_use.c - moln node use: what machines used in the last minute. */
#include "cli/api.h"
#include "cli/command.h"
#include "cli/grid.h"

static void
put_machine(struct cli *cli, struct grid *grid, json_t *m)
{
    char memory[32];
    human_bytes(json_int(m, "MemoryBytes"), memory);
    grid_put(grid, json_text(cli->arena, m, "InstanceId"));
    grid_printf(grid, "%.2f", (double)json_int(m, "BusyMilli") / 1000);
    grid_printf(grid, "%.1f %%", (double)json_int(m, "ReadyPermille") / 10);
    grid_put(grid, memory);
    grid_printf(grid, "%.2f", (double)json_int(m, "CreditBalanceMilli") / 1000);
    grid_printf(grid, "%.2f", (double)json_int(m, "SurplusCreditBalanceMilli") / 1000);
    grid_put(grid, json_bool(m, "Held")              ? "held to its baseline"
                   : json_int(m, "BalloonBytes") > 0 ? "asked for memory"
                                                     : "");
}

static void
print_host(json_t *use)
{
    const char *relief = json_string_value(json_object_get(use, "Relief"));
    printf("vCPUs: %.2f busy of %" PRId64 " promised; waiting %.1f %% at worst\n",
           (double)json_int(use, "BusyMilli") / 1000, json_int(use, "PromisedVcpus"),
           (double)json_int(use, "ReadyPermille") / 10);
    printf("memory: pressure %.2f %% some, %.2f %% full; relief: %s%s\n",
           (double)json_int(use, "MemorySomeBp") / 100,
           (double)json_int(use, "MemoryFullBp") / 100, relief ? relief : "none",
           json_bool(use, "Crowded") ? "; machines should be moved away" : "");
}

bool
run_node_use(struct cli *cli, const struct args *args, struct err *err)
{
    static const char *const titles[] = {"INSTANCE", "VCPUS BUSY", "READY", "MEMORY",
                                         "CREDITS",  "SURPLUS",    "",      NULL};
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "DescribeNodeUse", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    if (!json_object_get(answer, "At")) {
        (void)fprintf(stderr, "Nothing yet: nodes tell once a minute.\n");
        return true;
    }
    AUTO(grid) struct grid grid;
    grid_init(&grid, titles);
    size_t i;
    json_t *machine;
    json_array_foreach(json_object_get(answer, "Machines"), i, machine)
    {
        put_machine(cli, &grid, machine);
    }
    print_host(answer);
    grid_print(&grid, stdout);
    return true;
}
