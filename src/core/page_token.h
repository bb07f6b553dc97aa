/* page_token.h - NextToken: where a listing goes on.
 *
 * Purpose:  a token names the last key handed out, so it stays good while rows come and
 *           go. It carries a keyed checksum over itself and the query ('bind': account,
 *           region, operation, filters), so a token that was made up, cut or moved to
 *           another query is refused.
 * Place:    core/; pure.
 * Threads:  any. */
#pragma once
#include "base/arena.h"

/* Text that is safe in URLs and XML. */
const char *page_token_make(struct arena *arena, const char *bind,
                            const char *last_key);
/* '*out_key' in 'arena'. ERR_NEXT_TOKEN_INVALID for anything that we did not make for
 * this very query. */
MUST_CHECK bool page_token_read(struct arena *arena, const char *bind,
                                const char *token, const char **out_key,
                                struct err *err);
