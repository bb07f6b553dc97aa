/* moln control ...: the control processes that serve this cloud. */
#include "cli/command.h"
#include "cli/listing.h"

static int64_t
moment(json_t *p, const char *name)
{
    return (int64_t)(json_number_value(json_object_get(p, name)) * (double)NS_PER_S);
}

/* "12 s": what is left of it; "over" when nobody renewed it; "-" where there can be no other
 * process to take the work over. */
static void
put_lease(struct grid *grid, int64_t until_ns, int64_t now_ns)
{
    int64_t left_s = (until_ns - now_ns) / NS_PER_S;
    if (until_ns == 0) {
        grid_put(grid, NULL);
    } else if (until_ns < now_ns) {
        grid_put(grid, "over");
    } else {
        grid_printf(grid, "%" PRId64 " s", left_s);
    }
}

static void
put_process(struct cli *cli, struct grid *grid, json_t *p)
{
    int64_t now_ns = clock_real(cli->clock);
    char up[32];
    AUTO(buf) struct buf loops = {0};
    size_t i;
    json_t *loop;
    json_array_foreach(json_object_get(p, "Loops"), i, loop)
    {
        buf_printf(&loops, "%s%s", i ? ", " : "", json_string_value(loop));
    }
    human_age(moment(p, "StartedAt"), now_ns, up);
    grid_put(grid, json_text(cli->arena, p, "ControlId"));
    grid_put(grid, json_text(cli->arena, p, "Address"));
    grid_put(grid, up);
    put_lease(grid, moment(p, "LeaseUntil"), now_ns);
    grid_printf(grid, "%" PRId64, json_int(p, "Nodes"));
    grid_put(grid, json_text(cli->arena, p, "Version"));
    grid_put(grid, loops.len ? buf_str(&loops) : "-");
}

static const struct listing processes = {
    (const char *const[]){"CONTROL", "ADDRESS", "UP", "LEASE", "NODES", "VERSION",
                          "LOOPS", NULL},
    put_process, NULL};

static bool
run_ls(struct cli *cli, const struct args *args UNUSED, struct err *err)
{
    return listing_all(cli, &processes, "ListControlProcesses", NULL,
                       "ControlProcesses", err);
}

const struct command control_commands[] = {
    {"control ls", "", "list control processes: where, since when, and what each does",
     "LEASE is how long a process keeps its work should it die now; NODES, the hosts "
     "whose\n"
     "stream it has; LOOPS, what only one of them does. The work on single instances, "
     "volumes\n"
     "and networks is divided among all.\n"
     "\n"
     "A process without --link has no address: with others beside it, nodes cannot "
     "come "
     "to it.\n",
     NULL, 0, 0, WORD_NONE, false, run_ls},
    {NULL},
};
