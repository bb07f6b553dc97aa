/* test_threads.c - readers see whole transactions while writers go on. Run it under
 * TSan. */
#include "fixture.h"
#include <pthread.h>
#include <stdatomic.h>

#define ROUNDS 300

struct crowd {
    struct fixture *f;
    atomic_bool over;
    atomic_int answered, failed;
};

/* Adds one to two rows in memory and to one in the database. */
static bool
raise_all(struct txn *txn, void *ctx, struct err *err)
{
    const void *out;
    struct test_thing t = {.account = "a", .id = "left"};
    if (!row_get(txn, &test_thing_type, &t, &out, err)) {
        return false;
    }
    t.size = out ? ((const struct test_thing *)out)->size + 1 : 1;
    t.secret = "wiped when it goes";
    struct test_thing right = t;
    right.id = "right";
    struct test_entry e = {.day = "d", .id = 1, .account = t.size % 2 ? "odd" : "even"};
    return row_put(txn, &test_thing_type, &t, err) &&
           row_put(txn, &test_thing_type, &right, err) &&
           row_put(txn, &test_entry_type, &e, err) &&
           (ctx == NULL || err_set(err, ERR_DENIED, "rolled back"));
}

static bool
see_both(struct txn *txn, void *ctx, struct err *err)
{
    struct row_query all = {.index = "by_size"};
    struct row_list *list = ctx;
    const void *entry;
    return row_list(txn, &test_thing_type, &all, list, err) &&
           row_get(txn, &test_entry_type, &(struct test_entry){.day = "d", .id = 1},
                   &entry, err);
}

static void *
reader_main(void *ctx)
{
    struct crowd *crowd = ctx;
    int64_t last = 0;
    while (!atomic_load(&crowd->over)) {
        AUTO(arena) struct arena *arena = arena_create();
        struct row_list list;
        struct err err;
        if (!store_read(crowd->f->store, arena, see_both, &list, &err)) {
            atomic_fetch_add(&crowd->failed, 1);
            continue;
        }
        const struct test_thing *const *things = (const void *)list.rows;
        bool whole =
            list.count == 0 || (list.count == 2 && things[0]->size == things[1]->size &&
                                things[0]->size >= last && *things[0]->secret == 'w');
        last = list.count ? things[0]->size : 0;
        atomic_fetch_add(&crowd->failed, !whole);
    }
    return NULL;
}

static void
count_answer(void *ctx, const struct err *err)
{
    struct crowd *crowd = ctx;
    atomic_fetch_add(&crowd->failed, err->code != ERR_NONE);
    atomic_fetch_add(&crowd->answered, 1);
}

/* The context of an asynchronous write is its crowd: raise_all must not take it for the
 * wish to be rolled back. */
static bool
raise_async(struct txn *txn, void *ctx, struct err *err)
{
    return raise_all(txn, NULL, err);
}

static void *
writer_main(void *ctx)
{
    struct crowd *crowd = ctx;
    for (int i = 0; i < ROUNDS; i++) {
        AUTO(arena) struct arena *arena = arena_create();
        struct err err;
        bool undo = i % 3 == 0;
        bool ok =
            store_write(crowd->f->store, arena, raise_all, undo ? crowd : NULL, &err);
        atomic_fetch_add(&crowd->failed, ok == undo);
    }
    return NULL;
}

TEST(store_readers_see_whole_transactions)
{
    struct fixture f;
    fixture_init(&f);
    struct crowd crowd = {.f = &f};
    pthread_t readers[2], writers[2];
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&readers[i], NULL, reader_main, &crowd), 0);
        CHECK_EQ(pthread_create(&writers[i], NULL, writer_main, &crowd), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        store_write_async(f.store, f.arena, raise_async, count_answer, &crowd);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(writers[i], NULL), 0);
    }
    atomic_store(&crowd.over, true);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(readers[i], NULL), 0);
    }
    store_close(f.store); /* Answers all that is queued first. */
    CHECK_EQ(atomic_load(&crowd.answered), ROUNDS);
    CHECK_EQ(atomic_load(&crowd.failed), 0);
    struct err err;
    CHECK_OK(fixture_open(&f, &err), &err);
    const struct test_thing *left = fixture_get(
        &f, &test_thing_type, &(struct test_thing){.account = "a", .id = "left"});
    CHECK_EQ(left->size, ROUNDS + 2 * (ROUNDS - ROUNDS / 3));
    fixture_fini(&f);
}
