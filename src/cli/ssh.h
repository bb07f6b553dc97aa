/* ssh.h - the ssh program, set up so that it reaches an instance and knows it.
 *
 * Needs:    OpenSSH's client. Its ProxyCommand is 'moln tunnel'; its known hosts are
 *           the keys on the instance's serial console, in a file of the instance's own
 *           under ~/.cache/moln/hosts.
 * Threads:  one. */
#pragma once
#include "cli/cli.h"

struct ssh_ask {
    const char *target; /* [USER@]INSTANCE */
    const char *user, *key_file;
    const char *const *command; /* Ended by NULL; empty: a shell. */
    int wait_s;                 /* For the guest to come up. */
};

/* Becomes ssh: returns only on failure. */
MUST_CHECK bool ssh_exec(struct cli *cli, const struct ssh_ask *ask, struct err *err);
