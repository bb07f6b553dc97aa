/* instance.h - finding instances and waiting for them.
 *
 * Owner:    a json_t that comes out is the caller's.
 * Threads:  one.
 * Failure:  ERR_TIMEOUT when a state does not come in time. */
#pragma once
#include "cli/api.h"

/* The instance called 'name': an id (i-...) or the value of its Name tag, which must
 * then be one instance's only. */
MUST_CHECK bool instance_find(struct cli *cli, const char *name, json_t **out,
                              struct err *err);
/* The id of instance 'name' in the arena; asks the API only for a Name tag. */
MUST_CHECK bool instance_id(struct cli *cli, const char *name, const char **out,
                            struct err *err);
/* Waits until each of 'ids' is in 'state'. An instance that ends where it can no longer
 * come to 'state' is an error with its reason. */
MUST_CHECK bool instance_wait(struct cli *cli, const char *const *ids, size_t count,
                              const char *state, int seconds, struct err *err);
/* The whole serial console, decoded; "" when there is none yet. In the arena. */
MUST_CHECK bool instance_console(struct cli *cli, const char *id, const char **out,
                                 struct err *err);
