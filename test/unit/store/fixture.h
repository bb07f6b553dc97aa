/* fixture.h - a store of its own, and transactions in one line.
 *
 * On SQLite in a folder; with MOLN_TEST_POSTGRES, the URL of a server, in a database that
 * is made for the test and dropped after it. */
#pragma once
#include "base/file.h"
#include "store/store.h"
#include "test.h"
#include "test_rows.h"
#include <libpq-fe.h>
#include <sqlite3.h>

struct fixture {
    char dir[64];
    char url[256];
    uint8_t key[32];
    struct store *store;
    struct arena *arena;
};

static inline const char *
postgres_url(void)
{
    return getenv("MOLN_TEST_POSTGRES");
}

static inline void
postgres_run(const char *url, const char *sql)
{
    PGconn *pg = PQconnectdb(url);
    PGresult *result = PQexec(pg, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail_msg("%s: %s", sql, PQerrorMessage(pg));
    }
    PQclear(result);
    PQfinish(pg);
}

/* Behind the store's back. */
static inline void
fixture_sql(const char *url, const char *sql)
{
    sqlite3 *db;
    if (str_starts(url, "postgresql:")) {
        postgres_run(url, sql);
        return;
    }
    CHECK_EQ(sqlite3_open(url + strlen("sqlite:"), &db), SQLITE_OK);
    CHECK_EQ(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* A database with nothing in it. */
static inline void
fixture_database(struct fixture *f)
{
    static unsigned made;
    const char *server = postgres_url();
    char sql[80];
    if (!server) {
        (void)snprintf(f->url, sizeof f->url, "sqlite:%s/t.db", f->dir);
        return;
    }
    const char *rest = strchr(server, '?');
    (void)snprintf(sql, sizeof sql, "CREATE DATABASE t%d_%u", (int)getpid(), ++made);
    postgres_run(server, sql);
    (void)snprintf(f->url, sizeof f->url, "postgresql://moln@/%s%s",
                   strrchr(sql, ' ') + 1, rest);
}

/* What a process that was killed had sent, a server still does: waits until it has. */
static inline void
fixture_await_alone(const struct fixture *f)
{
    char sql[320];
    if (!postgres_url()) {
        return;
    }
    const char *name = strstr(f->url, "@/") + 2;
    (void)snprintf(sql, sizeof sql,
                   "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity"
                   " WHERE datname = '%.*s') LOOP PERFORM pg_sleep(0.01);"
                   " PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
                   (int)strcspn(name, "?"), name);
    postgres_run(postgres_url(), sql);
}

static inline bool
fixture_open(struct fixture *f, struct err *err)
{
    struct store_config config = {.url = f->url,
                                  .types = test_types,
                                  .type_count = TEST_TYPES,
                                  .master_key = f->key,
                                  .rng = &rng_system,
                                  .clock = &clock_system};
    f->store = store_open(&config, err);
    return f->store != NULL;
}

static inline void
fixture_init(struct fixture *f)
{
    struct err err;
    *f = (struct fixture){.dir = "/tmp/moln-store-XXXXXX"};
    CHECK(mkdtemp(f->dir) != NULL);
    fixture_database(f);
    memset(f->key, 7, sizeof f->key);
    f->arena = arena_create();
    CHECK_OK(fixture_open(f, &err), &err);
}

static inline void
fixture_reopen(struct fixture *f)
{
    struct err err;
    store_close(f->store);
    CHECK_OK(fixture_open(f, &err), &err);
}

static inline void
fixture_fini(struct fixture *f)
{
    struct err err;
    store_close(f->store);
    arena_destroy(f->arena);
    if (postgres_url()) {
        char sql[80];
        const char *name = strstr(f->url, "@/") + 2;
        (void)snprintf(sql, sizeof sql, "DROP DATABASE %.*s", (int)strcspn(name, "?"),
                       name);
        postgres_run(postgres_url(), sql);
    }
    CHECK_OK(dir_remove(f->dir, &err), &err);
}

/* One row operation as a transaction of its own. */
struct step {
    enum { STEP_GET, STEP_INSERT, STEP_PUT, STEP_DELETE, STEP_LIST } what;
    const struct row_type *type;
    const void *row;
    const struct row_query *query;
    const void *got;
    struct row_list list;
};

static inline bool
step_run(struct txn *txn, void *ctx, struct err *err)
{
    struct step *s = ctx;
    switch (s->what) {
    case STEP_GET:
        return row_get(txn, s->type, s->row, &s->got, err);
    case STEP_INSERT:
        return row_insert(txn, s->type, s->row, err);
    case STEP_PUT:
        return row_put(txn, s->type, s->row, err);
    case STEP_DELETE:
        return row_delete(txn, s->type, s->row, err);
    case STEP_LIST:
        return row_list(txn, s->type, s->query, &s->list, err);
    }
    return false;
}

static inline const void *
fixture_get(struct fixture *f, const struct row_type *type, const void *key)
{
    struct err err;
    struct step s = {.what = STEP_GET, .type = type, .row = key};
    CHECK_OK(store_read(f->store, f->arena, step_run, &s, &err), &err);
    return s.got;
}

static inline struct row_list
fixture_list(struct fixture *f, const struct row_type *type,
             const struct row_query *query)
{
    struct err err;
    struct step s = {.what = STEP_LIST, .type = type, .query = query};
    CHECK_OK(store_read(f->store, f->arena, step_run, &s, &err), &err);
    return s.list;
}

static inline bool
fixture_insert(struct fixture *f, const struct row_type *type, const void *row,
               struct err *err)
{
    struct step s = {.what = STEP_INSERT, .type = type, .row = row};
    return store_write(f->store, f->arena, step_run, &s, err);
}

static inline void
fixture_put(struct fixture *f, const struct row_type *type, const void *row)
{
    struct err err;
    struct step s = {.what = STEP_PUT, .type = type, .row = row};
    CHECK_OK(store_write(f->store, f->arena, step_run, &s, &err), &err);
}

static inline void
fixture_delete(struct fixture *f, const struct row_type *type, const void *key)
{
    struct err err;
    struct step s = {.what = STEP_DELETE, .type = type, .row = key};
    CHECK_OK(store_write(f->store, f->arena, step_run, &s, &err), &err);
}
