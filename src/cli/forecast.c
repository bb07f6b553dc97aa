/* forecast.c - see forecast.h. */
#include "cli/forecast.h"

#include "cli/grid.h"

#define MINUTE_MS 60000
#define HOUR_MS (60 * MINUTE_MS)

const char *
forecast_time(struct cli *cli, int64_t ms)
{
    if (ms >= HOUR_MS) {
        return arena_printf(cli->arena, "%" PRId64 " h %" PRId64 " min", ms / HOUR_MS,
                            ms % HOUR_MS / MINUTE_MS);
    }
    return ms >= MINUTE_MS ? arena_printf(cli->arena, "%" PRId64 " min %" PRId64 " s",
                                          ms / MINUTE_MS, ms % MINUTE_MS / 1000)
                           : arena_printf(cli->arena, "%.1f s", (double)ms / 1000);
}

static const char *
ends(struct cli *cli, json_t *f)
{
    const char *how = json_text(cli->arena, f, "Convergence");
    if (str_eq(how, "never")) {
        return "never";
    }
    if (str_eq(how, "follows")) {
        return "by post-copy";
    }
    return str_eq(how, "slowed") ? arena_printf(cli->arena, "slowed by %" PRId64 " %%",
                                                json_int(f, "SlowedPercent"))
                                 : "yes";
}

static void
put_forecast(struct cli *cli, struct grid *grid, json_t *f)
{
    bool known = json_object_get(f, "Convergence") != NULL;
    grid_put(grid, json_text(cli->arena, f, "InstanceId"));
    grid_put(grid, json_text(cli->arena, f, "FromNode"));
    grid_put(grid, known ? json_text(cli->arena, f, "ToNode") : "nowhere");
    grid_put(grid, known ? forecast_time(cli, json_int(f, "TotalMilliseconds")) : "");
    if (known) {
        grid_printf(grid, "%" PRId64 " ms", json_int(f, "DowntimeMilliseconds"));
    } else {
        grid_put(grid, "");
    }
    grid_put(grid, known ? ends(cli, f) : "");
    grid_put(grid, json_text(cli->arena, f, known ? "Basis" : "Refusal"));
}

bool
forecast_print(struct cli *cli, json_t *in, struct err *err)
{
    static const char *const titles[] = {"INSTANCE",     "FROM", "TO",    "TAKES",
                                         "STANDS STILL", "ENDS", "BASIS", NULL};
    AUTO(json) json_t *answer = NULL;
    AUTO(grid) struct grid grid;
    grid_init(&grid, titles);
    if (!api_operator(cli, "ForecastMigrations", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    size_t i, go = 0;
    json_t *f, *all = json_object_get(answer, "Forecasts");
    json_array_foreach(all, i, f)
    {
        put_forecast(cli, &grid, f);
        go += json_object_get(f, "Refusal") == NULL;
    }
    if (json_array_size(all) == 0) {
        (void)fprintf(stderr, "Nothing runs there.\n");
        return true;
    }
    grid_print(&grid, stdout);
    json_array_foreach(all, i, f)
    {
        if (json_object_get(f, "Refusal") && json_object_get(f, "Convergence")) {
            printf("%s\n", json_text(cli->arena, f, "Refusal"));
        }
    }
    if (json_array_size(all) > 1) {
        printf("%zu of %zu would go, in about %s\n", go, json_array_size(all),
               forecast_time(cli, json_int(answer, "TotalMilliseconds")));
    }
    return true;
}
