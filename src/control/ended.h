/* ended.h - rows of what has ended, once nobody can see them any more.
 *
 * Purpose:  peerings, dedicated hosts, replacements of root volumes, imports and
 *           deregistered images stay for as long as AWS shows them; then they go, so that
 *           who makes and deletes things for ever does not fill the store.
 * Place:    control/, for the janitor.
 * Threads:  any; in the caller's transaction. */
#pragma once
#include "store/store.h"

/* Deletes at most 'most' of them, with their tags. '*out_more': there may be others. */
MUST_CHECK bool ended_forget(struct txn *txn, int64_t now_ns, size_t most,
                             bool *out_more, struct err *err);
