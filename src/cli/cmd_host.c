/* moln node show, accept, set, rm; moln place explain: what hosts are, and where machines
 * go. */
#include "cli/api.h"
#include "cli/command.h"
#include "cli/grid.h"

static void
put_row(struct grid *grid, const char *name, const char *text)
{
    if (!str_empty(text)) {
        grid_put(grid, name);
        grid_put(grid, text);
    }
}

static const char *
joined(struct cli *cli, json_t *words)
{
    AUTO(buf) struct buf text = {0};
    size_t i;
    json_t *word;
    json_array_foreach(words, i, word)
    {
        buf_printf(&text, "%s%s", i ? ", " : "", json_string_value(word));
    }
    return arena_strdup(cli->arena, buf_str(&text));
}

static const char *
bytes_text(struct cli *cli, int64_t bytes)
{
    char text[32];
    human_bytes(bytes, text);
    return arena_strdup(cli->arena, text);
}

/* ---- what it is made of ---- */

static void
put_processors(struct cli *cli, struct grid *grid, json_t *n, json_t *hw)
{
    int64_t speed = json_int(hw, "Speed");
    put_row(grid, "processors",
            arena_printf(
                cli->arena, "%" PRId64 " (%" PRId64 " cores, %" PRId64 " sockets), %s",
                json_int(n, "Vcpus"), json_int(hw, "Cores"), json_int(hw, "Sockets"),
                json_text(cli->arena, n, "CpuModel")));
    if (speed > 0) {
        put_row(
            grid, "speed",
            arena_printf(cli->arena, "%" PRId64 " %% of the reference", speed / 10));
    }
    if (json_int(hw, "Watts") > 0) {
        put_row(grid, "power",
                arena_printf(cli->arena, "%" PRId64 " W", json_int(hw, "Watts")));
    }
}

static void
put_parts(struct cli *cli, struct grid *grid, json_t *hw)
{
    struct arena *arena = cli->arena;
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(hw, "Numa"), i, part)
    {
        put_row(grid, i ? " " : "numa",
                arena_printf(arena, "%" PRId64 ": processors %s, %s",
                             json_int(part, "Number"), json_text(arena, part, "Cpus"),
                             bytes_text(cli, json_int(part, "MemoryBytes"))));
    }
    json_array_foreach(json_object_get(hw, "Disks"), i, part)
    {
        put_row(
            grid, i ? " " : "disks",
            arena_printf(arena, "%s: %s, %s %s", json_text(arena, part, "Name"),
                         bytes_text(cli, json_int(part, "SizeBytes")),
                         json_bool(part, "Rotational") ? "rotational" : "solid state",
                         json_text(arena, part, "Model")));
    }
    json_array_foreach(json_object_get(hw, "Nics"), i, part)
    {
        int64_t mbps = json_int(part, "SpeedMbps");
        put_row(grid, i ? " " : "network",
                mbps ? arena_printf(arena, "%s: %" PRId64 " Mbit/s",
                                    json_text(arena, part, "Name"), mbps)
                     : json_text(arena, part, "Name"));
    }
    json_array_foreach(json_object_get(hw, "Devices"), i, part)
    {
        put_row(grid, i ? " " : "devices",
                arena_printf(arena, "%s: %s %04" PRIx64 ":%04" PRIx64 "%s",
                             json_text(arena, part, "Address"),
                             json_text(arena, part, "Kind"), json_int(part, "Vendor"),
                             json_int(part, "Device"),
                             json_bool(part, "Sriov") ? ", can be split" : ""));
    }
}

/* ---- moln node show ---- */

static void
put_promises(struct cli *cli, struct grid *grid, json_t *n)
{
    put_row(grid, "promised",
            arena_printf(cli->arena, "%" PRId64 " of %" PRId64 " vCPUs, %s of %s",
                         json_int(n, "ClaimedVcpus"), json_int(n, "CapacityVcpus"),
                         bytes_text(cli, json_int(n, "ClaimedMemoryBytes")),
                         bytes_text(cli, json_int(n, "CapacityMemoryBytes"))));
    if (json_int(n, "CeilingVcpus") || json_int(n, "CeilingMemoryBytes")) {
        put_row(grid, "ceiling",
                arena_printf(cli->arena, "%" PRId64 " vCPUs, %s",
                             json_int(n, "CeilingVcpus"),
                             bytes_text(cli, json_int(n, "CeilingMemoryBytes"))));
    }
    put_row(grid, "pool",
            arena_printf(cli->arena, "%s free of %s",
                         bytes_text(cli, json_int(n, "PoolFreeBytes")),
                         bytes_text(cli, json_int(n, "PoolBytes"))));
}

static const char *
state_of(struct cli *cli, json_t *n)
{
    const char *state = json_text(cli->arena, n, "State");
    const char *quarantine = json_text(cli->arena, n, "Quarantine");
    if (!str_eq(state, "active")) {
        return state;
    }
    if (!json_bool(n, "Connected")) {
        return "away";
    }
    if (!str_empty(quarantine)) {
        return arena_printf(cli->arena, "quarantined: it has %s", quarantine);
    }
    const char *lacks = json_text(cli->arena, n, "Lacks");
    if (!str_empty(lacks)) {
        return arena_printf(cli->arena, "below its zone's baseline: it lacks %s",
                            lacks);
    }
    const char *unfit = json_text(cli->arena, n, "Unfit");
    if (!str_empty(unfit)) {
        return arena_printf(cli->arena, "takes nothing: %s", unfit);
    }
    return json_bool(n, "Cordoned") ? "cordoned" : "ready";
}

static void
host_show(struct cli *cli, json_t *n)
{
    struct arena *arena = cli->arena;
    json_t *hw = json_object_get(n, "Hardware");
    AUTO(grid) struct grid grid;
    static const char *const titles[] = {"NODE", "", NULL};
    grid_init(&grid, titles);
    put_row(&grid, json_text(arena, n, "NodeId"), json_text(arena, n, "Name"));
    put_row(&grid, "zone", json_text(arena, n, "Zone"));
    put_row(&grid, "state", state_of(cli, n));
    put_row(&grid, "guests",
            arena_printf(arena, "%" PRId64 ", run by %s", json_int(n, "Machines"),
                         json_text(arena, n, "Accelerator")));
    put_promises(cli, &grid, n);
    put_row(&grid, "rack", json_text(arena, n, "Rack"));
    put_row(&grid, "segment", json_text(arena, n, "Segment"));
    put_row(&grid, "only for", json_text(arena, n, "SingleAccount"));
    put_row(&grid, "labels", joined(cli, json_object_get(n, "Labels")));
    put_row(&grid, "underlay", json_text(arena, n, "UnderlayAddress"));
    if (json_int(n, "Cost")) {
        put_row(&grid, "cost", arena_printf(arena, "%" PRId64, json_int(n, "Cost")));
    }
    if (hw) {
        put_processors(cli, &grid, n, hw);
        put_row(&grid, "memory",
                arena_printf(arena, "%s, swap %s",
                             bytes_text(cli, json_int(n, "MemoryBytes")),
                             bytes_text(cli, json_int(hw, "SwapBytes"))));
        put_row(&grid, "features", joined(cli, json_object_get(hw, "Features")));
        put_parts(cli, &grid, hw);
    }
    put_row(&grid, "gives guests", joined(cli, json_object_get(n, "CpuModels")));
    put_row(&grid, "machines", joined(cli, json_object_get(n, "MachineTypes")));
    put_row(&grid, "qemu", json_text(arena, n, "EmulatorVersion"));
    put_row(&grid, "agent", json_text(arena, n, "AgentVersion"));
    grid_print(&grid, stdout);
}

static bool
ask_node(struct cli *cli, const char *operation, json_t *in, struct err *err)
{
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, operation, in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
    } else {
        host_show(cli, json_object_get(answer, "Node"));
    }
    return true;
}

static bool
run_show(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    return ask_node(cli, "DescribeNode", in, err);
}

static bool
run_accept(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    return ask_node(cli, "AcceptNode", in, err);
}

static bool
run_rm(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "RemoveNode", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
    }
    return true;
}

/* ---- moln node set ---- */

static void
put_labels(json_t *in, const char *text)
{
    AUTO(free) char *copy = xstrdup(text);
    char *save = NULL;
    json_t *labels = json_array();
    for (char *word = strtok_r(copy, ",", &save); word;
         word = strtok_r(NULL, ",", &save)) {
        json_array_append_new(labels, json_string(word));
    }
    if (json_array_size(labels) == 0) {
        json_object_set_new(in, "ClearLabels", json_true());
        json_decref(labels);
    } else {
        json_object_set_new(in, "Labels", labels);
    }
}

static bool
run_set(struct cli *cli, const struct args *args, struct err *err)
{
    int64_t cost, vcpus, memory_gib;
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    if (!args_int(args, "cost", 0, 1000000, -1, &cost, err) ||
        !args_int(args, "vcpus", 0, 65536, -1, &vcpus, err) ||
        !args_int(args, "memory", 0, 1000000, -1, &memory_gib, err)) {
        return false;
    }
    if (args->given_count == 0) {
        return cli_usage(err, "say what to set; see 'moln node set --help'");
    }
    if (args_has(args, "rack")) {
        json_object_set_new(in, "Rack", json_string(args_get(args, "rack")));
    }
    if (args_has(args, "segment")) {
        json_object_set_new(in, "Segment", json_string(args_get(args, "segment")));
    }
    if (args_has(args, "labels")) {
        put_labels(in, args_get(args, "labels"));
    }
    if (cost >= 0) {
        json_object_set_new(in, "Cost", json_integer(cost));
    }
    if (vcpus >= 0) {
        json_object_set_new(in, "CeilingVcpus", json_integer(vcpus));
    }
    if (memory_gib >= 0) {
        json_object_set_new(in, "CeilingMemoryBytes",
                            json_integer(memory_gib * (int64_t)GIB));
    }
    return ask_node(cli, "UpdateNode", in, err);
}

/* ---- moln node mark, unmark ---- */

static bool
run_mark(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    if (!args_has(args, "single-account")) {
        return cli_usage(err, "say as what: --single-account ACCOUNT");
    }
    json_object_set_new(in, "SingleAccount",
                        json_string(args_get(args, "single-account")));
    return ask_node(cli, "UpdateNode", in, err);
}

static bool
run_unmark(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json)
    json_t *in = json_pack("{ssss}", "NodeId", args->words[0], "SingleAccount", "");
    return ask_node(cli, "UpdateNode", in, err);
}

/* ---- moln place explain ---- */

static void
print_places(json_t *answer)
{
    json_t *nodes = json_object_get(answer, "NodeIds");
    size_t count = json_array_size(nodes);
    for (size_t i = 0, same = 1; i < count; i += same, same = 1) {
        const char *id = json_string_value(json_array_get(nodes, i));
        while (i + same < count &&
               str_eq(id, json_string_value(json_array_get(nodes, i + same)))) {
            same++;
        }
        const char *why =
            json_string_value(json_array_get(json_object_get(answer, "Choices"), i));
        printf("%zu on %s: %s\n", same, id, why ? why : "");
    }
}

static bool
run_explain(struct cli *cli, const struct args *args, struct err *err)
{
    int64_t count;
    AUTO(json) json_t *in = json_pack("{ss}", "InstanceType", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!args_int(args, "count", 1, 1000, 1, &count, err)) {
        return false;
    }
    json_object_set_new(in, "Count", json_integer(count));
    static const struct {
        const char *option, *member;
    } texts[] = {{"zone", "Zone"}, {"account", "AccountId"}, {"tenancy", "Tenancy"}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (args_has(args, texts[i].option)) {
            json_object_set_new(in, texts[i].member,
                                json_string(args_get(args, texts[i].option)));
        }
    }
    if (!api_operator(cli, "ExplainPlacement", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    print_places(answer);
    if (json_int(answer, "Placed") < count) {
        printf("%" PRId64 " find no place\n", count - json_int(answer, "Placed"));
    }
    printf("%s\n", json_text(cli->arena, answer, "Reasons"));
    return true;
}

/* ---- the table ---- */

static const struct option set_options[] = {
    {"rack", 0, "NAME", "what fails with it; \"\": itself only"},
    {"segment", 0, "NAME", "its part of the network; \"\": none"},
    {"labels", 0, "A,B", "words that instance types may require; \"\": none"},
    {"cost", 0, "N",
     "what an hour of it costs, in any unit: cheap hosts are filled first"},
    {"vcpus", 0, "N", "promise no more virtual processors there; 0: what it measured"},
    {"memory", 0, "GIB", "promise no more memory there; 0: what it measured"},
    {NULL, 0, NULL, NULL},
};

static const struct option mark_options[] = {
    {"single-account", 0, "ACCOUNT", "its instances alone may be there"},
    {NULL, 0, NULL, NULL},
};

static const struct option explain_options[] = {
    {"count", 0, "N", "so many of them (1)"},
    {"zone", 0, "NAME", "only there"},
    {"account", 0, "ID", "whose they would be"},
    {"tenancy", 0, "WORD", "default or dedicated"},
    {NULL, 0, NULL, NULL},
};

const struct command host_commands[] = {
    {"node show", "NODE", "one host: what it is, what it promised", NULL, NULL, 1, 1,
     WORD_NODE, false, run_show},
    {"node set", "NODE [--rack NAME] [--labels A,B] ...",
     "say what placement should know of a host",
     "Spread and partition groups keep apart by rack, cluster groups together by "
     "segment;\n"
     "instance types may require labels (\"features\" in their catalogue).\n"
     "\n"
     "  moln node set node-0123456789abcdef0 --rack r7 --labels gpu-l4,ssd --cost 3\n",
     set_options, 1, 1, WORD_NODE, false, run_set},
    {"node mark", "NODE --single-account ACCOUNT",
     "keep a host for one account, and let its guests share memory",
     "No other account's instances are placed there; those that are must be moved "
     "away\n"
     "first. Guests that start there from now on have equal pages of theirs merged by "
     "the\n"
     "kernel (KSM), as soon as all that run there have. 'moln node unmark' ends "
     "both.\n",
     mark_options, 1, 1, WORD_NODE, false, run_mark},
    {"node unmark", "NODE", "let a marked host take everybody's instances again",
     "What was merged is taken apart before others' guests start there.\n", NULL, 1, 1,
     WORD_NODE, false, run_unmark},
    {"node accept", "NODE", "take a host as it is now, though its hardware changed",
     "A host that comes back with other hardware than it joined with gets no new "
     "machines\n"
     "until this is said, or until it is again what it was.\n",
     NULL, 1, 1, WORD_NODE, false, run_accept},
    {"node rm", "NODE", "forget a host that was revoked and holds nothing", NULL, NULL,
     1, 1, WORD_NODE, false, run_rm},
    {"place explain", "TYPE [--count N] [--zone NAME] ...",
     "where machines would go, or why nowhere",
     "Nothing is promised. Why a launch was refused stands in its audit record too.\n"
     "\n"
     "  moln place explain m5.large --count 10\n",
     explain_options, 1, 1, WORD_NONE, false, run_explain},
    {"node use", "NODE", "what its machines used in the last minute",
     "Busy vCPUs, how long they waited for a processor (95th percentile of a minute), "
     "memory,\n"
     "CPU credits of burstable types; and the host's memory pressure, with what it "
     "does\n"
     "about it: reclaim, balloon, move, refuse.\n",
     NULL, 1, 1, WORD_NODE, false, run_node_use},
    {NULL},
};
