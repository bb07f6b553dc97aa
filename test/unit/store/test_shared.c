/* test_shared.c - several processes' stores on one PostgreSQL database: what one commits
 * the others see at once, nothing is done twice or by halves, whatever breaks. Each
 * "process" here is a store of its own: they share nothing but the database. */
#include "fixture.h"
#include "store/inside.h"
#include "store/transfer.h"
#include <pthread.h>
#include <stdatomic.h>

#define ROUNDS 60

struct pair {
    struct fixture a, b;
};

static void
pair_init(struct pair *p)
{
    struct err err;
    fixture_init(&p->a);
    p->b = p->a;
    p->b.arena = arena_create();
    CHECK_OK(fixture_open(&p->b, &err), &err);
}

static void
pair_fini(struct pair *p)
{
    store_close(p->b.store);
    arena_destroy(p->b.arena);
    fixture_fini(&p->a);
}

/* Ends every connection to the test's database, as an administrator would. */
static void
cut_connections(const struct fixture *f)
{
    char sql[200];
    const char *name = strstr(f->url, "@/") + 2;
    (void)snprintf(sql, sizeof sql,
                   "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                   " WHERE datname = '%.*s'",
                   (int)strcspn(name, "?"), name);
    postgres_run(postgres_url(), sql);
}

static void
allow_connections(const struct fixture *f, bool allow)
{
    char sql[200];
    const char *name = strstr(f->url, "@/") + 2;
    (void)snprintf(sql, sizeof sql, "ALTER DATABASE %.*s ALLOW_CONNECTIONS %s",
                   (int)strcspn(name, "?"), name, allow ? "true" : "false");
    postgres_run(postgres_url(), sql);
}

/* Puts 'thing' when the database may be away for a moment: again, until it is back. */
static void
put_at_last(struct fixture *f, const struct test_thing *thing)
{
    struct step put = {.what = STEP_PUT, .type = &test_thing_type, .row = thing};
    struct err err;
    while (!store_write(f->store, f->arena, step_run, &put, &err)) {
        CHECK_EQ(err.code, ERR_GONE);
        usleep(10000);
    }
}

TEST(shared_store_sees_what_another_committed)
{
    struct pair p;
    struct err err;
    pair_init(&p);
    struct test_thing t = {.account = "1", .id = "x", .name = "n", .secret = "s"};
    struct test_entry e = {.day = "d", .id = 1, .text = "cold"};
    for (int i = 0; i < ROUNDS; i++) {
        struct fixture *from = i % 2 ? &p.a : &p.b, *to = i % 2 ? &p.b : &p.a;
        t.size = i;
        fixture_put(from, &test_thing_type, &t);
        const struct test_thing *seen = fixture_get(to, &test_thing_type, &t);
        CHECK_EQ(seen->size, i);
        CHECK_STR(seen->secret, "s");
    }
    fixture_put(&p.a, &test_entry_type, &e);
    CHECK(fixture_get(&p.b, &test_entry_type, &e) != NULL);
    struct test_thing rival = {.account = "1", .id = "y", .name = "n"};
    CHECK(!fixture_insert(&p.b, &test_thing_type, &rival, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    fixture_delete(&p.b, &test_thing_type, &t);
    CHECK_NULL(fixture_get(&p.a, &test_thing_type, &t));
    CHECK_OK(fixture_insert(&p.a, &test_thing_type, &rival, &err), &err);
    pair_fini(&p);
}

struct told {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int things;
    char last[32];
};

static void
tell(void *ctx, const struct row_type *type, const void *key)
{
    struct told *told = ctx;
    if (type == &test_thing_type) {
        pthread_mutex_lock(&told->lock);
        told->things++;
        (void)snprintf(told->last, sizeof told->last, "%s",
                       ((const struct test_thing *)key)->id);
        pthread_cond_signal(&told->more);
        pthread_mutex_unlock(&told->lock);
    }
}

static void
await_told(struct told *told, const char *id)
{
    pthread_mutex_lock(&told->lock);
    while (strcmp(told->last, id) != 0) {
        pthread_cond_wait(&told->more, &told->lock);
    }
    pthread_mutex_unlock(&told->lock);
}

static bool
count_up(struct txn *txn, void *ctx UNUSED, struct err *err)
{
    struct test_thing sum = {.account = "all", .id = "sum"};
    const void *found;
    if (!row_get(txn, &test_thing_type, &sum, &found, err)) {
        return false;
    }
    sum.size = found ? ((const struct test_thing *)found)->size + 1 : 1;
    return row_put(txn, &test_thing_type, &sum, err);
}

/* One that has had the database for itself runs ahead, and the other comes in between. */
TEST(shared_store_runs_again_what_ran_ahead_of_another)
{
    struct pair p;
    struct err err;
    pair_init(&p);
    for (int i = 0; i < ROUNDS; i++) {
        struct store *const order[] = {p.a.store, p.a.store, p.a.store, p.b.store};
        for (size_t k = 0; k < ARRAY_LEN(order); k++) {
            AUTO(arena) struct arena *arena = arena_create();
            CHECK_OK(store_write(order[k], arena, count_up, NULL, &err), &err);
        }
    }
    const struct test_thing *sum = fixture_get(
        &p.a, &test_thing_type, &(struct test_thing){.account = "all", .id = "sum"});
    CHECK_EQ(sum->size, 4 * ROUNDS);
    pair_fini(&p);
}

/* What loses its bet fails at its first statement, and the server skips the rest of what was
 * sent: to it, none of that was prepared. */
TEST(postgres_prepares_anew_what_an_error_skipped)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    const struct sql_driver *pg = &sql_postgres;
    struct sql_conn *c = pg->open(f.url + strlen(pg->scheme), &err);
    CHECK_OK(c != NULL, &err);
    struct sql_stmt *stmt = pg->prepare(c, "SELECT $1::bigint", &err);
    struct sql_value one = sql_int(1);
    CHECK_OK(pg->post(c, pg->begin_write, &err) && pg->post(c, "SELECT 1/0", &err) &&
                 pg->send(stmt, &one, 1, &err),
             &err);
    CHECK(!pg->exec(c, "COMMIT", &err));
    CHECK_EQ(err.code, ERR_CONFLICT);
    CHECK_OK(pg->exec(c, "ROLLBACK", &err), &err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(pg->post(c, pg->begin_write, &err) && pg->send(stmt, &one, 1, &err) &&
                     pg->exec(c, "COMMIT", &err),
                 &err);
    }
    pg->finish(stmt);
    pg->close(c);
    fixture_fini(&f);
}

/* Unasked: the watcher does nothing but wait. */
TEST(shared_store_watch_tells_of_other_processes)
{
    struct pair p;
    struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .more = PTHREAD_COND_INITIALIZER};
    pair_init(&p);
    store_watch(p.b.store, tell, &told);
    fixture_put(&p.a, &test_thing_type, &(struct test_thing){.id = "one"});
    await_told(&told, "one");
    fixture_delete(&p.a, &test_thing_type, &(struct test_thing){.id = "one"});
    fixture_put(&p.a, &test_thing_type, &(struct test_thing){.id = "two"});
    await_told(&told, "two");
    cut_connections(&p.a);
    put_at_last(&p.a, &(struct test_thing){.id = "three"});
    await_told(&told, "three");
    store_unwatch(p.b.store, tell, &told);
    pair_fini(&p);
}

/* Who was away for longer than the log reaches back looks at everything. */
TEST(shared_store_reads_everything_when_the_log_was_trimmed)
{
    struct pair p;
    struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .more = PTHREAD_COND_INITIALIZER};
    pair_init(&p);
    fixture_put(&p.a, &test_thing_type, &(struct test_thing){.id = "gone"});
    fixture_put(&p.b, &test_thing_type, &(struct test_thing){.id = "kept"});
    store_watch(p.b.store, tell, &told);
    fixture_sql(p.a.url,
                "BEGIN; DELETE FROM thing WHERE id = 'gone';"
                "UPDATE thing SET size = 7;"
                "UPDATE store_meta SET value = 1000 WHERE name = 'log'; COMMIT");
    struct test_thing key = {.id = "kept"};
    const struct test_thing *kept = fixture_get(&p.b, &test_thing_type, &key);
    CHECK_EQ(kept->size, 7);
    key.id = "gone";
    CHECK_NULL(fixture_get(&p.b, &test_thing_type, &key));
    CHECK_EQ(fixture_list(&p.b, &test_thing_type, &(struct row_query){0}).count, 1);
    await_told(&told, "kept");
    CHECK(told.things >= 3); /* What was, and what is. */
    store_unwatch(p.b.store, tell, &told);
    pair_fini(&p);
}

/* ---- many at once ---------------------------------------------------------------- */

#define CLAIMS 40
#define ROOM 100

struct claimer {
    struct fixture *f;
    const char *name;
    atomic_bool *cut;
    int got, refused, failed;
};

/* A place out of ROOM, by reading the count and writing it: what oversells when two do it
 * on the same state. */
static bool
claim(struct txn *txn, void *ctx, struct err *err)
{
    const char *id = ctx;
    const struct test_thing *old;
    struct test_thing total = {.account = "node", .id = "n"};
    if (!row_get(txn, &test_thing_type, &total, (const void **)&old, err)) {
        return false;
    }
    total.size = old ? old->size : 0;
    if (total.size >= ROOM) {
        return err_set(err, ERR_RANGE, "full");
    }
    total.size++;
    struct test_thing mine = {.account = "claim", .id = id, .size = total.size};
    struct test_entry cold = {.day = id, .id = total.size};
    return row_put(txn, &test_thing_type, &total, err) &&
           row_insert(txn, &test_thing_type, &mine, err) &&
           row_insert(txn, &test_entry_type, &cold, err);
}

static void *
claimer_main(void *ctx)
{
    struct claimer *c = ctx;
    for (int i = 0; c->got + c->refused < CLAIMS; i++) {
        AUTO(arena) struct arena *arena = arena_create();
        char id[40];
        struct err err;
        (void)snprintf(id, sizeof id, "%s-%d", c->name, i);
        if (store_write(c->f->store, arena, claim, id, &err)) {
            c->got++;
        } else if (err.code == ERR_RANGE) {
            c->refused++;
        } else {
            print_message("%s: %s\n", id, err.msg);
            c->failed++;
            usleep(10000);
        }
    }
    return NULL;
}

/* What is there, is there once, under numbers without a gap. */
static int64_t
check_claims(struct fixture *f)
{
    struct test_thing prefix = {.account = "claim"};
    struct row_query q = {.index = "by_size", .prefix = &prefix, .prefix_fields = 1};
    struct row_list claims = fixture_list(f, &test_thing_type, &q);
    struct row_list cold = fixture_list(f, &test_entry_type, &(struct row_query){0});
    for (size_t i = 0; i < claims.count; i++) {
        CHECK_EQ(((const struct test_thing *)claims.rows[i])->size, i + 1);
    }
    CHECK_EQ(cold.count, claims.count);
    return (int64_t)claims.count;
}

static void
run_claimers(struct pair *p, bool cut)
{
    pthread_t threads[4];
    struct claimer claimers[4] = {{.f = &p->a, .name = "a1"},
                                  {.f = &p->a, .name = "a2"},
                                  {.f = &p->b, .name = "b1"},
                                  {.f = &p->b, .name = "b2"}};
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, claimer_main, &claimers[i]), 0);
    }
    for (int i = 0; cut && i < 20; i++) {
        cut_connections(&p->a);
        usleep(3000);
    }
    int got = 0, failed = 0;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        got += claimers[i].got;
        failed += claimers[i].failed;
    }
    int64_t there = check_claims(&p->a);
    CHECK_EQ(check_claims(&p->b), there);
    CHECK_EQ(there, ROOM);
    CHECK(got <= there && got + failed >= there);
    CHECK(cut || failed == 0);
}

TEST(shared_store_writers_never_oversell)
{
    struct pair p;
    pair_init(&p);
    run_claimers(&p, false);
    pair_fini(&p);
}

/* pg_terminate_backend strikes anywhere: in a function, in the commit, before its answer
 * is read. What was acknowledged is there once; what was not, once or not at all. */
TEST(shared_store_writers_survive_cut_connections)
{
    struct pair p;
    pair_init(&p);
    run_claimers(&p, true);
    pair_fini(&p);
}

TEST(shared_store_says_gone_while_the_database_is_away)
{
    struct pair p;
    struct err err;
    pair_init(&p);
    struct test_thing t = {.account = "1", .id = "x"};
    struct step get = {.what = STEP_GET, .type = &test_thing_type, .row = &t};
    fixture_put(&p.a, &test_thing_type, &t);
    allow_connections(&p.a, false);
    cut_connections(&p.a);
    CHECK(!store_read(p.b.store, p.b.arena, step_run, &get, &err));
    CHECK_EQ(err.code, ERR_GONE);
    struct step put = {.what = STEP_PUT, .type = &test_thing_type, .row = &t};
    CHECK(!store_write(p.b.store, p.b.arena, step_run, &put, &err));
    CHECK_EQ(err.code, ERR_GONE);
    allow_connections(&p.a, true);
    put_at_last(&p.b, &t); /* When the follower has found it again. */
    CHECK(fixture_get(&p.b, &test_thing_type, &t) != NULL);
    pair_fini(&p);
}

TEST(shared_store_refuses_to_go_on_under_an_old_master_key)
{
    struct pair p;
    struct err err;
    pair_init(&p);
    uint8_t fresh[32] = {9};
    struct test_thing t = {.id = "x", .secret = "s"};
    fixture_put(&p.b, &test_thing_type, &t);
    CHECK_OK(store_rekey(p.a.store, fresh, &err), &err);
    struct step put = {.what = STEP_PUT, .type = &test_thing_type, .row = &t};
    CHECK(!store_write(p.b.store, p.b.arena, step_run, &put, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    CHECK(strstr(err.msg, "master key") != NULL);
    fixture_put(&p.a, &test_thing_type, &t);
    pair_fini(&p);
}

/* ---- old and new programs -------------------------------------------------------- */

/* test_thing and its table as a program knew them that had nothing after 'note'. */
static struct desc old_desc;
static struct row_type old_type;

static void
open_old(struct fixture *f)
{
    struct err err;
    old_desc = test_thing_desc;
    for (old_desc.field_count = 0;
         strcmp(test_thing_desc.fields[old_desc.field_count].name, "raw") != 0;) {
        old_desc.field_count++;
    }
    old_type = test_thing_type;
    old_type.desc = &old_desc;
    const struct row_type *types[] = {&old_type};
    struct store_config config = {.url = f->url,
                                  .types = types,
                                  .type_count = 1,
                                  .master_key = f->key,
                                  .rng = &rng_system,
                                  .clock = &clock_system};
    f->store = store_open(&config, &err);
    CHECK_OK(f->store != NULL, &err);
}

TEST(shared_store_old_program_goes_on_beside_a_new_one)
{
    struct fixture old, new;
    struct err err;
    fixture_init(&old);
    store_close(old.store);
    fixture_sql(old.url, "DROP TABLE thing; DROP TABLE entry");
    new = old;
    new.arena = arena_create();
    open_old(&old);
    struct test_thing t = {.account = "1", .id = "x", .note = "old"};
    fixture_put(&old, &old_type, &t);
    CHECK_OK(fixture_open(&new, &err), &err); /* Adds columns and a table. */
    t.raw = (struct blob){(const uint8_t *)"new", 3};
    fixture_put(&new, &test_thing_type, &t);
    fixture_put(&new, &test_entry_type, &(struct test_entry){.day = "d"});
    t.note = "changed by the old one";
    fixture_put(&old, &old_type, &t);
    const struct test_thing *seen = fixture_get(&new, &test_thing_type, &t);
    CHECK_STR(seen->note, t.note);
    CHECK_EQ(seen->raw.len, 3); /* A column that it does not know stays. */
    t.note = "changed by the new one";
    fixture_put(&new, &test_thing_type, &t);
    seen = fixture_get(&old, &old_type, &t);
    CHECK_STR(seen->note, t.note);
    fixture_delete(&old, &old_type, &t);
    CHECK_NULL(fixture_get(&new, &test_thing_type, &t));
    store_close(new.store);
    arena_destroy(new.arena);
    fixture_fini(&old);
}

/* ---- the fault loop -------------------------------------------------------------- */

/* A driver that is PostgreSQL's, but that its Nth call breaks the connection: before it
 * is done, or after it. */
static struct {
    atomic_int left; /* Calls until it breaks; below 0: never. */
    bool after;
} fault;

static struct sql_driver faulty;

static bool
broken(struct sql_conn *conn, struct err *err)
{
    struct err ignored;
    sql_postgres.exec(conn, "SELECT pg_terminate_backend(pg_backend_pid())", &ignored);
    while (sql_postgres.exec(conn, "SELECT 1", &ignored)) {
    }
    return err_set(err, ERR_GONE, "injected");
}

static bool
strikes(void)
{
    return atomic_fetch_sub(&fault.left, 1) == 0;
}

#define FAULTY(call, conn) \
    do { \
        bool now = strikes(); \
        if (now && !fault.after) { \
            return broken(conn, err); \
        } \
        bool ok = (call); \
        return now ? broken(conn, err) : ok; \
    } while (0)

static bool
faulty_exec(struct sql_conn *conn, const char *sql, struct err *err)
{
    FAULTY(sql_postgres.exec(conn, sql, err), conn);
}

static bool
faulty_post(struct sql_conn *conn, const char *sql, struct err *err)
{
    FAULTY(sql_postgres.post(conn, sql, err), conn);
}

/* The driver's statements do not tell their connection: it is remembered beside. */
struct faulty_stmt {
    struct sql_conn *conn;
    struct sql_stmt *real;
};

static struct faulty_stmt *
faulty_of(struct sql_stmt *stmt)
{
    return (struct faulty_stmt *)(void *)stmt;
}

static struct sql_stmt *
faulty_prepare(struct sql_conn *conn, const char *sql, struct err *err)
{
    struct faulty_stmt *s = xcalloc(1, sizeof *s);
    *s = (struct faulty_stmt){conn, sql_postgres.prepare(conn, sql, err)};
    return (struct sql_stmt *)(void *)s;
}

static void
faulty_finish(struct sql_stmt *stmt)
{
    sql_postgres.finish(faulty_of(stmt)->real);
    free(stmt);
}

static bool
faulty_start(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
             struct err *err)
{
    if (strikes()) {
        return broken(faulty_of(stmt)->conn, err);
    }
    return sql_postgres.start(faulty_of(stmt)->real, params, count, err);
}

static bool
faulty_send(struct sql_stmt *stmt, const struct sql_value *params, size_t count,
            struct err *err)
{
    struct faulty_stmt *s = faulty_of(stmt);
    FAULTY(sql_postgres.send(s->real, params, count, err), s->conn);
}

static bool
faulty_send_many(struct sql_stmt *stmt, const enum sql_kind *kinds, unsigned columns,
                 const struct sql_value *values, size_t rows, struct err *err)
{
    struct faulty_stmt *s = faulty_of(stmt);
    FAULTY(sql_postgres.send_many(s->real, kinds, columns, values, rows, err), s->conn);
}

static bool
faulty_step(struct sql_stmt *stmt, bool *out_row, struct err *err)
{
    return sql_postgres.step(faulty_of(stmt)->real, out_row, err);
}

static void
faulty_column(struct sql_stmt *stmt, unsigned i, struct sql_value *out)
{
    sql_postgres.column(faulty_of(stmt)->real, i, out);
}

static void
faulty_reset(struct sql_stmt *stmt)
{
    sql_postgres.reset(faulty_of(stmt)->real);
}

static struct sql_conn *
faulty_open(const char *where, struct err *err)
{
    if (strikes()) {
        err_set(err, ERR_GONE, "injected");
        return NULL;
    }
    struct sql_conn *conn = sql_postgres.open(where, err);
    if (conn) {
        conn->driver = &faulty;
    }
    return conn;
}

static bool
open_faulty(struct fixture *f, struct err *err)
{
    faulty = sql_postgres;
    faulty.open = faulty_open;
    faulty.exec = faulty_exec;
    faulty.post = faulty_post;
    faulty.prepare = faulty_prepare;
    faulty.finish = faulty_finish;
    faulty.start = faulty_start;
    faulty.send = faulty_send;
    faulty.send_many = faulty_send_many;
    faulty.step = faulty_step;
    faulty.column = faulty_column;
    faulty.reset = faulty_reset;
    struct store_config config = {.url = f->url,
                                  .types = test_types,
                                  .type_count = TEST_TYPES,
                                  .master_key = f->key,
                                  .rng = &rng_system,
                                  .clock = &clock_system,
                                  .driver = &faulty};
    f->store = store_open(&config, err);
    return f->store != NULL;
}

/* Two claims, one read, one claim by another process, one more claim: with a fault at
 * each call in turn, every acknowledged claim is there once. */
static int
claim_with_fault(struct fixture *f, struct fixture *other, int round)
{
    int acknowledged = 0;
    for (int i = 0; i < 3; i++) {
        AUTO(arena) struct arena *arena = arena_create();
        char id[40];
        struct err err;
        (void)snprintf(id, sizeof id, "f%d-%d", round, i);
        if (store_write(f->store, arena, claim, id, &err)) {
            acknowledged++;
        } else {
            print_message("%s: %s\n", id, err.msg);
        }
        struct step get = {.what = STEP_GET,
                           .type = &test_thing_type,
                           .row = &(struct test_thing){.account = "claim", .id = id}};
        CHECK_OK(store_read(f->store, arena, step_run, &get, &err), &err);
        CHECK(get.got != NULL);
        if (i == 1) {
            (void)snprintf(id, sizeof id, "o%d", round);
            CHECK_OK(store_write(other->store, arena, claim, id, &err), &err);
            acknowledged++;
        }
    }
    return acknowledged;
}

static void
fault_loop(bool after)
{
    struct fixture f, clean;
    struct err err;
    fixture_init(&clean);
    f = clean;
    f.arena = arena_create();
    fault.after = after;
    bool reached = true;
    for (int n = 0; reached; n++) {
        CHECK(n < 1000);
        atomic_store(&fault.left, -1);
        fixture_sql(clean.url, "DELETE FROM thing; DELETE FROM entry;"
                               "UPDATE store_meta SET value = value + 100000"
                               " WHERE name = 'log'"); /* A gap: all read it anew. */
        CHECK_OK(open_faulty(&f, &err), &err);
        atomic_store(&fault.left, n);
        int acknowledged = claim_with_fault(&f, &clean, n);
        reached = atomic_exchange(&fault.left, -1) < 0;
        int64_t there = check_claims(&clean);
        CHECK(there >= acknowledged && there <= 4);
        CHECK_EQ(acknowledged, 4); /* A new connection could be had each time. */
        store_close(f.store);
    }
    arena_destroy(f.arena);
    fixture_fini(&clean);
}

TEST(shared_store_is_whole_when_any_call_breaks_the_connection)
{
    fault_loop(false);
}

TEST(shared_store_is_whole_when_the_answer_to_any_call_is_lost)
{
    fault_loop(true);
}

/* ---- from one kind to the other -------------------------------------------------- */

static bool
next_two(struct txn *txn, void *ctx, struct err *err)
{
    int64_t *out = ctx;
    return txn_next(txn, "c", &out[0], err) && txn_next(txn, "c", &out[1], err);
}

static bool
put_varied(struct txn *txn, void *ctx UNUSED, struct err *err)
{
    static const char *const notes[] = {"", "plain", "\xc3\xa5", "broken \xff\xc3 here",
                                        NULL};
    for (int i = 0; i < 300; i++) {
        char id[16];
        int64_t n;
        (void)snprintf(id, sizeof id, "i-%d", i);
        struct test_thing t = {.account = i % 2 ? "a" : "b",
                               .id = id,
                               .note = notes[i % 5],
                               .secret = i % 3 ? "secret" : NULL,
                               .ratio = i / 7.0,
                               .raw = {(const uint8_t *)"\0\1", (size_t)(i % 3)},
                               .size = i % 2 ? INT64_MIN : i};
        struct test_entry e = {.day = id, .id = -i, .text = notes[(i + 1) % 5]};
        if (!row_put(txn, &test_thing_type, &t, err) ||
            !row_put(txn, &test_entry_type, &e, err) || !txn_next(txn, "c", &n, err)) {
            return false;
        }
    }
    return true;
}

static void
count_rows(void *ctx, const char *table UNUSED, int64_t rows, const char *sha256)
{
    *(int64_t *)ctx += rows;
    CHECK_EQ(strlen(sha256), 64);
}

static void
open_lite(struct fixture *f, const struct fixture *beside, const char *name)
{
    struct err err;
    *f = *beside;
    (void)snprintf(f->url, sizeof f->url, "sqlite:%s/%s", beside->dir, name);
    CHECK_OK(fixture_open(f, &err), &err);
}

TEST(store_transfer_brings_every_row_there_and_back)
{
    struct fixture pg, lite, back;
    struct err err;
    int64_t rows = 0, n[2];
    fixture_init(&pg);
    open_lite(&lite, &pg, "from.db");
    open_lite(&back, &pg, "back.db");
    CHECK_OK(store_write(lite.store, lite.arena, put_varied, NULL, &err), &err);
    CHECK_OK(store_transfer(lite.store, pg.store, count_rows, &rows, &err), &err);
    CHECK_EQ(rows, 601);
    /* Also who had the target open sees it. */
    struct row_list list = fixture_list(&pg, &test_thing_type, &(struct row_query){0});
    CHECK_EQ(list.count, 300);
    CHECK_OK(store_transfer(pg.store, back.store, count_rows, &rows, &err), &err);
    CHECK(!store_transfer(lite.store, pg.store, count_rows, &rows, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    fixture_reopen(&back);
    struct row_list was = fixture_list(&lite, &test_thing_type, &(struct row_query){0});
    list = fixture_list(&back, &test_thing_type, &(struct row_query){0});
    CHECK_EQ(list.count, was.count);
    for (size_t i = 0; i < list.count; i++) {
        struct test_thing t = *(const struct test_thing *)was.rows[i];
        if (t.note && strstr(t.note, "broken")) {
            t.note =
                "broken \xef\xbf\xbd\xef\xbf\xbd here"; /* PostgreSQL takes UTF-8. */
        }
        CHECK(desc_equal(&test_thing_desc, &t, list.rows[i]));
    }
    CHECK_OK(store_write(back.store, back.arena, next_two, n, &err), &err);
    CHECK_EQ(n[0], 301);
    store_close(lite.store);
    store_close(back.store);
    fixture_fini(&pg);
}

TEST(store_transfer_that_breaks_leaves_nothing)
{
    struct fixture pg, lite;
    struct err err;
    int64_t rows = 0;
    fixture_init(&pg);
    store_close(pg.store);
    open_lite(&lite, &pg, "from.db");
    CHECK_OK(store_write(lite.store, lite.arena, put_varied, NULL, &err), &err);
    for (int at = 0; at < 1200; at += 97) {
        atomic_store(&fault.left, -1);
        CHECK_OK(open_faulty(&pg, &err), &err);
        fault.after = false;
        atomic_store(&fault.left, at);
        bool ok = store_transfer(lite.store, pg.store, count_rows, &rows, &err);
        bool struck = atomic_exchange(&fault.left, -1) < 0;
        CHECK(struck || ok);
        struct row_list list =
            fixture_list(&pg, &test_thing_type, &(struct row_query){0});
        CHECK_EQ(list.count, ok ? 300 : 0);
        store_close(pg.store);
        if (ok) {
            break;
        }
    }
    store_close(lite.store);
    CHECK_OK(fixture_open(&pg, &err), &err);
    fixture_fini(&pg);
}
