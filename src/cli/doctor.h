/* doctor.h - what this host lacks for being a cloud, and how to get it.
 *
 * Threads:  one; starts children for what only a try can tell. */
#pragma once
#include "cli/cli.h"

/* Prints one line a finding; true when nothing that is needed is missing. */
bool doctor_run(struct cli *cli);
