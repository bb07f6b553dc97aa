/* test_store.c - rows as they go in and come out, from memory and from the database. */
#include "fixture.h"

static struct test_part parts[] = {{"a", 1, 5}, {"b", 0, 1234567890123456789}};
static const char *names[] = {"", "one", "two \"quoted\""};
static const struct test_part one = {"single", -7, 0};

static struct test_thing
full_thing(void)
{
    return (struct test_thing){
        .account = "111122223333",
        .id = "i-1",
        .zone = "z1",
        .name = "name",
        .size = INT64_MIN,
        .secret = "top secret",
        .body = {(const uint8_t *)"\0\1\2", 3},
        .parts = {parts, 2},
        .names = {names, 3},
        .ratio = 0.1,
        .made_at = 1700000000123456789,
        .on = true,
        .note = "",
        .raw = {(const uint8_t *)"", 0},
        .one = &one,
    };
}

static bool
same_thing(const void *a, const void *b)
{
    return desc_equal(&test_thing_desc, a, b);
}

TEST(store_gives_back_every_kind_of_field_before_and_after_reopening)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing t = full_thing();
    CHECK_OK(fixture_insert(&f, &test_thing_type, &t, &err), &err);
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    fixture_reopen(&f);
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    fixture_fini(&f);
}

TEST(store_row_is_null_when_there_is_none)
{
    struct fixture f;
    fixture_init(&f);
    CHECK_NULL(fixture_get(&f, &test_thing_type, &(struct test_thing){.id = "x"}));
    CHECK_NULL(fixture_get(&f, &test_entry_type, &(struct test_entry){.day = "x"}));
    fixture_delete(&f, &test_thing_type, &(struct test_thing){.id = "x"});
    fixture_fini(&f);
}

TEST(store_insert_refuses_a_taken_key_and_put_replaces)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing t = full_thing();
    struct test_entry e = {.day = "d", .id = 1, .text = "first"};
    CHECK_OK(fixture_insert(&f, &test_thing_type, &t, &err), &err);
    CHECK_OK(fixture_insert(&f, &test_entry_type, &e, &err), &err);
    CHECK(!fixture_insert(&f, &test_thing_type, &t, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    CHECK(!fixture_insert(&f, &test_entry_type, &e, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    t.note = "second";
    t.parts.items = NULL;
    t.parts.count = 0;
    e.text = "second";
    fixture_put(&f, &test_thing_type, &t);
    fixture_put(&f, &test_entry_type, &e);
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    const struct test_entry *back = fixture_get(&f, &test_entry_type, &e);
    CHECK_STR(back->text, "second");
    fixture_fini(&f);
}

TEST(store_unique_index_binds_only_filled_fields)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing a = {.account = "1", .id = "a"}, b = {.account = "1", .id = "b"};
    struct test_entry x = {.day = "d", .id = 1}, y = {.day = "d", .id = 2};
    fixture_put(&f, &test_thing_type, &a);
    fixture_put(&f, &test_thing_type, &b);
    fixture_put(&f, &test_entry_type, &x);
    fixture_put(&f, &test_entry_type, &y);
    a.name = b.name = "same";
    x.token = y.token = "same";
    fixture_put(&f, &test_thing_type, &a);
    fixture_put(&f, &test_thing_type, &a); /* Itself is no conflict. */
    fixture_put(&f, &test_entry_type, &x);
    struct step s = {.what = STEP_PUT, .type = &test_thing_type, .row = &b};
    CHECK(!store_write(f.store, f.arena, step_run, &s, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    s = (struct step){.what = STEP_PUT, .type = &test_entry_type, .row = &y};
    CHECK(!store_write(f.store, f.arena, step_run, &s, &err));
    CHECK_EQ(err.code, ERR_EXISTS);
    b.account = "2";
    CHECK_OK(fixture_insert(&f, &test_thing_type, &b, &err), &err);
    fixture_delete(&f, &test_thing_type, &a);
    b.account = "1";
    fixture_put(&f, &test_thing_type, &b); /* The name is free again. */
    fixture_fini(&f);
}

/* Walks a whole index in pages of 'limit' and checks each row against the expected
 * order. */
static size_t
walk(struct fixture *f, const struct row_type *type, struct row_query query,
     size_t limit, int (*compare)(const void *, const void *))
{
    size_t total = 0;
    const void *last = NULL;
    query.limit = limit;
    for (;;) {
        struct row_list list = fixture_list(f, type, &query);
        for (size_t i = 0; i < list.count; i++) {
            CHECK(!last || compare(last, list.rows[i]) < 0);
            last = list.rows[i];
        }
        total += list.count;
        if (list.count < limit) {
            return total;
        }
        query.after = last;
    }
}

static int
by_size(const void *a, const void *b)
{
    const struct test_thing *x = a, *y = b;
    int c = strcmp(x->account, y->account);
    c = c ? c : (x->size > y->size) - (x->size < y->size);
    return c ? c : strcmp(x->id, y->id);
}

static int
by_key(const void *a, const void *b)
{
    const struct test_thing *x = a, *y = b;
    int c = strcmp(x->account, y->account);
    return c ? c : strcmp(x->id, y->id);
}

static int
entry_by_account(const void *a, const void *b)
{
    const struct test_entry *x = a, *y = b;
    int c = strcmp(x->account ? x->account : "", y->account ? y->account : "");
    c = c ? c : strcmp(x->day, y->day);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

struct many {
    int count;
};

static bool
put_many(struct txn *txn, void *ctx, struct err *err)
{
    const struct many *many = ctx;
    for (int i = 0; i < many->count; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "i-%d", i * 7919 % many->count);
        struct test_thing t = {.account = i % 3 ? "b" : "a",
                               .id = id,
                               .size = i % 5 - 2,
                               .zone = "z",
                               .secret = id};
        struct test_entry e = {.day = id, .id = -i, .account = i % 3 ? "b" : NULL};
        if (!row_insert(txn, &test_thing_type, &t, err) ||
            !row_insert(txn, &test_entry_type, &e, err)) {
            return false;
        }
    }
    return true;
}

TEST(store_list_pages_through_a_secondary_index)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct many many = {.count = 301};
    CHECK_OK(store_write(f.store, f.arena, put_many, &many, &err), &err);
    struct test_thing a = {.account = "a", .size = 1};
    struct test_entry none = {0}, b = {.account = "b"};
    for (size_t limit = 1; limit < 400; limit += 33) {
        struct row_query q = {0};
        CHECK_EQ(walk(&f, &test_thing_type, q, limit, by_key), 301);
        q = (struct row_query){.prefix = &a, .prefix_fields = 1};
        CHECK_EQ(walk(&f, &test_thing_type, q, limit, by_key), 101);
        q = (struct row_query){.index = "by_size", .prefix = &a, .prefix_fields = 1};
        CHECK_EQ(walk(&f, &test_thing_type, q, limit, by_size), 101);
        q = (struct row_query){.index = "by_size"};
        CHECK_EQ(walk(&f, &test_thing_type, q, limit, by_size), 301);
        q = (struct row_query){.index = "by_size", .prefix = &a, .prefix_fields = 2};
        CHECK_EQ(walk(&f, &test_thing_type, q, limit, by_size), 20);
        q = (struct row_query){
            .index = "by_account", .prefix = &none, .prefix_fields = 1};
        CHECK_EQ(walk(&f, &test_entry_type, q, limit, entry_by_account), 101);
        q = (struct row_query){.index = "by_account", .prefix = &b, .prefix_fields = 1};
        CHECK_EQ(walk(&f, &test_entry_type, q, limit, entry_by_account), 200);
    }
    fixture_fini(&f);
}

struct outcome {
    bool hot, cold;
    const struct test_thing *seen;
};

static bool
write_then_fail(struct txn *txn, void *ctx, struct err *err)
{
    struct test_thing t = {.account = "a", .id = "gone", .note = "new"};
    struct test_entry e = {.day = "gone", .id = 1};
    const void *seen;
    int64_t n;
    if (!row_put(txn, &test_thing_type, &t, err) ||
        !row_put(txn, &test_entry_type, &e, err) || !txn_next(txn, "c", &n, err) ||
        !row_get(txn, &test_thing_type, &t, &seen, err)) {
        return false;
    }
    ((struct outcome *)ctx)->seen = seen;
    t.note = "newer";
    return row_put(txn, &test_thing_type, &t, err) &&
           err_set(err, ERR_DENIED, "changed my mind");
}

TEST(store_failed_transaction_leaves_nothing)
{
    struct fixture f;
    struct err err;
    struct outcome o = {0};
    fixture_init(&f);
    CHECK(!store_write(f.store, f.arena, write_then_fail, &o, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    CHECK_STR(o.seen->note, "new"); /* What was handed out stays. */
    for (int i = 0; i < 2; i++) {
        CHECK_NULL(fixture_get(&f, &test_thing_type,
                               &(struct test_thing){.account = "a", .id = "gone"}));
        CHECK_NULL(fixture_get(&f, &test_entry_type,
                               &(struct test_entry){.day = "gone", .id = 1}));
        fixture_reopen(&f);
    }
    fixture_fini(&f);
}

static bool
next_two(struct txn *txn, void *ctx, struct err *err)
{
    int64_t *out = ctx;
    return txn_next(txn, "n", &out[0], err) && txn_next(txn, "n", &out[1], err);
}

TEST(store_counter_goes_on_after_reopening)
{
    struct fixture f;
    struct err err;
    int64_t n[2];
    fixture_init(&f);
    CHECK_OK(store_write(f.store, f.arena, next_two, n, &err), &err);
    CHECK_EQ(n[0], 1);
    CHECK_EQ(n[1], 2);
    fixture_reopen(&f);
    CHECK_OK(store_write(f.store, f.arena, next_two, n, &err), &err);
    CHECK_EQ(n[0], 3);
    fixture_fini(&f);
}

TEST(store_read_refuses_writes)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing t = full_thing();
    struct step s = {.what = STEP_PUT, .type = &test_thing_type, .row = &t};
    CHECK(!store_read(f.store, f.arena, step_run, &s, &err));
    CHECK_EQ(err.code, ERR_INVALID);
    fixture_fini(&f);
}

struct glance {
    size_t limit, seen;
};

/* Lists, and takes no heed of what it is told. */
static bool
list_heedless(struct txn *txn, void *ctx, struct err *err UNUSED)
{
    struct glance *g = ctx;
    const struct row_query query = {.limit = g->limit};
    struct row_list list = {0};
    struct err ignored;
    (void)!row_list(txn, &test_thing_type, &query, &list, &ignored);
    g->seen = list.count;
    return true;
}

TEST(store_read_brief_gives_up_on_who_reads_more)
{
    struct fixture f;
    struct err err;
    struct glance g = {0};
    bool spent = true;
    fixture_init(&f);
    for (int i = 0; i < 10; i++) {
        char id[8];
        (void)snprintf(id, sizeof id, "%d", i);
        fixture_put(&f, &test_thing_type, &(struct test_thing){.id = id});
    }
    CHECK_OK(store_read_brief(f.store, f.arena, list_heedless, &g, 10, &spent, &err),
             &err);
    CHECK(!spent && g.seen == 10);
    CHECK(!store_read_brief(f.store, f.arena, list_heedless, &g, 9, &spent, &err));
    CHECK(spent && g.seen == 0);
    g.limit = 9;
    CHECK_OK(store_read_brief(f.store, f.arena, list_heedless, &g, 9, &spent, &err),
             &err);
    CHECK(!spent && g.seen == 9);
    fixture_fini(&f);
}

TEST(store_list_refuses_an_unknown_index)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct row_query q = {.index = "by_nothing"};
    struct step s = {.what = STEP_LIST, .type = &test_thing_type, .query = &q};
    CHECK(!store_read(f.store, f.arena, step_run, &s, &err));
    CHECK_EQ(err.code, ERR_INVALID);
    fixture_fini(&f);
}

struct seen {
    int things, entries;
    char last[32];
};

static void
watch(void *ctx, const struct row_type *type, const void *key)
{
    struct seen *seen = ctx;
    seen->things += type == &test_thing_type;
    seen->entries += type == &test_entry_type;
    if (type == &test_thing_type) {
        (void)snprintf(seen->last, sizeof seen->last, "%s",
                       ((const struct test_thing *)key)->id);
    }
}

TEST(store_watch_tells_of_committed_changes_only)
{
    struct fixture f;
    struct err err;
    struct seen seen = {0};
    struct outcome o;
    fixture_init(&f);
    store_watch(f.store, watch, &seen);
    struct test_thing t = full_thing();
    CHECK(!store_write(f.store, f.arena, write_then_fail, &o, &err));
    CHECK_EQ(seen.things + seen.entries, 0);
    fixture_put(&f, &test_thing_type, &t);
    CHECK_EQ(seen.things, 1);
    fixture_put(&f, &test_entry_type, &(struct test_entry){.day = "d"});
    CHECK_EQ(seen.entries, 1);
    fixture_delete(&f, &test_thing_type, &t);
    CHECK_EQ(seen.things, 2);
    CHECK_STR(seen.last, "i-1");
    fixture_fini(&f);
}

static bool
in_tables(const char *url, const char *needle)
{
    char sql[256];
    PGconn *pg = PQconnectdb(url);
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM thing WHERE strpos(thing::text, '%s') > 0 OR"
                   " position('%s'::bytea in secret) > 0",
                   needle, needle);
    PGresult *result = PQexec(pg, sql);
    CHECK_EQ(PQresultStatus(result), PGRES_TUPLES_OK);
    bool found = strcmp(PQgetvalue(result, 0, 0), "0") != 0;
    PQclear(result);
    PQfinish(pg);
    return found;
}

/* Whether any file of the database, or its tables, hold these bytes. */
static bool
on_disk(const struct fixture *f, const char *needle)
{
    static const char *const ends[] = {"", "-wal"};
    bool found = false;
    if (postgres_url()) {
        return in_tables(f->url, needle);
    }
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char path[160];
        struct err err;
        char *data;
        size_t len;
        (void)snprintf(path, sizeof path, "%s/t.db%s", f->dir, ends[i]);
        if (file_read(path, 64 * MIB, &data, &len, &err)) {
            found = found || memmem(data, len, needle, strlen(needle));
            free(data);
        }
    }
    return found;
}

TEST(store_seals_secrets_on_disk_under_the_right_key_only)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing t = full_thing();
    fixture_put(&f, &test_thing_type, &t);
    CHECK(on_disk(&f, "i-1"));
    CHECK(!on_disk(&f, t.secret));
    store_close(f.store);
    f.key[0]++;
    CHECK(!fixture_open(&f, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    f.key[0]--;
    CHECK_OK(fixture_open(&f, &err), &err);
    fixture_fini(&f);
}

TEST(store_rekey_changes_the_key_of_every_secret)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing t = full_thing();
    struct many many = {.count = 451}; /* More than a page. */
    CHECK_OK(store_write(f.store, f.arena, put_many, &many, &err), &err);
    fixture_put(&f, &test_thing_type, &t);
    uint8_t fresh[32] = {1, 2, 3};
    CHECK_OK(store_rekey(f.store, fresh, &err), &err);
    t.id = "i-2";
    t.name = NULL;
    fixture_put(&f, &test_thing_type, &t);
    store_close(f.store);
    CHECK(!fixture_open(&f, &err));
    CHECK_EQ(err.code, ERR_DENIED);
    memcpy(f.key, fresh, sizeof fresh);
    CHECK_OK(fixture_open(&f, &err), &err);
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    CHECK_EQ(fixture_list(&f, &test_thing_type, &(struct row_query){0}).count, 453);
    t = full_thing();
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    fixture_fini(&f);
}

TEST(store_refuses_a_secret_moved_to_another_row)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    fixture_put(&f, &test_thing_type,
                &(struct test_thing){.id = "a", .secret = "mine"});
    fixture_put(&f, &test_thing_type,
                &(struct test_thing){.id = "b", .secret = "yours"});
    store_close(f.store);
    fixture_sql(f.url,
                "UPDATE thing SET secret = (SELECT secret FROM thing WHERE id = 'a')");
    struct step s = {.what = STEP_GET,
                     .type = &test_thing_type,
                     .row = &(struct test_thing){.id = "b"}};
    bool ok =
        fixture_open(&f, &err) && store_read(f.store, f.arena, step_run, &s, &err);
    CHECK(!ok);
    CHECK_EQ(err.code, ERR_CORRUPT);
    CHECK(strstr(err.msg, "secret") != NULL);
    fixture_fini(&f);
}

TEST(store_adds_missing_columns_and_refuses_a_newer_database)
{
    struct fixture f;
    struct err err;
    fixture_init(&f);
    struct test_thing t = {.account = "a", .id = "b", .note = "kept"};
    fixture_put(&f, &test_thing_type, &t);
    store_close(f.store);
    fixture_sql(f.url, "ALTER TABLE thing DROP COLUMN ratio;"
                       "ALTER TABLE thing DROP COLUMN parts; DROP TABLE entry");
    CHECK_OK(fixture_open(&f, &err), &err);
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    store_close(f.store);
    fixture_sql(f.url, "UPDATE store_meta SET value = 99 WHERE name = 'schema'");
    CHECK(!fixture_open(&f, &err));
    CHECK_EQ(err.code, ERR_UNSUPPORTED);
    fixture_fini(&f);
}

TEST(store_opens_once)
{
    struct fixture f, second;
    struct err err;
    fixture_init(&f);
    if (postgres_url()) { /* Of many: see test_shared.c. */
        fixture_fini(&f);
        return;
    }
    second = f;
    CHECK(!fixture_open(&second, &err));
    CHECK_EQ(err.code, ERR_BUSY);
    fixture_fini(&f);
}

TEST(store_copy_is_a_whole_store)
{
    struct fixture f;
    struct err err;
    char path[96];
    fixture_init(&f);
    struct test_thing t = full_thing();
    fixture_put(&f, &test_thing_type, &t);
    (void)snprintf(path, sizeof path, "%s/copy.db", f.dir);
    if (postgres_url()) {
        fixture_fini(&f);
        return; /* Its own tools do that. */
    }
    CHECK_OK(store_copy(f.url + strlen("sqlite:"), path, &err), &err);
    fixture_delete(&f, &test_thing_type, &t);
    CHECK_OK(store_copy(f.url + strlen("sqlite:"), path, &err), &err); /* Replaces. */
    fixture_put(&f, &test_thing_type, &t);
    CHECK_OK(store_copy(f.url + strlen("sqlite:"), path, &err), &err);
    store_close(f.store);
    (void)snprintf(f.url, sizeof f.url, "sqlite:%s", path);
    CHECK_OK(fixture_open(&f, &err), &err);
    CHECK(same_thing(fixture_get(&f, &test_thing_type, &t), &t));
    fixture_fini(&f);
}

struct turns {
    int wakes, done;
};

static void
on_wake(void *ctx)
{
    ((struct turns *)ctx)->wakes++;
}

static void
on_turn_done(void *ctx, const struct err *err)
{
    ((struct turns *)ctx)->done += err->code == ERR_NONE;
}

static bool
put_next(struct txn *txn, void *ctx UNUSED, struct err *err)
{
    int64_t next;
    return txn_next(txn, "turn", &next, err);
}

static bool
read_next(struct txn *txn, void *ctx, struct err *err)
{
    return txn_next(txn, "turn", ctx, err);
}

/* Without a thread of its own, a store commits when it is told to. */
TEST(store_turn_commits_what_waits)
{
    struct fixture f;
    struct err err;
    struct turns turns = {0};
    int64_t next = 0;
    fixture_init(&f);
    store_close(f.store);
    struct store_config config = {.url = f.url,
                                  .types = test_types,
                                  .type_count = TEST_TYPES,
                                  .master_key = f.key,
                                  .rng = &rng_system,
                                  .clock = &clock_system,
                                  .wake = on_wake,
                                  .wake_ctx = &turns};
    f.store = store_open(&config, &err);
    CHECK_OK(f.store, &err);
    for (int i = 0; i < 3; i++) {
        store_write_async(f.store, f.arena, put_next, on_turn_done, &turns);
    }
    CHECK_EQ(turns.wakes, 3);
    CHECK_EQ(turns.done, 0);
    CHECK(store_turn(f.store, 2)); /* More waits. */
    CHECK_EQ(turns.done, 2);
    CHECK_OK(store_write(f.store, f.arena, read_next, &next, &err), &err);
    CHECK_EQ(turns.done, 3); /* What waited before it went first. */
    CHECK_EQ(next, 4);
    store_write_async(f.store, f.arena, put_next, on_turn_done, &turns);
    fixture_reopen(&f); /* What waits when it is closed is lost. */
    CHECK_EQ(turns.done, 3);
    CHECK_OK(store_write(f.store, f.arena, read_next, &next, &err), &err);
    CHECK_EQ(next, 5);
    fixture_fini(&f);
}
