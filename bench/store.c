/* store.c - the store's reads and writes beside bare SQLite's and bare libpq's.
 *
 * Usage: bench-store DIR [ROWS]. Times are per call, of a warm process, one thread but
 * where said otherwise; SQLite's file lies in DIR. With MOLN_TEST_POSTGRES, the URL of a
 * server, the same on PostgreSQL after it: test/postgres.py --durable bench-store DIR. */
#include "base/file.h"
#include "store/rows.h"
#include <libpq-fe.h>
#include <malloc.h>
#include <pthread.h>
#include <sqlite3.h>

#define ACCOUNT "111122223333"
#define GETS 200000
#define LISTS 2000
#define WRITES 2000
#define WRITERS 32
#define READERS 8

static int rows = 1000;

static int64_t
now(void)
{
    return clock_mono(&clock_system);
}

static void
die(const struct err *err)
{
    (void)fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

static void
report(const char *what, int64_t ns, int64_t calls)
{
    printf("%-58s %10.2f us %12.0f /s\n", what, (double)ns / (double)calls / 1e3,
           (double)calls * 1e9 / (double)ns);
}

static const char *eni_ids[] = {"eni-0123456789abcdef0"};
static struct row_instance_group groups[] = {{"sg-0123456789abcdef0", "default"}};

static struct row_instance
instance(int i, char id[24])
{
    (void)snprintf(id, 24, "i-%017x", (unsigned)i * 2654435761u);
    return (struct row_instance){
        .account = ACCOUNT,
        .id = id,
        .region = "us-east-1",
        .zone = "us-east-1a",
        .reservation_id = "r-0123456789abcdef0",
        .launched_at = 1,
        .created_at = 1,
        .image_id = "ami-0123456789abcdef0",
        .type = "t3.micro",
        .vcpus = 2,
        .memory_bytes = (int64_t)GIB,
        .want_state = "running",
        .generation = i,
        .node_id = "node-0123456789abcdef0",
        .subnet_id = "subnet-0123456789abcdef0",
        .vpc_id = "vpc-0123456789abcdef0",
        .eni_ids = {eni_ids, 1},
        .root_volume_id = "vol-0123456789abcdef0",
        .root_device = "/dev/xvda",
        .shutdown_behavior = "stop",
        .http_tokens = "required",
        .http_endpoint = "enabled",
        .firmware = "bios",
        .uuid = "ec2a0000-0000-0000-0000-000000000000",
        .groups = {groups, 1},
        .private_ip = "172.31.0.10",
        .private_dns = "ip-172-31-0-10.ec2.internal",
    };
}

static bool
fill(struct txn *txn, void *ctx, struct err *err)
{
    for (int i = 0; i < rows; i++) {
        char id[24];
        struct row_instance r = instance(i, id);
        if (!row_put(txn, &row_instance_type, &r, err)) {
            return false;
        }
    }
    return true;
}

static bool
get_many(struct txn *txn, void *ctx, struct err *err)
{
    for (int i = 0; i < GETS; i++) {
        char id[24];
        const void *out;
        struct row_instance key = instance(i % rows, id);
        if (!row_get(txn, &row_instance_type, &key, &out, err) || !out) {
            return false;
        }
    }
    return true;
}

static bool
get_one(struct txn *txn, void *ctx, struct err *err)
{
    const void *out;
    return row_get(txn, &row_instance_type, ctx, &out, err);
}

static bool
list_many(struct txn *txn, void *ctx, struct err *err)
{
    struct row_instance key = {.account = ACCOUNT, .region = "us-east-1"};
    struct row_query query = {.index = "by_region", .prefix = &key, .prefix_fields = 2};
    for (int i = 0; i < LISTS; i++) {
        struct row_list list;
        if (!row_list(txn, &row_instance_type, &query, &list, err)) {
            return false;
        }
    }
    return true;
}

static bool
put_one(struct txn *txn, void *ctx, struct err *err)
{
    char id[24];
    struct row_instance r = instance(*(int *)ctx % rows, id);
    r.generation++;
    return row_put(txn, &row_instance_type, &r, err);
}

struct reader {
    struct store *store;
    int count;
};

static void *
reader_main(void *ctx)
{
    const struct reader *r = ctx;
    struct err err;
    char id[24];
    struct row_instance key = instance(1, id);
    for (int i = 0; i < r->count; i++) {
        AUTO(arena) struct arena *own = arena_create();
        if (!store_read(r->store, own, get_one, &key, &err)) {
            die(&err);
        }
    }
    return NULL;
}

/* Readers that wait at the same time share one question to a shared database. */
static void
bench_readers(struct store *store, int count)
{
    pthread_t threads[READERS];
    struct reader reader = {store, count};
    int64_t t = now();
    for (int i = 0; i < READERS; i++) {
        if (pthread_create(&threads[i], NULL, reader_main, &reader) != 0) {
            exit(1);
        }
    }
    for (int i = 0; i < READERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    report("the same, 8 threads", now() - t, (int64_t)READERS * count);
}

static void
bench_reads(struct store *store)
{
    struct err err;
    AUTO(arena) struct arena *arena = arena_create();
    int64_t t = now();
    if (!store_read(store, arena, get_many, NULL, &err)) {
        die(&err);
    }
    report("row_get", now() - t, GETS);

    char id[24];
    struct row_instance key = instance(1, id);
    const int reads = store_shared(store) ? GETS / 20 : GETS;
    t = now();
    for (int i = 0; i < reads; i++) {
        AUTO(arena) struct arena *own = arena_create();
        if (!store_read(store, own, get_one, &key, &err)) {
            die(&err);
        }
    }
    report("store_read with one row_get and an arena of its own", now() - t, reads);
    bench_readers(store, reads / 4);

    t = now();
    if (!store_read(store, arena, list_many, NULL, &err)) {
        die(&err);
    }
    report("row_list of all rows by a secondary index", now() - t, LISTS);
}

struct lane {
    struct store *store;
    int first, count;
    int64_t slowest_ns;
};

static void *
lane_main(void *ctx)
{
    struct lane *lane = ctx;
    struct err err;
    for (int i = 0; i < lane->count; i++) {
        AUTO(arena) struct arena *arena = arena_create();
        int n = lane->first + i;
        int64_t t = now();
        if (!store_write(lane->store, arena, put_one, &n, &err)) {
            die(&err);
        }
        lane->slowest_ns = MAX(lane->slowest_ns, now() - t);
    }
    return NULL;
}

/* Many threads; with two stores, half of them each. */
static void
bench_writers(const char *what, struct store *one, struct store *other)
{
    pthread_t threads[WRITERS];
    struct lane lanes[WRITERS];
    int64_t t = now();
    for (int i = 0; i < WRITERS; i++) {
        lanes[i] = (struct lane){
            .store = i % 2 ? other : one, .first = i * WRITES, .count = WRITES / 4};
        if (pthread_create(&threads[i], NULL, lane_main, &lanes[i]) != 0) {
            exit(1);
        }
    }
    int64_t slowest = 0;
    for (int i = 0; i < WRITERS; i++) {
        (void)pthread_join(threads[i], NULL);
        slowest = MAX(slowest, lanes[i].slowest_ns);
    }
    report(what, now() - t, WRITERS * (WRITES / 4));
    printf("  its slowest took %.1f ms\n", (double)slowest / 1e6);
}

static void
bench_writes(struct store *store)
{
    struct lane one = {.store = store, .count = WRITES};
    int64_t t = now();
    (void)lane_main(&one);
    report("store_write of one row, durable, one thread", now() - t, WRITES);
    bench_writers("store_write of one row, durable, 32 threads", store, store);
}

/* ---- the peer -------------------------------------------------------------------- */

static int
step_all(sqlite3_stmt *stmt)
{
    int n = 0;
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            (void)sqlite3_column_text(stmt, i); /* What decoding must at least touch. */
        }
        n++;
    }
    sqlite3_reset(stmt);
    return n;
}

static void
bench_sqlite(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *get, *list, *put;
    if (sqlite3_open(path, &db) != SQLITE_OK ||
        sqlite3_exec(db, "CREATE INDEX peer ON instance(account, region, id)", 0, 0,
                     0) ||
        sqlite3_exec(db, "PRAGMA synchronous=FULL", 0, 0, 0) ||
        sqlite3_prepare_v2(db, "SELECT * FROM instance WHERE account = ?1 AND id = ?2",
                           -1, &get, NULL) ||
        sqlite3_prepare_v2(db,
                           "SELECT * FROM instance WHERE account = ?1 AND region = ?2 "
                           "ORDER BY account, region, id",
                           -1, &list, NULL) ||
        sqlite3_prepare_v2(db,
                           "UPDATE instance SET generation = generation + 1 WHERE "
                           "account = ?1 AND id = ?2",
                           -1, &put, NULL)) {
        (void)fprintf(stderr, "%s\n", sqlite3_errmsg(db));
        exit(1);
    }
    int64_t t = now();
    for (int i = 0; i < GETS / 10; i++) {
        char id[24];
        (void)instance(i % rows, id);
        sqlite3_bind_text(get, 1, ACCOUNT, -1, SQLITE_STATIC);
        sqlite3_bind_text(get, 2, id, -1, SQLITE_STATIC);
        (void)step_all(get);
    }
    report("sqlite3: prepared get, columns as text", now() - t, GETS / 10);
    sqlite3_bind_text(list, 1, ACCOUNT, -1, SQLITE_STATIC);
    sqlite3_bind_text(list, 2, "us-east-1", -1, SQLITE_STATIC);
    t = now();
    for (int i = 0; i < LISTS / 20; i++) {
        (void)step_all(list);
    }
    report("sqlite3: prepared list of all rows by an index", now() - t, LISTS / 20);
    t = now();
    for (int i = 0; i < WRITES; i++) {
        char id[24];
        (void)instance(i % rows, id);
        sqlite3_bind_text(put, 1, ACCOUNT, -1, SQLITE_STATIC);
        sqlite3_bind_text(put, 2, id, -1, SQLITE_STATIC);
        (void)step_all(put);
    }
    report("sqlite3: prepared update of one row, durable", now() - t, WRITES);
    sqlite3_finalize(get);
    sqlite3_finalize(list);
    sqlite3_finalize(put);
    sqlite3_close(db);
}

static PGresult *
pg_run(PGconn *pg, const char *name, int count, const char *const *values)
{
    PGresult *result = PQexecPrepared(pg, name, count, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK &&
        PQresultStatus(result) != PGRES_TUPLES_OK) {
        (void)fprintf(stderr, "%s\n", PQerrorMessage(pg));
        exit(1);
    }
    return result;
}

static void
bench_libpq(const char *url)
{
    PGconn *pg = PQconnectdb(url);
    PQclear(PQprepare(
        pg, "get", "SELECT * FROM instance WHERE account = $1 AND id = $2", 0, NULL));
    PQclear(PQprepare(pg, "put",
                      "UPDATE instance SET generation = generation + 1 WHERE "
                      "account = $1 AND id = $2",
                      0, NULL));
    static const char *const what[] = {"get", "put"};
    static const char *const said[] = {"libpq: prepared get, columns as text",
                                       "libpq: prepared update of one row, durable"};
    for (int w = 0; w < 2; w++) {
        int64_t t = now();
        for (int i = 0; i < WRITES; i++) {
            char id[24];
            (void)instance(i % rows, id);
            PQclear(pg_run(pg, what[w], 2, (const char *const[]){ACCOUNT, id}));
        }
        report(said[w], now() - t, WRITES);
    }
    PQfinish(pg);
}

/* Fills a database, and measures what a process that opens it finds. */
static void
bench_store(const char *url)
{
    struct err err;
    const uint8_t key[32] = {1};
    struct store_config config = {.url = url,
                                  .types = row_types,
                                  .type_count = ROW_TYPES,
                                  .master_key = key,
                                  .rng = &rng_system,
                                  .clock = &clock_system};
    struct store *store = store_open(&config, &err);
    if (!store) {
        die(&err);
    }
    struct arena *arena = arena_create();
    if (!store_write(store, arena, fill, NULL, &err)) {
        die(&err);
    }
    arena_destroy(arena);
    store_close(store);
    (void)malloc_trim(0);
    size_t before = mallinfo2().uordblks;
    store = store_open(&config, &err);
    if (!store) {
        die(&err);
    }
    printf("%d instances: %.0f bytes of memory each\n", rows,
           (double)(mallinfo2().uordblks - before) / rows);
    bench_reads(store);
    bench_writes(store);
    if (store_shared(store)) {
        struct store *other = store_open(&config, &err);
        if (!other) {
            die(&err);
        }
        bench_writers("the same, two processes' stores, 16 threads each", store, other);
        store_close(other);
    }
    store_close(store);
}

/* A database of its own on the server at 'url'. */
static void
bench_postgres(const char *url)
{
    PGconn *pg = PQconnectdb(url);
    PQclear(PQexec(pg, "CREATE DATABASE bench"));
    PQfinish(pg);
    const char *name = strstr(url, "/postgres?");
    if (!name) {
        (void)fprintf(stderr, "not a URL of test/postgres.py: %s\n", url);
        exit(1);
    }
    AUTO(free)
    char *own = xasprintf("%.*s/bench%s", (int)(name - url), url, strchr(name, '?'));
    printf("PostgreSQL:\n");
    bench_store(own);
    bench_libpq(own);
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench-store DIR [ROWS]\n");
        return 2;
    }
    rows = argc > 2 ? atoi(argv[2]) : rows;
    AUTO(free) char *path = xasprintf("%s/bench.db", argv[1]);
    AUTO(free) char *url = xasprintf("sqlite:%s", path);
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        AUTO(free) char *old = xasprintf("%s%s", path, ends[i]);
        (void)unlink(old);
    }
    bench_store(url);
    bench_sqlite(path);
    if (getenv("MOLN_TEST_POSTGRES")) {
        bench_postgres(getenv("MOLN_TEST_POSTGRES"));
    }
    return 0;
}
