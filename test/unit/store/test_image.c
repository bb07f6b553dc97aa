/* test_image.c - versions in memory against a plain model, by chance from a seed. */
#include "base/world.h"
#include "store/image.h"
#include "test.h"
#include "test_rows.h"

#define ROWS 2500
#define KEPT 6

/* sizes[i]: the row's size, 0: no such row. */
struct model {
    int64_t sizes[ROWS];
};

struct kept {
    struct version *version;
    struct model model;
};

static struct table tables[TEST_TYPES];

static struct test_thing
thing(int i, int64_t size, char id[16])
{
    (void)snprintf(id, 16, "i-%04d", i);
    return (struct test_thing){.account = i % 3 ? "b" : "a",
                               .id = id,
                               .size = size,
                               .zone = size % 2 ? "z" : ""};
}

static int
number(const struct test_thing *t)
{
    return atoi(t->id + 2);
}

/* Each row once, as the model has it, in the order of the index. */
static size_t
check_order(const struct version *v, const struct model *m, struct row_query query,
            size_t page)
{
    AUTO(arena) struct arena *arena = arena_create();
    const struct table *table = &tables[test_thing_type.id];
    const struct order *order = table_order(table, query.index);
    size_t total = 0;
    struct row_list list;
    query.limit = page;
    do {
        version_list(v, table, &query, arena, &list);
        for (size_t i = 0; i < list.count; i++) {
            const struct test_thing *t = list.rows[i];
            CHECK_EQ(t->size, m->sizes[number(t)]);
            CHECK(!query.after ||
                  order_compare(order, order->count, query.after, t) < 0);
            query.after = t;
        }
        total += list.count;
    } while (list.count == page);
    return total;
}

static void
check_version(const struct version *v, const struct model *m, const struct rng *rng)
{
    size_t all = 0, a = 0, a1 = 0;
    for (int i = 0; i < ROWS; i++) {
        char id[16];
        struct test_thing key = thing(i, 0, id);
        const struct test_thing *got =
            version_get(v, &tables[test_thing_type.id], &key);
        CHECK_EQ(got ? got->size : 0, m->sizes[i]);
        CHECK(!got || !got->zone || *got->zone);
        all += m->sizes[i] != 0;
        a += m->sizes[i] != 0 && i % 3 == 0;
        a1 += m->sizes[i] == 1 && i % 3 == 0;
    }
    size_t page = 1 + rng_below(rng, 70);
    struct test_thing prefix = {.account = "a", .size = 1};
    struct row_query q = {.prefix = &prefix};
    CHECK_EQ(check_order(v, m, q, page), all);
    q.prefix_fields = 1;
    CHECK_EQ(check_order(v, m, q, page), a);
    q = (struct row_query){.index = "by_size", .prefix = &prefix};
    CHECK_EQ(check_order(v, m, q, page), all);
    q.prefix_fields = 2;
    CHECK_EQ(check_order(v, m, q, page), a1);
}

static void
change_some(struct version *v, struct model *m, const struct rng *rng)
{
    const struct table *table = &tables[test_thing_type.id];
    bool grow = rng_below(rng, 2);
    for (uint64_t n = rng_below(rng, 900); n; n--) {
        char id[16];
        int i = (int)rng_below(rng, ROWS);
        int64_t size = (int64_t)rng_below(rng, 4) + 1;
        struct test_thing t = thing(i, size, id);
        const void *old;
        if (rng_below(rng, 4) < (grow ? 3 : 1)) {
            (void)version_put(v, table, &t, &old);
            CHECK_EQ(old != NULL, m->sizes[i] != 0);
            m->sizes[i] = size;
        } else {
            CHECK_EQ(version_del(v, table, &t) != NULL, m->sizes[i] != 0);
            m->sizes[i] = 0;
        }
    }
}

TEST(image_versions_stay_as_they_were_pinned)
{
    uint64_t seed = (uint64_t)clock_real(&clock_system);
    print_message("seed %" PRIu64 "\n", seed);
    struct rng rng = rng_seeded(&seed);
    struct err err;
    for (size_t i = 0; i < TEST_TYPES; i++) {
        CHECK_OK(table_init(&tables[i], test_types[i], true, &err), &err);
    }
    struct image *image = image_create(tables, TEST_TYPES);
    struct model now = {0};
    struct kept kept[KEPT] = {0};
    for (int round = 0; round < 60; round++) {
        struct version *base = image_pin(image);
        struct version *v = version_fork(base);
        version_unpin(base);
        struct model next = now;
        change_some(v, &next, &rng);
        check_version(v, &next, &rng);
        struct kept *k = &kept[rng_below(&rng, KEPT)];
        if (k->version) {
            check_version(k->version, &k->model, &rng);
            version_unpin(k->version);
        }
        *k = (struct kept){v, next}; /* Also what is never published stays readable. */
        if (rng_below(&rng, 3)) {
            image_publish(image, v);
            now = next;
        }
        image_collect(image);
    }
    image_close(image);
    for (size_t i = 0; i < KEPT; i++) { /* They outlive their image. */
        if (kept[i].version) {
            check_version(kept[i].version, &kept[i].model, &rng);
            version_unpin(kept[i].version);
        }
    }
    for (size_t i = 0; i < TEST_TYPES; i++) {
        table_fini(&tables[i]);
    }
}
