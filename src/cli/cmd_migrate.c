/* moln migrate ...: instances moved to other hosts, while they run or are stopped. */
#include "base/timefmt.h"
#include "cli/command.h"
#include "cli/forecast.h"
#include "cli/instance.h"
#include "cli/listing.h"

#define POLL_US 500000

static const char *const titles[] = {"MIGRATION", "INSTANCE", "FROM", "TO",
                                     "STATE",     "COPIED",   "TOOK", "STOOD STILL",
                                     "MESSAGE",   NULL};

/* "83 %" of disks and memory together. */
static void
put_copied(struct grid *grid, json_t *m)
{
    int64_t all = json_int(m, "DiskBytes") + json_int(m, "MemoryBytes");
    int64_t left = json_int(m, "DiskBytes") - json_int(m, "DiskDoneBytes") +
                   json_int(m, "MemoryLeftBytes");
    if (all > 0) {
        grid_printf(grid, "%" PRId64 " %%", 100 - MIN(100, 100 * left / all));
    } else {
        grid_put(grid, "");
    }
}

static void
put_migration(struct cli *cli, struct grid *grid, json_t *m)
{
    const char *state = json_text(cli->arena, m, "State");
    grid_put(grid, json_text(cli->arena, m, "MigrationId"));
    grid_put(grid, json_text(cli->arena, m, "InstanceId"));
    grid_put(grid, json_text(cli->arena, m, "FromNode"));
    grid_put(grid, json_text(cli->arena, m, "ToNode"));
    grid_put(grid, state);
    put_copied(grid, m);
    grid_printf(grid, "%.1f s", (double)json_int(m, "ElapsedMilliseconds") / 1000);
    if (str_eq(state, "done") && !json_bool(m, "Stopped")) {
        grid_printf(grid, "%" PRId64 " ms", json_int(m, "DowntimeMilliseconds"));
    } else {
        grid_put(grid, "");
    }
    grid_put(grid, json_text(cli->arena, m, "Message"));
}

static const struct listing migrations = {titles, put_migration, NULL};

static bool
has_ended(struct cli *cli, json_t *answer)
{
    const char *state =
        json_text(cli->arena, json_object_get(answer, "Migration"), "State");
    return str_eq(state, "done") || str_eq(state, "failed");
}

/* Looks until it has ended; '*answer' is replaced. */
static bool
wait_for(struct cli *cli, json_t **answer, struct err *err)
{
    const char *id = arena_strdup(
        cli->arena,
        json_text(cli->arena, json_object_get(*answer, "Migration"), "MigrationId"));
    while (!has_ended(cli, *answer)) {
        AUTO(json) json_t *in = json_pack("{ss}", "MigrationId", id);
        (void)usleep(POLL_US);
        json_decref(*answer);
        *answer = NULL;
        if (!api_operator(cli, "DescribeMigration", in, answer, err)) {
            return false;
        }
    }
    json_t *m = json_object_get(*answer, "Migration");
    return str_eq(json_text(cli->arena, m, "State"), "done") ||
           err_set(err, ERR_UNAVAILABLE, "%s stays where it is: %s",
                   json_text(cli->arena, m, "InstanceId"),
                   json_text(cli->arena, m, "Message"));
}

static bool
run_migrate(struct cli *cli, const struct args *args, struct err *err)
{
    int64_t mbit, downtime;
    const char *id;
    if (!args_int(args, "mbit", 1, 1000000, 0, &mbit, err) ||
        !args_int(args, "downtime", 50, 60000, 0, &downtime, err) ||
        !instance_id(cli, args->words[0], &id, err)) {
        return false;
    }
    AUTO(json) json_t *in = json_pack("{ss}", "InstanceId", id);
    AUTO(json) json_t *answer = NULL;
    if (args_has(args, "to")) {
        json_object_set_new(in, "ToNode", json_string(args_get(args, "to")));
    }
    if (mbit) {
        json_object_set_new(in, "BitsPerSecond", json_integer(mbit * 1000000));
    }
    if (downtime) {
        json_object_set_new(in, "DowntimeLimitMilliseconds", json_integer(downtime));
    }
    if (args_has(args, "forecast")) {
        return forecast_print(cli, in, err);
    }
    if (args_has(args, "force")) {
        json_object_set_new(in, "Force", json_true());
    }
    if (args_has(args, "post-copy")) {
        json_object_set_new(in, "PostCopy", json_true());
    }
    if (!api_operator(cli, "StartMigration", in, &answer, err)) {
        return false;
    }
    bool ok = args_has(args, "no-wait") || wait_for(cli, &answer, err);
    if (answer && (ok || cli->json)) {
        listing_print(cli, &migrations, answer, "Migration");
    }
    return ok;
}

static void
print_all(struct cli *cli, json_t *answer, const char *none)
{
    const struct listing all = {titles, put_migration, none};
    listing_print(cli, &all, answer, "Migrations");
}

/* What all of them are expected to take. */
static void
print_sum(struct cli *cli, json_t *answer)
{
    json_t *all = json_object_get(answer, "Migrations"), *m;
    int64_t total_ms = 0, longest_ms = 0;
    size_t i;
    json_array_foreach(all, i, m)
    {
        total_ms += json_int(m, "ForecastMilliseconds");
        longest_ms = MAX(longest_ms, json_int(m, "ForecastDowntimeMilliseconds"));
    }
    if (json_array_size(all) > 0) {
        printf("forecast: about %s in all; none stands still for more than %" PRId64
               " ms\n",
               forecast_time(cli, total_ms), longest_ms);
    }
}

static bool
run_rebalance(struct cli *cli, const struct args *args, struct err *err)
{
    int64_t max;
    if (!args_int(args, "max", 1, 100, 4, &max, err)) {
        return false;
    }
    AUTO(json)
    json_t *in = json_pack("{ss, sI, sb}", "Zone", args->words[0], "MaxMigrations",
                           (json_int_t)max, "DryRun", args_has(args, "dry-run"));
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "RebalanceZone", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    print_all(cli, answer, "Nothing to move: the zone's hosts are promised alike.");
    print_sum(cli, answer);
    return true;
}

static bool
run_ls(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_object();
    AUTO(json) json_t *answer = NULL;
    const char *id;
    if (args->word_count) {
        if (!instance_id(cli, args->words[0], &id, err)) {
            return false;
        }
        json_object_set_new(in, "InstanceId", json_string(id));
    }
    json_object_set_new(in, "OpenOnly", json_boolean(!args_has(args, "all")));
    if (!api_operator_all(cli, "ListMigrations", in, "Migrations", &answer, err)) {
        return false;
    }
    print_all(cli, answer,
              args_has(args, "all")
                  ? "No migrations."
                  : "No migrations under way; --all shows those that ended.");
    return true;
}

static bool
on_one(struct cli *cli, const struct args *args, const char *operation, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "MigrationId", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, operation, in, &answer, err)) {
        return false;
    }
    listing_print(cli, &migrations, answer, "Migration");
    return true;
}

static bool
run_show(struct cli *cli, const struct args *args, struct err *err)
{
    return on_one(cli, args, "DescribeMigration", err);
}

static bool
run_cancel(struct cli *cli, const struct args *args, struct err *err)
{
    return on_one(cli, args, "CancelMigration", err);
}

static const struct option migrate_options[] = {
    {"to", 0, "NODE", "where to; else the best host of its zone"},
    {"mbit", 0, "N",
     "take no more than N Mbit a second of the network for its memory, and for each of "
     "its disks"},
    {"downtime", 0, "MS", "let it stand still for so long at most (300)"},
    {"forecast", 0, NULL, "only say what it would take, and what that is known from"},
    {"force", 0, NULL,
     "also when, by its forecast, it would never end, or by post-copy without its "
     "owner's word"},
    {"post-copy", 0, NULL,
     "after one pass let it go on there, and the rest of its memory follow"},
    {"no-wait", 0, NULL, "return at once; 'moln migrate ls' shows how it goes"},
    {NULL, 0, NULL, NULL},
};
static const struct option rebalance_options[] = {
    {"max", 0, "N", "begin no more than N migrations (4)"},
    {"dry-run", 0, NULL, "only say what would be moved"},
    {NULL, 0, NULL, NULL},
};
static const struct option ls_options[] = {
    {"all", 0, NULL, "also those that ended"},
    {NULL, 0, NULL, NULL},
};

const struct command migrate_commands[] = {
    {"migrate", "INSTANCE [--to NODE] [--forecast]", "move an instance to another host",
     "One that runs goes on all the while: its memory, disks, console and open\n"
     "connections go along, and it stands still for a moment only. Of one that is "
     "stopped\n"
     "its disks are moved; a start comes before that, and ends it. Both hosts need\n"
     "'--underlay'. Whatever fails before the switch, it stays where it was. One that\n"
     "writes its memory faster than the network between the hosts carries it, even "
     "with\n"
     "nearly all of its processor time taken away, is not begun, but by post-copy: "
     "from\n"
     "the switch until all of its memory has followed it needs both hosts, and waits\n"
     "('interrupted') while they do not reach each other. Its owner allows that by the "
     "tag\n"
     "moln:migration=post-copy; then a drain does so too.\n",
     migrate_options, 1, 1, WORD_INSTANCE, false, run_migrate},
    {"migrate ls", "[INSTANCE] [--all]", "list migrations", NULL, ls_options, 0, 1,
     WORD_INSTANCE, false, run_ls},
    {"migrate show", "MIGRATION", "one migration", NULL, NULL, 1, 1, WORD_NONE, false,
     run_show},
    {"migrate cancel", "MIGRATION", "give one up, before the switch", NULL, NULL, 1, 1,
     WORD_NONE, false, run_cancel},
    {"rebalance", "ZONE [--max N] [--dry-run]",
     "move instances from a zone's fullest hosts to its emptiest",
     "Until what is promised of the hosts differs little. Run it again for more.\n",
     rebalance_options, 1, 1, WORD_NONE, false, run_rebalance},
    {NULL},
};
