/* client_tokens.h - how long a request is known that must not be done twice.
 *
 * Purpose:  AWS promises a day. What a token made may be gone after seconds, so that one
 *           account could fill the store with tokens for nothing: of many only the newest
 *           hold so long, and the others for longer than any client tries again.
 * Place:    control/, for the janitor.
 * Threads:  any; in the caller's transaction. */
#pragma once
#include "store/store.h"

#define CLIENT_TOKENS_KEPT_NS (48 * 3600 * NS_PER_S)
#define CLIENT_TOKENS_MAX ((size_t)20000) /* Of one account, that hold for that long. */
#define CLIENT_TOKENS_LEAST_NS (600 * NS_PER_S) /* Each holds for this. */

/* Deletes at most 'most' of those that are past their time. '*out_more': there may be
 * others. */
MUST_CHECK bool client_tokens_forget(struct txn *txn, int64_t now_ns, size_t most,
                                     bool *out_more, struct err *err);
