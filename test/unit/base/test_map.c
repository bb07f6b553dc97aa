/* test_map.c - against a plain array, by chance from a seed. */
#include "base/map.h"
#include "base/world.h"
#include "test.h"

#define KEYS 300

static void
count_drop(void *value)
{
    ++*(int *)value;
}

TEST(map_agrees_with_a_plain_array)
{
    uint64_t seed = (uint64_t)clock_real(&clock_system);
    print_message("seed %" PRIu64 "\n", seed);
    struct rng rng = rng_seeded(&seed);
    AUTO(map) struct map *map = map_create(NULL);
    int values[KEYS];
    bool in[KEYS] = {0};
    for (int step = 0; step < 20000; step++) {
        char key[16];
        size_t i = rng_below(&rng, KEYS), count = 0;
        (void)snprintf(key, sizeof key, "%.*s%zu", (int)(i % 7), "longer-", i);
        if (rng_below(&rng, 2)) {
            map_put(map, key, &values[i]);
            in[i] = true;
        } else {
            map_del(map, key);
            in[i] = false;
        }
        CHECK(map_get(map, key) == (in[i] ? &values[i] : NULL));
        for (size_t k = 0; k < KEYS; k++) {
            count += in[k];
        }
        CHECK_EQ(map_count(map), count);
    }
}

TEST(map_iterates_in_order_of_insertion_and_lets_the_last_go)
{
    int dropped = 0;
    struct map *map = map_create(count_drop);
    const char *key;
    void *value;
    char seen[64] = "";
    for (char c = 'a'; c <= 'z'; c++) {
        map_put(map, (char[]){c, 0}, &dropped);
    }
    for (size_t it = 0; map_next(map, &it, &key, &value);) {
        strcat(seen, key);
        if (*key != 'q') {
            map_del(map, key);
        }
    }
    CHECK_STR(seen, "abcdefghijklmnopqrstuvwxyz");
    CHECK_EQ(dropped, 25);
    CHECK(map_steal(map, "q") == &dropped);
    CHECK_EQ(dropped, 25);
    map_put(map, "", &dropped);
    map_destroy(map);
    CHECK_EQ(dropped, 26);
}
