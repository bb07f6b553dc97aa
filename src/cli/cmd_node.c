/* moln node ...: hosts, tickets for more of them, what they told. */
#include "base/timefmt.h"
#include "cli/command.h"
#include "cli/forecast.h"
#include "cli/listing.h"

static bool
drains_later(struct cli *cli, json_t *n)
{
    return json_int(n, "DrainNotBefore") * NS_PER_S > clock_real(cli->clock);
}

static void
put_node(struct cli *cli, struct grid *grid, json_t *n)
{
    char free_memory[32], memory[32], pool[32];
    human_bytes(json_int(n, "ClaimedMemoryBytes"), free_memory);
    human_bytes(json_int(n, "CapacityMemoryBytes"), memory);
    human_bytes(json_int(n, "PoolFreeBytes"), pool);
    const char *state = json_text(cli->arena, n, "State");
    grid_put(grid, json_text(cli->arena, n, "NodeId"));
    grid_put(grid, json_text(cli->arena, n, "Name"));
    grid_put(grid, json_text(cli->arena, n, "Zone"));
    grid_put(grid, !str_eq(state, "active")           ? state
                   : !json_bool(n, "Connected")       ? "away"
                   : json_object_get(n, "Quarantine") ? "quarantined"
                   : json_object_get(n, "Lacks")      ? "below"
                   : json_object_get(n, "Unfit")      ? "unfit"
                   : drains_later(cli, n)             ? "drains later"
                   : json_bool(n, "Draining")         ? "draining"
                   : json_bool(n, "Cordoned")         ? "cordoned"
                                                      : "ready");
    grid_printf(grid, "%" PRId64, json_int(n, "Machines"));
    grid_printf(grid, "%" PRId64 " / %" PRId64, json_int(n, "ClaimedVcpus"),
                json_int(n, "CapacityVcpus"));
    grid_printf(grid, "%s / %s", free_memory, memory);
    grid_put(grid, pool);
    grid_put(grid, json_text(cli->arena, n, "Accelerator"));
    grid_put(grid, json_text(cli->arena, n, "UnderlayAddress"));
}

static const struct listing hosts = {
    (const char *const[]){"NODE", "NAME", "ZONE", "STATE", "GUESTS", "VCPUS", "MEMORY",
                          "POOL FREE", "ACCEL", "UNDERLAY", NULL},
    put_node, "No nodes. Is moln-node running? See STATE/node/*.log."};

static bool
run_ls(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_object();
    if (args_has(args, "zone")) {
        json_object_set_new(in, "Zone", json_string(args_get(args, "zone")));
    }
    return listing_all(cli, &hosts, "ListNodes", in, "Nodes", err);
}

/* An operation whose answer shows one node. */
static bool
show_node(struct cli *cli, const char *operation, json_t *in, struct err *err)
{
    return listing_one(cli, &hosts, operation, in, "Node", err);
}

static bool
on_node(struct cli *cli, const struct args *args, const char *operation,
        struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    return show_node(cli, operation, in, err);
}

static bool
run_cordon(struct cli *cli, const struct args *args, struct err *err)
{
    return on_node(cli, args, "CordonNode", err);
}

/* Until no instance is there, and nothing is on its way. */
static bool
wait_empty(struct cli *cli, const char *node_id, struct err *err)
{
    for (;;) {
        AUTO(json) json_t *in = json_pack("{ss}", "NodeId", node_id);
        AUTO(json) json_t *answer = NULL;
        if (!api_operator(cli, "DescribeNode", in, &answer, err)) {
            return false;
        }
        json_t *node = json_object_get(answer, "Node");
        if (json_int(node, "Machines") == 0 &&
            json_int(node, "StoppedInstances") == 0) {
            return true;
        }
        if (!json_bool(node, "Draining")) {
            return err_set(err, ERR_UNAVAILABLE, "the drain of %s was called off",
                           node_id);
        }
        (void)usleep(500000);
    }
}

/* An option's moment, if it was given, as a member of 'in'. */
static bool
take_time(const struct args *args, const char *option, json_t *in, const char *member,
          struct err *err)
{
    int64_t ns;
    if (!args_has(args, option)) {
        return true;
    }
    if (!time_parse(args_get(args, option), &ns)) {
        return cli_usage(err, "--%s takes a moment: 2026-01-31T23:00:00Z", option);
    }
    json_object_set_new(in, member, json_integer(ns / NS_PER_S));
    return true;
}

static bool
run_drain(struct cli *cli, const struct args *args, struct err *err)
{
    if (args_has(args, "forecast")) {
        AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
        return forecast_print(cli, in, err);
    }
    AUTO(json) json_t *in = json_pack("{ss}", "NodeId", args->words[0]);
    return take_time(args, "at", in, "NotBefore", err) &&
           take_time(args, "deadline", in, "Deadline", err) &&
           show_node(cli, "DrainNode", in, err) &&
           (!args_has(args, "wait") || wait_empty(cli, args->words[0], err));
}

static bool
run_uncordon(struct cli *cli, const struct args *args, struct err *err)
{
    return on_node(cli, args, "UncordonNode", err);
}

static bool
run_revoke(struct cli *cli, const struct args *args, struct err *err)
{
    return on_node(cli, args, "RevokeNode", err);
}

static bool
run_token(struct cli *cli, const struct args *args, struct err *err)
{
    int64_t vcpus, memory_gib, lifetime;
    if (!args_int(args, "vcpus", 1, 100000, 0, &vcpus, err) ||
        !args_int(args, "memory", 1, 1000000, 0, &memory_gib, err) ||
        !args_int(args, "lifetime", 1, 3600, 0, &lifetime, err)) {
        return false;
    }
    AUTO(json) json_t *in = json_pack("{ss}", "Zone", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (vcpus) {
        json_object_set_new(in, "CeilingVcpus", json_integer(vcpus));
    }
    if (memory_gib) {
        json_object_set_new(in, "CeilingMemoryBytes",
                            json_integer(memory_gib * (int64_t)GIB));
    }
    if (lifetime) {
        json_object_set_new(in, "LifetimeSeconds", json_integer(lifetime));
    }
    if (!api_operator(cli, "CreateNodeToken", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    printf("%s\n", json_text(cli->arena, answer, "Token"));
    if (isatty(1)) {
        (void)fprintf(
            stderr,
            "Good once, within the hour. Save it in a file on the new host, and:\n"
            "  moln-node --join THIS-HOST:6657 --token-file FILE\n");
    }
    return true;
}

/* ---- events ---- */

static double
event_time(const json_t *event)
{
    return json_number_value(json_object_get(event, "At"));
}

static int
by_time(const void *a, const void *b)
{
    double x = event_time(*(json_t *const *)a), y = event_time(*(json_t *const *)b);
    return x < y ? -1 : x > y;
}

/* What was asked for of all of them, the oldest first. */
static json_t *
events_chosen(const struct args *args, json_t *all)
{
    static const struct {
        const char *option, *member;
    } words[] = {{"kind", "Kind"}, {"object", "Object"}, {"level", "Level"}};
    VEC(json_t *) chosen = {0};
    json_t *event, *out = json_array();
    size_t i;
    json_array_foreach(all, i, event)
    {
        bool wanted = true;
        for (size_t w = 0; w < ARRAY_LEN(words); w++) {
            const char *has =
                json_string_value(json_object_get(event, words[w].member));
            wanted &= !args_has(args, words[w].option) ||
                      str_eq(has, args_get(args, words[w].option));
        }
        if (wanted) {
            VEC_PUSH(&chosen, event);
        }
    }
    if (chosen.count > 0) {
        qsort(chosen.items, chosen.count, sizeof *chosen.items, by_time);
    }
    for (size_t k = 0; k < chosen.count; k++) {
        json_array_append(out, chosen.items[k]);
    }
    VEC_FREE(&chosen);
    return out;
}

static void
put_event(struct cli *cli, struct grid *grid, json_t *event)
{
    grid_put(grid, json_when(cli->arena, event, "At"));
    grid_put(grid, json_text(cli->arena, event, "NodeId"));
    grid_put(grid, json_text(cli->arena, event, "Level"));
    grid_put(grid, json_text(cli->arena, event, "Kind"));
    grid_put(grid, json_text(cli->arena, event, "Object"));
    grid_put(grid, json_text(cli->arena, event, "Message"));
}

static const struct listing events = {
    (const char *const[]){"AT", "NODE", "LEVEL", "KIND", "OBJECT", "MESSAGE", NULL},
    put_event, NULL};

static bool
run_events(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_object();
    AUTO(json) json_t *answer = NULL;
    if (args->word_count) {
        json_object_set_new(in, "NodeId", json_string(args->words[0]));
    }
    if (args_has(args, "from")) {
        const char *day = args_get(args, "from");
        int64_t ns;
        if (!time_parse(arena_printf(cli->arena, "%sT00:00:00Z", day), &ns)) {
            return cli_usage(err, "--from takes a day: 2026-01-31");
        }
        json_object_set_new(in, "Since", json_integer(ns / NS_PER_S));
    }
    if (!api_operator_all(cli, "ListEvents", in, "Events", &answer, err)) {
        return false;
    }
    json_t *chosen = events_chosen(args, json_object_get(answer, "Events"));
    json_object_set_new(answer, "Events", chosen);
    listing_print(cli, &events, answer, "Events");
    return true;
}

static const struct option event_options[] = {
    {"from", 0, "DAY", "from this day on, 2026-01-31"},
    {"kind", 0, "WORD", "only of this kind: lease, recovery, quarantine, ..."},
    {"object", 0, "ID", "only about this instance, node, ..."},
    {"level", 0, "WORD", "info, warn or error"},
    {NULL, 0, NULL, NULL},
};

static const struct option ls_options[] = {
    {"zone", 0, "NAME", "only those of this zone"},
    {NULL, 0, NULL, NULL},
};
static const struct option token_options[] = {
    {"vcpus", 0, "N", "promise no more virtual processors there"},
    {"memory", 0, "GIB", "promise no more memory there"},
    {"lifetime", 0, "SECONDS", "how long the ticket is good (3600)"},
    {NULL, 0, NULL, NULL},
};

static const struct option drain_options[] = {
    {"at", 0, "TIME", "move nothing before then: 2026-01-31T23:00:00Z"},
    {"deadline", 0, "TIME", "with --at: owners may put their part off till then"},
    {"wait", 0, NULL, "until no instance is there any more"},
    {"forecast", 0, NULL, "only say what would go where, and how long it would take"},
    {NULL, 0, NULL, NULL},
};

const struct command node_commands[] = {
    {"node ls", "[--zone NAME]", "list hosts: what they have, and what is promised",
     NULL, ls_options, 0, 0, WORD_NONE, false, run_ls},
    {"node token", "ZONE", "make a ticket with which one more host may join",
     "The ticket holds the fingerprint of this cloud's CA, so that the host knows whom "
     "it\n"
     "joins. It is good once, for one zone.\n"
     "\n"
     "  moln node token us-east-1a --vcpus 32 --memory 64 > ticket\n",
     token_options, 1, 1, WORD_NONE, false, run_token},
    {"node cordon", "NODE", "give it no new machines; those it has go on", NULL, NULL,
     1, 1, WORD_NODE, false, run_cordon},
    {"node drain", "NODE [--at TIME [--deadline TIME]] [--wait | --forecast]",
     "cordon it, and move what is there to other hosts",
     "Each running instance is moved while it runs (moln migrate), two at a time, to "
     "the\n"
     "best host of its zone; its owner sees a scheduled event. Then those that are "
     "stopped\n"
     "are moved with their disks. What no host takes stays, is told by 'moln node "
     "events',\n"
     "and is tried again. 'moln node uncordon' calls it off.\n"
     "\n"
     "With --at the host takes nothing new from now on, and is emptied from then on; "
     "the\n"
     "owners' events say so, and a --deadline lets them choose another time up to it\n"
     "(ModifyInstanceEventStartTime).\n",
     drain_options, 1, 1, WORD_NODE, false, run_drain},
    {"node uncordon", "NODE", "let it take machines again", NULL, NULL, 1, 1, WORD_NODE,
     false, run_uncordon},
    {"node revoke", "NODE", "close its stream and refuse its certificate for ever",
     NULL, NULL, 1, 1, WORD_NODE, false, run_revoke},
    {"events", "[NODE] [--kind WORD] ...", "what happened to hosts and guests, by time",
     "What a node refused or was refused (ceiling, quarantine, foreign-report, lease, "
     "certificate),\n"
     "what was done for its guests (recovery, migration, drain, pressure, ksm), and "
     "how "
     "they\n"
     "fared (crash, io_pause). Kept for 90 days.\n"
     "\n"
     "  moln events --kind recovery --from 2026-01-31\n",
     event_options, 0, 1, WORD_NODE, false, run_events},
    {"node events", "[NODE] [--kind WORD] ...", "the same as 'moln events'", NULL,
     event_options, 0, 1, WORD_NODE, false, run_events},
    {NULL},
};
