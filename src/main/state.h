/* state.h - molnd's state folder: made as root, used without privileges.
 *
 * Purpose:  makes STATE and what is in it with the right owners, opens the credential
 *           files for who started the cloud, then gives up root for good.
 * Place:    main/. Layout: see docs/operating.md. Owners: STATE belongs to root and is
 *           sticky, so that molnd can make files in it but not replace the agent's
 *           folder; STATE/control belongs to molnd's user.
 * Threads:  before there are any. */
#pragma once
#include "base/base.h"

struct rng;

struct state {
    char *dir;
    char *control;      /* STATE/control */
    int credentials_fd; /* STATE/credentials, 0600, of who started us; -1: not ours to
                           write. */
    int operator_fd;    /* STATE/operator */
};

/* 'user' may be NULL when not started as root. On return the process is that user. */
MUST_CHECK bool state_open(struct state *state, const char *dir, const char *user,
                           struct err *err);
void state_close(struct state *state);
/* "STATE/NAME"; malloc'ed. */
char *state_path(const struct state *state, const char *name);
/* Replaces what is in a file opened before root was given up. */
MUST_CHECK bool state_fill(int fd, const char *text, struct err *err);
/* What tells this control process from others on the same store: made at first start,
 * kept in STATE/control/id. In 'out', of 33 bytes at least. */
MUST_CHECK bool state_control_id(const struct state *state, const struct rng *rng,
                                 char *out, struct err *err);
