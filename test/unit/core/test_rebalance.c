#include "core/rebalance.h"
#include "test.h"

#define SMALL ((struct claim){.vcpus = 2, .memory_bytes = (int64_t)GIB, .machines = 1})

static struct rebalance_host
host(const char *id, int64_t machines)
{
    return (struct rebalance_host){
        .id = id,
        .kind = "kvm",
        .open = true,
        .ceiling = {.vcpus = 40, .memory_bytes = 40 * (int64_t)GIB},
        .claimed = {.vcpus = 2 * machines,
                    .memory_bytes = machines * (int64_t)GIB,
                    .machines = machines}};
}

TEST(rebalance_moves_from_the_fullest_to_the_emptiest_until_they_are_alike)
{
    struct rebalance_host hosts[] = {host("a", 12), host("b", 2), host("c", 4)};
    struct rebalance_machine machines[18];
    struct rebalance_move moves[18];
    for (size_t i = 0; i < 18; i++) {
        machines[i] = (struct rebalance_machine){i < 12 ? 0 : i < 14 ? 1 : 2, SMALL};
    }
    size_t count = rebalance_plan(hosts, 3, machines, 18, 18, moves);
    CHECK(count > 0 && count <= 6);
    for (size_t i = 0; i < count; i++) {
        CHECK(moves[i].machine < 12 &&
              moves[i].to != 0); /* None moves twice, or back. */
    }
    double most = 0, least = 1;
    for (size_t h = 0; h < 3; h++) {
        most = MAX(most, rebalance_load(&hosts[h]));
        least = MIN(least, rebalance_load(&hosts[h]));
    }
    CHECK(most - least <= 0.1001);
}

TEST(rebalance_leaves_alone_what_is_alike_closed_or_of_another_kind)
{
    struct rebalance_host hosts[] = {host("a", 5), host("b", 5)};
    struct rebalance_machine machines[10];
    struct rebalance_move moves[10];
    for (size_t i = 0; i < 10; i++) {
        machines[i] = (struct rebalance_machine){i / 5, SMALL};
    }
    CHECK_EQ(rebalance_plan(hosts, 2, machines, 10, 10, moves), 0);
    hosts[0] = host("a", 5);
    hosts[1] = host("b", 0);
    hosts[1].open = false;
    CHECK_EQ(rebalance_plan(hosts, 2, machines, 5, 10, moves), 0);
    hosts[1].open = true;
    hosts[1].kind = "tcg";
    CHECK_EQ(rebalance_plan(hosts, 2, machines, 5, 10, moves), 0);
    hosts[1].kind = "kvm";
    CHECK_EQ(rebalance_plan(hosts, 2, machines, 5, 1, moves), 1);
}

/* A machine as large as the difference would only change who is full. */
TEST(rebalance_does_not_trade_places)
{
    struct rebalance_host hosts[] = {host("a", 10), host("b", 0)};
    struct rebalance_machine one = {
        0, {.vcpus = 20, .memory_bytes = 10 * (int64_t)GIB, .machines = 1}};
    struct rebalance_move moves[1];
    CHECK_EQ(rebalance_plan(hosts, 2, &one, 1, 1, moves), 0);
}
