/* script.h - QMP commands, one after the other.
 *
 * Purpose:  the steps of a migration are a handful of commands each; the first that fails
 *           ends the script, unless it may.
 * Place:    above node/machine/qmp.h.
 * Owner:    the caller until script_run, which takes it; 'done' is called once, from the
 *           loop or from within, and the script is gone.
 * Threads:  the loop's. */
#pragma once
#include "node/machine/qmp.h"

struct script;

MUST_CHECK struct script *script_create(void);
/* 'args' is taken (NULL: none), so is 'fd' (-1: none). */
void script_add(struct script *script, const char *cmd, json_t *args, int fd);
/* The same of a command that may fail. */
void script_try(struct script *script, const char *cmd, json_t *args);

/* One that must be answered while the emulator's main loop waits for the guest's memory. */
void script_add_oob(struct script *script, const char *cmd, json_t *args);

/* 'result' is the last command's, borrowed; NULL and 'err' when one failed, or the
 * conversation was lost. */
typedef void script_done_fn(void *ctx, json_t *result, const struct err *err);
void script_run(struct script *script, struct qmp *qmp, script_done_fn *done,
                void *ctx);
