/* test_commit.c - transactions run on what is not durable yet, and commits fail: who was
 * answered well is there once, who was not is not there, and nobody saw more. Run it under
 * TSan. */
#include "fixture.h"
#include "store/sql.h"
#include <pthread.h>
#include <stdatomic.h>

#define LANES 4
#define ROUNDS 150
#define AT_ONCE 6 /* Asked for by a lane before it waits for the answers. */

/* ---- a database that refuses some commits ---------------------------------------- */

static struct sql_driver refusing;
static atomic_uint commits, refuse_every;

static bool
refusing_exec(struct sql_conn *conn, const char *sql, struct err *err)
{
    unsigned every = atomic_load(&refuse_every);
    if (strcmp(sql, "COMMIT") == 0 && every &&
        atomic_fetch_add(&commits, 1) % every == every - 1) {
        return err_set(err, ERR_NO_SPACE, "refused");
    }
    return sql_sqlite.exec(conn, sql, err);
}

static struct sql_conn *
refusing_open(const char *where, struct err *err)
{
    struct sql_conn *conn = sql_sqlite.open(where, err);
    if (conn) {
        conn->driver = &refusing;
    }
    return conn;
}

static bool slow_sync(struct sql_conn *conn, struct err *err);

static void
open_refusing(struct fixture *f, unsigned every)
{
    struct err err;
    store_close(f->store);
    refusing = sql_sqlite;
    refusing.open = refusing_open;
    refusing.exec = refusing_exec;
    refusing.sync = slow_sync;
    atomic_store(&refuse_every, 0); /* Not while it is opened. */
    const struct store_config config = {.url = f->url,
                                        .types = test_types,
                                        .type_count = TEST_TYPES,
                                        .master_key = f->key,
                                        .rng = &rng_system,
                                        .clock = &clock_system,
                                        .driver = &refusing};
    f->store = store_open(&config, &err);
    CHECK_OK(f->store != NULL, &err);
    atomic_store(&refuse_every, every);
}

/* ---- a crowd --------------------------------------------------------------------- */

struct lane {
    struct fixture *f;
    pthread_t thread;
    unsigned number;
    atomic_int waiting, done, refused, failed, odd;
};

struct ask {
    struct lane *lane;
    struct arena *arena;
    int64_t id;
    bool looks; /* At a row of a cold table, first. */
    bool fails; /* When it has changed all it could. */
};

/* What is put, replaced and taken out, and then never was. */
static bool
change_and_fail(struct txn *txn, const struct test_thing *own, struct err *err)
{
    struct test_thing sum = {.account = "all", .id = "sum", .size = -1};
    struct test_thing other = *own;
    other.account = "other";
    other.size = 7;
    return row_put(txn, &test_thing_type, &sum, err) &&
           row_insert(txn, &test_thing_type, own, err) &&
           row_put(txn, &test_thing_type, &other, err) &&
           row_delete(txn, &test_thing_type, &sum, err) &&
           row_delete(txn, &test_thing_type, own, err) &&
           row_put(txn, &test_thing_type, &sum, err) &&
           err_set(err, ERR_INVALID, "on purpose");
}

/* Adds one to a number that all share, and two rows of its own. */
static bool
add_one(struct txn *txn, void *ctx, struct err *err)
{
    const struct ask *ask = ctx;
    const void *found;
    struct test_thing sum = {.account = "all", .id = "sum"};
    char id[24];
    (void)snprintf(id, sizeof id, "%" PRId64, ask->id);
    struct test_thing own = {.account = "own", .id = id};
    struct test_line line = {.id = ask->id, .text = "there"};
    if (!row_get(txn, &test_thing_type, &sum, &found, err) ||
        (ask->looks && !row_get(txn, &test_line_type,
                                &(struct test_line){.id = ask->id - 1}, &found, err))) {
        return false;
    }
    if (!row_get(txn, &test_thing_type, &sum, &found, err)) {
        return false;
    }
    if (ask->fails) {
        return change_and_fail(txn, &own, err);
    }
    sum.size = found ? ((const struct test_thing *)found)->size + 1 : 1;
    return row_put(txn, &test_thing_type, &sum, err) &&
           row_insert(txn, &test_thing_type, &own, err) &&
           row_put(txn, &test_line_type, &line, err);
}

static void
on_answer(void *ctx, const struct err *err)
{
    struct ask *ask = ctx;
    struct lane *lane = ask->lane;
    atomic_fetch_add(&lane->done, err->code == ERR_NONE);
    atomic_fetch_add(&lane->refused, err->code == ERR_NO_SPACE);
    atomic_fetch_add(&lane->failed, err->code == ERR_INVALID);
    bool known =
        err->code == ERR_NONE || err->code == ERR_NO_SPACE || err->code == ERR_INVALID;
    atomic_fetch_add(&lane->odd, !known);
    arena_destroy(ask->arena);
    atomic_fetch_sub(&lane->waiting, 1);
}

struct view {
    int64_t sum;
    size_t own;
};

static bool
see(struct txn *txn, void *ctx, struct err *err)
{
    struct view *view = ctx;
    const void *found;
    struct row_list list;
    const struct test_thing key = {.account = "own"};
    const struct row_query query = {.prefix = &key, .prefix_fields = 1};
    if (!row_get(txn, &test_thing_type,
                 &(struct test_thing){.account = "all", .id = "sum"}, &found, err) ||
        !row_list(txn, &test_thing_type, &query, &list, err)) {
        return false;
    }
    view->sum = found ? ((const struct test_thing *)found)->size : 0;
    view->own = list.count;
    return true;
}

/* What a reader sees is whole, and has what this lane was answered. */
static void
look(struct lane *lane, int done)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct view view;
    struct err err;
    bool whole = store_read(lane->f->store, arena, see, &view, &err) &&
                 view.sum == (int64_t)view.own && view.sum >= done;
    atomic_fetch_add(&lane->odd, !whole);
}

static void *
lane_main(void *ctx)
{
    struct lane *lane = ctx;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            struct arena *arena = arena_create();
            struct ask *ask = ARENA_NEW(arena, struct ask);
            *ask = (struct ask){.lane = lane,
                                .arena = arena,
                                .id = (lane->number * ROUNDS + round) * AT_ONCE + i,
                                .looks = round % 8 == 0 && i == 3,
                                .fails = (round + i) % 5 == 0};
            atomic_fetch_add(&lane->waiting, 1);
            store_write_async(lane->f->store, arena, add_one, on_answer, ask);
        }
        while (atomic_load(&lane->waiting) >= AT_ONCE / 2) {
            sched_yield();
        }
        look(lane, atomic_load(&lane->done));
    }
    return NULL;
}

static void
check_rows(struct fixture *f, int64_t done)
{
    const struct row_query all = {0};
    const struct test_thing *sum = fixture_get(
        f, &test_thing_type, &(struct test_thing){.account = "all", .id = "sum"});
    CHECK_EQ(sum->size, done);
    CHECK_EQ(fixture_list(f, &test_thing_type, &all).count, done + 1);
    CHECK_EQ(fixture_list(f, &test_line_type, &all).count, done);
}

static void
crowd_with_refusals(unsigned every)
{
    struct fixture f;
    struct lane lanes[LANES] = {0};
    int64_t done = 0, refused = 0, failed = 0;
    fixture_init(&f);
    open_refusing(&f, every);
    for (unsigned i = 0; i < LANES; i++) {
        lanes[i].f = &f;
        lanes[i].number = i + 1;
        CHECK_EQ(pthread_create(&lanes[i].thread, NULL, lane_main, &lanes[i]), 0);
    }
    for (unsigned i = 0; i < LANES; i++) {
        CHECK_EQ(pthread_join(lanes[i].thread, NULL), 0);
    }
    store_close(f.store); /* Answers all that is queued first. */
    f.store = NULL;
    for (unsigned i = 0; i < LANES; i++) {
        CHECK_EQ(atomic_load(&lanes[i].waiting), 0);
        CHECK_EQ(atomic_load(&lanes[i].odd), 0);
        done += atomic_load(&lanes[i].done);
        refused += atomic_load(&lanes[i].refused);
        failed += atomic_load(&lanes[i].failed);
    }
    CHECK_EQ(done + refused + failed, LANES * ROUNDS * AT_ONCE);
    CHECK(done > 0 && failed > 0 && (refused > 0) == (every > 0));
    fixture_reopen(&f);
    check_rows(&f, done);
    fixture_fini(&f);
}

TEST(commit_answers_what_is_there_and_nothing_else_when_some_commits_fail)
{
    crowd_with_refusals(7);
    crowd_with_refusals(2);
}

TEST(commit_answers_all_when_none_fails)
{
    crowd_with_refusals(0);
}

/* ---- what is on the disk --------------------------------------------------------- */

/* A disk that takes its time, or fails. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held, fails;
    unsigned waiting;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static bool
slow_sync(struct sql_conn *conn, struct err *err)
{
    pthread_mutex_lock(&disk.lock);
    disk.waiting++;
    pthread_cond_broadcast(&disk.changed);
    while (disk.held) {
        pthread_cond_wait(&disk.changed, &disk.lock);
    }
    disk.waiting--;
    bool fails = disk.fails;
    pthread_mutex_unlock(&disk.lock);
    return fails ? err_set(err, ERR_SYSTEM, "the disk failed")
                 : sql_sqlite.sync(conn, err);
}

static void
disk_set(bool held, bool fails)
{
    pthread_mutex_lock(&disk.lock);
    disk.held = held;
    disk.fails = fails;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

static void
disk_await(void)
{
    pthread_mutex_lock(&disk.lock);
    while (disk.waiting == 0) {
        pthread_cond_wait(&disk.changed, &disk.lock);
    }
    pthread_mutex_unlock(&disk.lock);
}

static void
ask_for(struct lane *lane, int64_t id)
{
    struct arena *arena = arena_create();
    struct ask *ask = ARENA_NEW(arena, struct ask);
    *ask = (struct ask){.lane = lane, .arena = arena, .id = id};
    atomic_fetch_add(&lane->waiting, 1);
    store_write_async(lane->f->store, arena, add_one, on_answer, ask);
}

static void
lane_settle(struct lane *lane)
{
    while (atomic_load(&lane->waiting) > 0) {
        sched_yield();
    }
}

/* The database has committed it, and another stands on it; but neither is answered nor
 * seen before the disk has it. After a sync that failed nobody is told that it is done. */
TEST(commit_is_answered_and_seen_when_it_is_on_the_disk)
{
    struct fixture f;
    struct lane lane = {.f = &f, .number = 1};
    struct view view = {0};
    struct err err;
    fixture_init(&f);
    open_refusing(&f, 0);
    ask_for(&lane, 1);
    lane_settle(&lane);
    disk_set(true, false);
    ask_for(&lane, 2);
    disk_await();
    ask_for(&lane, 3);
    CHECK_OK(store_read(f.store, f.arena, see, &view, &err), &err);
    CHECK_EQ(view.sum, 1);
    CHECK_EQ(atomic_load(&lane.done), 1);
    disk_set(false, false);
    lane_settle(&lane);
    CHECK_EQ(atomic_load(&lane.done), 3);

    disk_set(false, true);
    ask_for(&lane, 4);
    lane_settle(&lane);
    disk_set(false, false);
    ask_for(&lane, 5); /* The kernel tells of it once: what is there nobody knows. */
    lane_settle(&lane);
    CHECK_EQ(atomic_load(&lane.done), 3);
    CHECK_OK(store_read(f.store, f.arena, see, &view, &err), &err);
    CHECK_EQ(view.sum, 3);
    fixture_reopen(&f);
    const struct row_query all = {0};
    size_t there = fixture_list(&f, &test_line_type, &all).count;
    CHECK(there == 3 || there == 4); /* The one that was in doubt. */
    fixture_fini(&f);
}

/* The key's file is changed next: what the disk has not got must not count as done. */
TEST(commit_of_a_new_master_key_is_answered_when_it_is_on_the_disk)
{
    struct fixture f;
    struct err err;
    uint8_t fresh[32] = {5};
    fixture_init(&f);
    open_refusing(&f, 0);
    disk_set(false, true);
    CHECK(!store_rekey(f.store, fresh, &err));
    CHECK_EQ(err.code, ERR_SYSTEM);
    disk_set(false, false);
    store_close(f.store);
    memcpy(f.key, fresh, sizeof fresh); /* The kernel had it all the same. */
    CHECK_OK(fixture_open(&f, &err), &err);
    fixture_fini(&f);
}

/* ---- how much is written --------------------------------------------------------- */

static void
on_wake(void *ctx UNUSED)
{
}

TEST(commit_sends_a_row_once_however_many_changed_it)
{
    struct fixture f;
    struct err err;
    struct ask asks[10];
    struct lane lane = {0};
    fixture_init(&f);
    store_close(f.store);
    const struct store_config config = {.url = f.url,
                                        .types = test_types,
                                        .type_count = TEST_TYPES,
                                        .master_key = f.key,
                                        .rng = &rng_system,
                                        .clock = &clock_system,
                                        .wake = on_wake};
    f.store = store_open(&config, &err);
    CHECK_OK(f.store != NULL, &err);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        asks[i] =
            (struct ask){.lane = &lane, .arena = arena_create(), .id = (int64_t)i};
        store_write_async(f.store, asks[i].arena, add_one, on_answer, &asks[i]);
    }
    struct store_counts before = store_counts(f.store);
    CHECK(!store_turn(f.store, 0));
    CHECK_EQ(atomic_load(&lane.done), ARRAY_LEN(asks));
    struct store_counts after = store_counts(f.store);
    CHECK_EQ(after.commits - before.commits, 1);
    CHECK_EQ(after.transactions - before.transactions, ARRAY_LEN(asks));
    CHECK_EQ(after.rows - before.rows, 2 * ARRAY_LEN(asks) + 1);
    fixture_reopen(&f);
    check_rows(&f, ARRAY_LEN(asks));
    fixture_fini(&f);
}
