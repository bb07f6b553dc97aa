/* backup.h - a cloud's rows and master key as one file, and back.
 *
 * File:     a tar archive (ustar), mode 0600: "moln-backup" (text: format version),
 *           "moln.db" (a consistent copy of the database) and "master.key". Any tar
 *           reads it.
 * Place:    the control plane's host; needs root or the cloud's own user.
 * Threads:  one; blocks. */
#pragma once
#include "cli/cli.h"

/* May run while molnd serves. 'file' must not exist yet. */
MUST_CHECK bool backup_save(struct cli *cli, const char *file, struct err *err);
/* Refused while molnd runs and, without 'force', where rows are already. */
MUST_CHECK bool backup_restore(struct cli *cli, const char *file, bool force,
                               struct err *err);
