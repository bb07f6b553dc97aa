/* forward.h - a local port that stands for an instance's port.
 *
 * Threads:  one process a connection, so that each blocks only itself.
 * Failure:  a connection that the API refuses is closed, with a line on standard
 *           error. */
#pragma once
#include "cli/cli.h"

/* Listens on 127.0.0.1:'local' (0: any) until the program is stopped. */
MUST_CHECK bool forward_run(struct cli *cli, const char *id, int port, int local,
                            struct err *err);
