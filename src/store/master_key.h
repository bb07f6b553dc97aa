/* master_key.h - the file that holds the key of a cloud's secrets, and how it is changed.
 *
 * Purpose:  sealed columns open only with a key that is not in the database: 64 hex digits
 *           in a file of its own.
 * Change:   file and database cannot change in one step. So the new key lies in FILE.next,
 *           durably, before all secrets are sealed under it, in one transaction, and takes
 *           FILE's place after. Wherever that is cut short one of the two files opens the
 *           database, and the next call of master_key_change() ends it.
 * Place:    store/, for main/ and the command line.
 * Threads:  any; all of it blocks. */
#pragma once
#include "base/crypto.h"
#include "store/store.h"

/* ERR_CORRUPT when what is there is no key. */
MUST_CHECK bool master_key_read(const char *path, uint8_t out[SEAL_KEY_LEN],
                                struct err *err);
/* The same; where there is no file, with a fresh key in one of mode 0400. */
MUST_CHECK bool master_key_load(const char *path, const struct rng *rng,
                                uint8_t out[SEAL_KEY_LEN], struct err *err);
/* Whether a change was cut short: FILE may not be the database's key. */
bool master_key_unsettled(const char *path);
/* Keeps the key from being changed while '*out_fd' is open, so that a copy of file and
 * database fits together. ERR_BUSY while it is being changed, or was and not to the end. */
MUST_CHECK bool master_key_hold(const char *path, int *out_fd, struct err *err);

/* Asked with the store open under the old key, before anything is written. */
typedef bool master_key_may_fn(void *ctx, struct store *store, struct err *err);
/* Seals all secrets of a database that nobody serves under a fresh key, and puts that in
 * the file. 'config': the database's; its master_key does not count. 'may' may be NULL.
 * ERR_DENIED: neither file opens it. On any failure both files stay: call it again. */
MUST_CHECK bool master_key_change(const char *path, const struct store_config *config,
                                  master_key_may_fn *may, void *ctx, struct err *err);
