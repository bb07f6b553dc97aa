/* cmd_run.h - 'moln run': its options and its function, for the table of commands.
 *
 * Also: the key pair that launches use unless told otherwise. */
#pragma once
#include "cli/command.h"

#define DEFAULT_KEY_NAME "moln"
#define DEFAULT_IMAGE "micro"
#define DEFAULT_TYPE "t3.micro"

extern const struct option run_options[];
command_fn run_run;

/* cmd_rebuild.c: 'moln rebuild'. */
extern const struct option rebuild_options[];
command_fn run_rebuild;
