/* keys.h - the private halves of key pairs, on this computer.
 *
 * Files:    NAME.ID.pem, mode 0600, in STATE/keys where that can be written, else in
 *           ~/.config/moln/keys; read from both. The id keeps two accounts' pairs of
 *           one name apart. A NAME.pem that somebody put there is found too.
 * Threads:  one. */
#pragma once
#include "cli/cli.h"

/* Makes sure that the account has the pair 'name': asks the API to make it (ed25519),
 * and keeps its private half, when it is not there. */
MUST_CHECK bool keys_ensure(struct cli *cli, const char *name, struct err *err);
/* Path of the private half of pair 'name' (arena); NULL: not on this computer. */
MUST_CHECK bool keys_file(struct cli *cli, const char *name, const char **out,
                          struct err *err);
