/* control.h - the controllers: they keep what is wanted true.
 *
 * Purpose:  starts the node server and the loops over instances, volumes and blob jobs;
 *           a change of a row wakes the pass of its object, a start looks at everything
 *           once.
 * Place:    control/; main/ creates one, beside the gateway.
 * Threads:  the loop's, but for the store's watch and where nodes.h says so. Time:
 *           passes are woken by changes; what only time changes is janitor.h's. */
#pragma once
#include "control/nodes.h"

struct control;

/* Everything in 'config' is borrowed until control_close has ended. */
MUST_CHECK struct control *control_create(const struct nodes_config *config,
                                          struct err *err);
/* Ends passes under way and every stream; 'closed' is called on the loop, which must
 * run until it is empty. The store must outlive it. */
void control_close(struct control *control, void (*closed)(void *ctx), void *ctx);
struct nodes *control_nodes(struct control *control);
