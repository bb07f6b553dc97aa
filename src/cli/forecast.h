/* forecast.h - what migrations would take, asked and printed: for moln migrate --forecast and
 * moln node drain --forecast.
 *
 * Place:    cli/, over api.h.
 * Threads:  the program's one. */
#pragma once
#include "cli/api.h"

/* 'in' is the input of ForecastMigrations. */
MUST_CHECK bool forecast_print(struct cli *cli, json_t *in, struct err *err);
/* "12.5 s", "3 min 5 s"; in the command's arena. */
const char *forecast_time(struct cli *cli, int64_t ms);
