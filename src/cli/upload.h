/* upload.h - a file sent to the API, with its progress on the terminal.
 *
 * Threads:  one; blocks for the length of the upload. */
#pragma once
#include "cli/cli.h"

/* Uploads 'file' as the tenant, or as the operator; '*out_url' is
 * moln-upload://blob-... */
MUST_CHECK bool upload_file(struct cli *cli, bool as_operator, const char *file,
                            const char **out_url, struct err *err);
