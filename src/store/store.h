/* store.h - rows and transactions; the only door to the database.
 *
 * Purpose:  durable rows described by store/rows.schema, on SQLite (one control process)
 *           or PostgreSQL (many). Every transaction is serializable and is run again on
 *           conflict, or when one that it stood on could not be committed, so a
 *           transaction function has no effect outside its txn.
 * Place:    above base/. Knows tables and keys, nothing of what rows mean.
 * Owner:    main/ opens one; everything else borrows it.
 * Threads:  any thread may read or write; a txn belongs to the thread that runs it.
 *           Functions that the store calls (done, watch, transactions) must call neither
 *           store_write nor store_read, which could wait for themselves;
 *           store_write_async they may.
 * Failure:  ERR_CONFLICT is retried inside; ERR_GONE (PostgreSQL is away, after a new
 *           connection was tried), ERR_NO_SPACE and ERR_SYSTEM come out.
 *
 * Rows handed out live as long as the txn's arena and are never changed in place: copy,
 * change the copy, put it back. Tables lie in memory, as one committed state for each
 * transaction; on PostgreSQL it is compared with the database as each call begins, so that
 * whatever was committed by then, by any process, is seen. Tables marked cold are read
 * from the database, in the state in which the transaction first touches it.
 *
 * Text that is part of a key or an index is never "": empty comes back as NULL. */
#pragma once
#include "base/desc.h"
#include "base/world.h"

struct store;
struct txn;
struct sql_driver;

struct row_index {
    const char *name;
    const uint16_t *fields; /* Positions in desc->fields, ended by UINT16_MAX. */
    bool unique;
};

/* A table: generated from rows.schema as row_NAME_type. */
struct row_type {
    const char *name; /* Table name. */
    const struct desc *desc;
    const uint16_t
        *key; /* Positions of the primary key's fields, ended by UINT16_MAX. */
    const struct row_index *indexes;
    uint16_t index_count;
    uint16_t id; /* Small, dense, for arrays over tables. */
    bool cold;   /* Large and seldom read: not kept in memory. */
};

struct store_config {
    const char *url; /* "sqlite:PATH" or "postgresql://...". */
    const struct row_type *const *types;
    size_t type_count;
    const uint8_t *master_key; /* SEAL_KEY_LEN bytes; DESC_SEALED columns need it. */
    const struct rng *rng;
    const struct clock *clock;
    /* NULL: the store writes, and follows others, on threads of its own. Else it has none:
     * 'wake' is called when a transaction waits, and who runs the world calls store_turn
     * when it likes, and store_follow when others have written. */
    void (*wake)(void *ctx);
    void *wake_ctx;
    const struct sql_driver *driver; /* NULL: by the URL. A test's own, that fails. */
};

/* Opens, creates missing tables and columns, and runs migrations forward. */
MUST_CHECK struct store *store_open(const struct store_config *config, struct err *err);
/* After all that waits; without a thread, what waits is dropped, as by a power cut. */
void store_close(struct store *store);
AUTO_DEFINE(store, struct store *, store_close)

/* A transaction's body. Returning false rolls back, and 'err' reaches the caller. May run
 * more than once: all its effects are in 'txn' and in outputs it sets anew each time. */
typedef bool txn_fn(struct txn *txn, void *ctx, struct err *err);

/* Runs 'fn' over one consistent committed state; writes in it fail. */
MUST_CHECK bool store_read(struct store *store, struct arena *arena, txn_fn *fn,
                           void *ctx, struct err *err);
/* The same, given up once 'fn' was handed more than 'rows' rows: '*out_spent', and it fails.
 * For who must not be kept: it is run again where it may take its time. */
MUST_CHECK bool store_read_brief(struct store *store, struct arena *arena, txn_fn *fn,
                                 void *ctx, size_t rows, bool *out_spent,
                                 struct err *err);
/* The same over what this process knows: all that it committed, and all that its watchers
 * were told. On a shared database it asks nobody, so what another has just committed may be
 * missing: for who is woken by watchers, and will be again. */
MUST_CHECK bool store_read_known(struct store *store, struct arena *arena, txn_fn *fn,
                                 void *ctx, struct err *err);
/* Runs 'fn' and returns when its changes are durable. Transactions that wait at the same
 * time share one sync of the disk. */
MUST_CHECK bool store_write(struct store *store, struct arena *arena, txn_fn *fn,
                            void *ctx, struct err *err);
/* The same without waiting: 'done' is called on a thread of the store's. 'arena' must
 * live until then. */
typedef void store_done_fn(void *ctx,
                           const struct err *err); /* err->code ERR_NONE: ok. */
void store_write_async(struct store *store, struct arena *arena, txn_fn *fn,
                       store_done_fn *done, void *ctx);

/* Without a thread: commits what waits together, at most 'limit' transactions (0: all).
 * Their 'done' and the watchers are called before it returns: whether more waits. */
bool store_turn(struct store *store, size_t limit);

/* Without a thread, on a shared database: takes in what others have committed; their
 * changes are told to the watchers before it returns. */
MUST_CHECK bool store_follow(struct store *store, struct err *err);

/* ---- inside a transaction -------------------------------------------------------------- */

struct arena *txn_arena(struct txn *txn);
bool txn_writable(const struct txn *txn);

/* The row with the key fields of 'key' (a struct of the row type); '*out' is NULL when
 * there is none. */
MUST_CHECK bool row_get(struct txn *txn, const struct row_type *type, const void *key,
                        const void **out, struct err *err);
/* ERR_EXISTS when the key, or a unique index's, is taken. */
MUST_CHECK bool row_insert(struct txn *txn, const struct row_type *type,
                           const void *row, struct err *err);
/* Inserts or replaces. */
MUST_CHECK bool row_put(struct txn *txn, const struct row_type *type, const void *row,
                        struct err *err);
/* Deleting what is not there is success. */
MUST_CHECK bool row_delete(struct txn *txn, const struct row_type *type,
                           const void *key, struct err *err);

/* A number for the content of a row that this transaction handed out (not of a copy): the
 * same number, in any transaction of this process, means the same row with the same
 * content. 0: not known, since the row is not served from memory. */
uint64_t row_stamp(struct txn *txn, const struct row_type *type, const void *row);

struct row_list {
    const void **rows; /* In key order of the index used. */
    size_t count;
};

struct row_query {
    const char *index;  /* NULL: the primary key. */
    const void *prefix; /* A row struct; its first 'prefix_fields' index fields bind. */
    unsigned prefix_fields;
    const void
        *after;   /* NULL, or a row struct: only rows after it in this index's order
                        * (index fields, then primary key). */
    size_t limit; /* 0: no limit. */
};
MUST_CHECK bool row_list(struct txn *txn, const struct row_type *type,
                         const struct row_query *query, struct row_list *out,
                         struct err *err);

/* A number that rises by one with each call, durable with the txn: 'name' is its counter. */
MUST_CHECK bool txn_next(struct txn *txn, const char *name, int64_t *out,
                         struct err *err);

/* ---- changes --------------------------------------------------------------------------- */

/* Called after each commit, on a thread of the store's, for each row changed (by key
 * fields); must not block: post to your own loop. 'key' is borrowed for the call. On
 * PostgreSQL also for rows that lie in memory and that other processes changed: none is
 * missed, and some may be told twice. */
typedef void store_watch_fn(void *ctx, const struct row_type *type, const void *key);
void store_watch(struct store *store, store_watch_fn *fn, void *ctx);
/* When this returns, 'fn' is not being called and will not be: not from within a watch. */
void store_unwatch(struct store *store, store_watch_fn *fn, void *ctx);

/* Whether other processes may have it open too. */
bool store_shared(const struct store *store);

/* What this process has written since the store was opened. */
struct store_counts {
    uint64_t commits, transactions, rows;
};
struct store_counts store_counts(struct store *store); /* Any thread. */

/* ---- upkeep ---------------------------------------------------------------------------- */

/* A consistent copy of the SQLite database file 'from', which a store may have open, as one
 * file at 'path'. (Of PostgreSQL, pg_dump makes one.) */
MUST_CHECK bool store_copy(const char *from, const char *path, struct err *err);
/* Seals every secret anew under 'new_key'. */
MUST_CHECK bool store_rekey(struct store *store, const uint8_t new_key[32],
                            struct err *err);
