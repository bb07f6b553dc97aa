/* share.h - which of several control processes does what.
 *
 * Purpose:  work is named by keys, and a key belongs to the process for which a hash of
 *           both weighs most, so that one that comes or goes moves only its own share
 *           (docs/decisions/0008). Nodes' streams are shared out by the same weights, and
 *           evenly besides.
 * Place:    core/; pure.
 * Threads:  any. */
#pragma once
#include "base/base.h"

/* Whether 'id' weighs more than 'best' (NULL: nothing yet) for the key. */
bool share_outweighs(const char *id, const char *best, const char *key);

/* Work that is not of one object, with the key that says whose it is. */
struct share_loop {
    const char *name; /* For people. */
    const char *key;
};
extern const struct share_loop share_loops[]; /* Ended by a name that is NULL. */

/* How many streams a process has at most when all are evenly shared out. */
size_t share_limit(size_t members, size_t nodes);
/* Gives each node the process where its stream should be: the one that weighs most among
 * those that have room. 'nodes' in one order for all who ask: by id. 'out': a position in
 * 'members' for each. */
void share_streams(const char *const *members, size_t member_count,
                   const char *const *nodes, size_t node_count, size_t *out);
