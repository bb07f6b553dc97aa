/* test_numa.c - which NUMA node a guest is kept on, on hosts as they are sold. */
#include "test.h"

#include "node/machine/numa.h"

#define GIBS(n) ((n) * (int64_t)GIB)

/* As /sys/devices/system/node says of a machine with two processors of 16 threads. */
static const struct link_hw_numa two[] = {
    {.number = 0, .cpus = "0-7,16-23", .memory_bytes = GIBS(64)},
    {.number = 1, .cpus = "8-15,24-31", .memory_bytes = GIBS(64)},
};
/* One processor in four quarters, of which one has its memory slots half filled; and a node of
 * memory alone, as persistent memory shows. */
static const struct link_hw_numa quarters[] = {
    {.number = 0, .cpus = "0-3", .memory_bytes = GIBS(32)},
    {.number = 1, .cpus = "4-7", .memory_bytes = GIBS(32)},
    {.number = 2, .cpus = "8-11", .memory_bytes = GIBS(16)},
    {.number = 3, .cpus = "12-15", .memory_bytes = GIBS(32)},
    {.number = 8, .cpus = "", .memory_bytes = GIBS(512)},
};

static int
choose(const struct link_hw_numa *nodes, struct numa_load *loads, size_t count,
       int64_t vcpus, int64_t gib)
{
    const struct numa_load want = {vcpus, GIBS(gib)};
    int chosen = numa_choose(nodes, loads, count, &want);
    if (chosen >= 0) {
        loads[chosen].vcpus += want.vcpus;
        loads[chosen].memory_bytes += want.memory_bytes;
    }
    return chosen;
}

TEST(numa_choose_shares_processors_out_and_keeps_room_for_large_guests)
{
    struct numa_load loads[5] = {{0}};
    CHECK_EQ(choose(two, loads, 2, 8, 32), 0);
    CHECK_EQ(choose(two, loads, 2, 8, 8), 1); /* Its processors are free. */
    CHECK_EQ(choose(two, loads, 2, 4, 8),
             0); /* Alike: the one with less memory left. */
    CHECK_EQ(choose(two, loads, 2, 16, 32), 1);
    memset(loads, 0, sizeof loads);
    CHECK_EQ(choose(quarters, loads, 5, 4, 8), 2);
    CHECK_EQ(choose(quarters, loads, 5, 4, 16), 0); /* No longer there. */
}

TEST(numa_choose_keeps_nobody_where_he_does_not_fit)
{
    struct numa_load loads[5] = {{0}};
    CHECK_EQ(choose(two, loads, 2, 17, 8), -1);       /* More vCPUs than a node has. */
    CHECK_EQ(choose(two, loads, 2, 2, 65), -1);       /* More memory. */
    CHECK_EQ(choose(quarters, loads, 5, 1, 100), -1); /* There are no processors. */
    CHECK_EQ(choose(two, loads, 1, 1, 1), -1);        /* One node is no choice. */
    CHECK_EQ(choose(two, loads, 0, 1, 1), -1);
    for (int i = 0; i < 2; i++) {
        CHECK(choose(two, loads, 2, 1, 60) >= 0);
    }
    CHECK_EQ(choose(two, loads, 2, 1, 8), -1); /* Neither has so much left. */
}

TEST(numa_cpus_reads_the_kernels_lists_and_no_others)
{
    static const char *const bad[] = {"",    "x",       "1-",  "-1",
                                      "3-2", "0-99999", "1,x", "1 2"};
    cpu_set_t set;
    CHECK(numa_cpus("0-1,4,6-7", &set));
    CHECK_EQ(CPU_COUNT(&set), 5);
    CHECK(CPU_ISSET(4, &set) && CPU_ISSET(7, &set) && !CPU_ISSET(5, &set));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!numa_cpus(bad[i], &set));
    }
    CHECK(!numa_cpus(NULL, &set));
    CHECK_EQ(CPU_COUNT(&set), 5);
}
