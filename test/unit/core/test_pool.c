/* test_pool.c - placement over rows: what changes is noticed, what is taken stays taken,
 * and the row in the transaction has the last word. */
#include "base/file.h"
#include "core/pool.h"
#include "test.h"
#include <pthread.h>

#define HOST_VCPUS 8

static const struct cloud_config config = {.cpu_overcommit = 1, .memory_overcommit = 1};
static const struct placement_ask small = {
    .region = "r",
    .zone = "z",
    .account = "111122223333",
    .claim = {.vcpus = 1, .memory_bytes = (int64_t)GIB, .machines = 1}};

struct lab {
    char dir[64];
    struct store *store;
    struct arena *arena;
    struct pool *pool;
};

static bool
add_hosts(struct txn *txn, void *ctx UNUSED, struct err *err)
{
    const char *const ids[] = {"node-a", "node-b"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        const struct row_node node = {
            .id = ids[i], .region = "r", .zone = "z", .state = "active"};
        const struct row_node_seen seen = {.id = ids[i],
                                           .vcpus = HOST_VCPUS,
                                           .memory_bytes = 64 * (int64_t)GIB,
                                           .connected = true};
        if (!row_put(txn, &row_node_type, &node, err) ||
            !row_put(txn, &row_node_seen_type, &seen, err)) {
            return false;
        }
    }
    return true;
}

static void
lab_init(struct lab *lab)
{
    struct err err;
    err_clear(&err);
    static uint8_t key[32];
    *lab = (struct lab){.dir = "/tmp/moln-pool-XXXXXX", .arena = arena_create()};
    CHECK(mkdtemp(lab->dir) != NULL);
    const struct store_config how = {
        .url = arena_printf(lab->arena, "sqlite:%s/t.db", lab->dir),
        .types = row_types,
        .type_count = ROW_TYPES,
        .master_key = key,
        .rng = &rng_system,
        .clock = &clock_system};
    lab->store = store_open(&how, &err);
    CHECK_OK(lab->store, &err);
    lab->pool = pool_create(lab->store, &config, &err);
    CHECK_OK(lab->pool, &err);
    CHECK_OK(store_write(lab->store, lab->arena, add_hosts, NULL, &err), &err);
}

static void
lab_fini(struct lab *lab)
{
    struct err err;
    pool_destroy(lab->pool);
    store_close(lab->store);
    arena_destroy(lab->arena);
    CHECK_OK(dir_remove(lab->dir, &err), &err);
}

struct placing_step {
    struct pool *pool;
    struct placement_ask ask;
    bool apart, fails; /* 'fails': rolled back after it claimed. */
    size_t want, got;
    struct pool_pick picks[64];
};

static bool
place_and_claim(struct txn *txn, void *ctx, struct err *err)
{
    struct placing_step *s = ctx;
    if (!pool_place(s->pool, txn, &config, &s->ask, s->apart, s->want, s->picks,
                    &s->got, err)) {
        return false;
    }
    for (size_t i = 0; i < s->got; i++) {
        const struct claim claim = {s->ask.claim.vcpus, s->picks[i].memory_bytes, 0, 1};
        if (!node_claim_add(txn, s->picks[i].node_id, &claim, err)) {
            return false;
        }
    }
    return !s->fails || err_set(err, ERR_INTERNAL, "on purpose");
}

static size_t
place(struct lab *lab, struct placing_step *s)
{
    struct err err;
    err_clear(&err);
    s->pool = lab->pool;
    s->ask = s->ask.region ? s->ask : small;
    bool ok = store_write(lab->store, lab->arena, place_and_claim, s, &err);
    CHECK_EQ(ok, !s->fails);
    return s->got;
}

TEST(pool_place_fills_what_there_is_and_no_more)
{
    struct lab lab;
    struct placing_step ten = {.want = 10}, more = {.want = 10};
    lab_init(&lab);
    CHECK_EQ(place(&lab, &ten), 10);
    CHECK_EQ(place(&lab, &more), 6);
    CHECK_EQ(place(&lab, &more), 0);
    lab_fini(&lab);
}

TEST(pool_place_forgets_what_was_rolled_back)
{
    struct lab lab;
    struct placing_step failing = {.want = 16, .fails = true}, again = {.want = 16};
    lab_init(&lab);
    CHECK_EQ(place(&lab, &failing), 16);
    CHECK_EQ(place(&lab, &again), 16);
    lab_fini(&lab);
}

TEST(pool_place_keeps_apart_what_was_asked_apart)
{
    struct lab lab;
    struct placing_step three = {.want = 3, .apart = true};
    lab_init(&lab);
    CHECK_EQ(place(&lab, &three), 2);
    CHECK(!str_eq(three.picks[0].node_id, three.picks[1].node_id));
    lab_fini(&lab);
}

static bool
cordon_a(struct txn *txn, void *ctx, struct err *err)
{
    const struct row_node node = {.id = "node-a",
                                  .region = "r",
                                  .zone = "z",
                                  .state = "active",
                                  .cordoned = *(const bool *)ctx};
    return row_put(txn, &row_node_type, &node, err);
}

TEST(pool_place_notices_a_cordon_and_its_end)
{
    struct lab lab;
    struct err err;
    struct placing_step all = {.want = 16, .fails = true};
    bool cordoned = true;
    lab_init(&lab);
    CHECK_OK(store_write(lab.store, lab.arena, cordon_a, &cordoned, &err), &err);
    CHECK_EQ(place(&lab, &all), 8);
    cordoned = false;
    CHECK_OK(store_write(lab.store, lab.arena, cordon_a, &cordoned, &err), &err);
    CHECK_EQ(place(&lab, &all), 16);
    lab_fini(&lab);
}

static bool
claim_then_place(struct txn *txn, void *ctx, struct err *err)
{
    const struct claim most = {.vcpus = HOST_VCPUS - 1, .machines = 7};
    return node_claim_add(txn, "node-a", &most, err) &&
           node_claim_add(txn, "node-b", &most, err) && place_and_claim(txn, ctx, err);
}

/* Claims of which no watch has told yet: another transaction's of the same commit, or
 * another process's. */
TEST(pool_place_believes_the_transaction_over_the_index)
{
    struct lab lab;
    struct err err;
    lab_init(&lab);
    struct placing_step step = {.pool = lab.pool, .want = 16, .ask = small};
    CHECK_OK(store_write(lab.store, lab.arena, claim_then_place, &step, &err), &err);
    CHECK_EQ(step.got, 2);
    lab_fini(&lab);
}

struct racer {
    struct lab *lab;
    pthread_t thread;
    size_t placed;
};

static void *
race(void *ctx)
{
    struct racer *racer = ctx;
    AUTO(arena) struct arena *arena = arena_create();
    for (int i = 0; i < 10; i++) {
        struct err err;
        struct placing_step one = {.pool = racer->lab->pool, .want = 1, .ask = small};
        if (store_write(racer->lab->store, arena, place_and_claim, &one, &err)) {
            racer->placed += one.got;
        }
    }
    return NULL;
}

TEST(pool_place_never_oversells_to_many_at_once)
{
    struct lab lab;
    struct racer racers[4];
    size_t placed = 0;
    lab_init(&lab);
    for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
        racers[i] = (struct racer){.lab = &lab};
        CHECK_EQ(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(racers); i++) {
        CHECK_EQ(pthread_join(racers[i].thread, NULL), 0);
        placed += racers[i].placed;
    }
    CHECK_EQ(placed, 16);
    lab_fini(&lab);
}

/* Without a pool, and with its hosts named, the rows alone serve. */
TEST(pool_place_works_from_the_rows_alone)
{
    struct lab lab;
    struct err err;
    const char *b = "node-b";
    struct placing_step all = {.want = 20, .ask = small}, named = {.want = 20};
    named.ask = small;
    named.ask.among = (struct placement_words){&b, 1};
    all.fails = true;
    lab_init(&lab);
    CHECK(!store_write(lab.store, lab.arena, place_and_claim, &all, &err));
    CHECK_EQ(all.got, 16);
    CHECK_EQ(place(&lab, &named), 8);
    CHECK_STR(named.picks[7].node_id, "node-b");
    lab_fini(&lab);
}
