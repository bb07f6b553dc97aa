#include "core/share.h"
#include "test.h"

#define NODES 1000
#define MEMBERS 4

static const char *const members[MEMBERS] = {"aa", "bb", "cc", "dd"};
static char names[NODES][24];
static const char *nodes[NODES];

static void
name_nodes(void)
{
    for (size_t i = 0; i < NODES; i++) {
        (void)snprintf(names[i], sizeof names[i], "node-%zu", i);
        nodes[i] = names[i];
    }
}

static size_t
count_of(const size_t *homes, size_t count, size_t member)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += homes[i] == member;
    }
    return n;
}

TEST(share_streams_gives_nobody_more_than_an_even_share)
{
    size_t homes[NODES];
    name_nodes();
    for (size_t m = 1; m <= MEMBERS; m++) {
        for (size_t n = 0; n <= NODES; n = n * 3 + 1) {
            share_streams(members, m, nodes, n, homes);
            size_t all = 0;
            for (size_t i = 0; i < m; i++) {
                size_t has = count_of(homes, n, i);
                CHECK(has <= share_limit(m, n));
                all += has;
            }
            CHECK_EQ(all, n);
        }
    }
}

/* Who comes takes its share, and little else moves. */
TEST(share_streams_moves_little_when_a_process_comes)
{
    size_t before[NODES], after[NODES], moved = 0;
    name_nodes();
    share_streams(members, 3, nodes, NODES, before);
    share_streams(members, 4, nodes, NODES, after);
    for (size_t i = 0; i < NODES; i++) {
        moved += before[i] != after[i];
    }
    CHECK_EQ(count_of(after, NODES, 3), NODES / 4);
    CHECK(moved < NODES / 4 + NODES / 10);
}

TEST(share_of_every_key_is_somebodys_and_the_same_in_any_order)
{
    for (const struct share_loop *loop = share_loops; loop->name; loop++) {
        const char *up = NULL, *down = NULL;
        for (size_t i = 0; i < MEMBERS; i++) {
            const char *low = members[i], *high = members[MEMBERS - 1 - i];
            up = share_outweighs(low, up, loop->key) ? low : up;
            down = share_outweighs(high, down, loop->key) ? high : down;
        }
        CHECK_STR(up, down);
    }
}
