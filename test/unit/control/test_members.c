/* test_members.c - control processes on one store divide the work, and are fenced by rows.
 * Each "process" is a struct members of its own on the same store, and time is set. */
#include "base/file.h"
#include "control/members.h"
#include "store/rows.h"
#include "test.h"

#define KEYS 300

struct world {
    char dir[64], url[128];
    uv_loop_t loop;
    struct store *store;
    struct arena *arena;
    int64_t now_ns;
    struct clock clock;
};

static bool
ignore_change(void *ctx UNUSED)
{
    return true;
}

static void
world_init(struct world *w)
{
    struct err err;
    static const uint8_t key[32] = {1};
    *w = (struct world){.dir = "/tmp/moln-members-XXXXXX", .now_ns = 1000 * NS_PER_S};
    CHECK(mkdtemp(w->dir) != NULL);
    (void)snprintf(w->url, sizeof w->url, "sqlite:%s/t.db", w->dir);
    w->clock = clock_manual(&w->now_ns);
    w->arena = arena_create();
    uv_loop_init(&w->loop);
    struct store_config config = {.url = w->url,
                                  .types = row_types,
                                  .type_count = ROW_TYPES,
                                  .master_key = key,
                                  .rng = &rng_system,
                                  .clock = &w->clock};
    w->store = store_open(&config, &err);
    CHECK_OK(w->store != NULL, &err);
}

static void
world_fini(struct world *w)
{
    struct err err;
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&w->loop), 0);
    store_close(w->store);
    arena_destroy(w->arena);
    CHECK_OK(dir_remove(w->dir, &err), &err);
}

static struct members *
enter(struct world *w, const char *id)
{
    struct err err;
    struct members_config config = {.loop = &w->loop,
                                    .store = w->store,
                                    .clock = &w->clock,
                                    .rng = &rng_system,
                                    .id = id,
                                    .changed = ignore_change};
    struct members *m = members_create(&config, &err);
    CHECK_OK(m != NULL, &err);
    return m;
}

struct hold {
    struct members *members;
    const char *key;
    bool ours;
};

static bool
hold_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct hold *h = ctx;
    return members_holds(h->members, txn, h->key, &h->ours, err);
}

static bool
holds(struct world *w, struct members *m, int key)
{
    char text[32];
    struct err err;
    (void)snprintf(text, sizeof text, "instance 1 i-%d", key);
    struct hold h = {.members = m, .key = text};
    CHECK_OK(store_read(w->store, w->arena, hold_txn, &h, &err), &err);
    return h.ours;
}

static int
share(struct world *w, struct members *m)
{
    int n = 0;
    for (int i = 0; i < KEYS; i++) {
        n += holds(w, m, i);
    }
    return n;
}

static bool
put_txn(struct txn *txn, void *ctx, struct err *err)
{
    return row_put(txn, &row_control_type, ctx, err);
}

static bool
delete_txn(struct txn *txn, void *ctx, struct err *err)
{
    return row_delete(txn, &row_control_type, ctx, err);
}

static void
remove_row(struct world *w, const char *id)
{
    struct err err;
    struct row_control row = {.id = id};
    CHECK_OK(store_write(w->store, w->arena, delete_txn, &row, &err), &err);
}

TEST(members_share_every_key_once_and_evenly)
{
    struct world w;
    world_init(&w);
    struct members *m[3] = {enter(&w, "control-a"), enter(&w, "control-b"),
                            enter(&w, "control-c")};
    int of[3] = {0};
    for (int i = 0; i < KEYS; i++) {
        int owners = 0;
        for (int j = 0; j < 3; j++) {
            bool ours = holds(&w, m[j], i);
            owners += ours;
            of[j] += ours;
        }
        CHECK_EQ(owners, 1);
    }
    for (int j = 0; j < 3; j++) {
        CHECK(of[j] > KEYS / 5);
    }
    for (int j = 0; j < 3; j++) {
        members_close(m[j]);
    }
    world_fini(&w);
}

TEST(members_move_only_the_share_of_who_leaves)
{
    struct world w;
    world_init(&w);
    struct members *a = enter(&w, "control-a"), *b = enter(&w, "control-b");
    bool was_ours[KEYS];
    for (int i = 0; i < KEYS; i++) {
        was_ours[i] = holds(&w, a, i);
    }
    struct members *c = enter(&w, "control-c");
    for (int i = 0; i < KEYS; i++) {
        CHECK(was_ours[i] || !holds(&w, a, i)); /* Nothing of b's came to a. */
    }
    members_close(c);
    for (int i = 0; i < KEYS; i++) {
        CHECK_EQ(holds(&w, a, i), was_ours[i]);
    }
    members_close(b);
    CHECK_EQ(share(&w, a), KEYS);
    members_close(a);
    world_fini(&w);
}

/* What was thought dead and is not may do nothing, whatever it believes. */
TEST(members_without_a_row_hold_nothing)
{
    struct world w;
    world_init(&w);
    struct members *a = enter(&w, "control-a"), *b = enter(&w, "control-b");
    remove_row(&w, "control-a");
    CHECK_EQ(share(&w, a), 0);
    CHECK_EQ(share(&w, b), KEYS);
    remove_row(&w, "control-b");
    CHECK_EQ(share(&w, b), 0);
    members_close(a);
    members_close(b);
    world_fini(&w);
}

TEST(members_start_takes_the_place_of_the_run_before)
{
    struct world w;
    world_init(&w);
    struct members *old = enter(&w, "control-a"), *other = enter(&w, "control-b");
    int before = share(&w, old);
    struct members *new = enter(&w, "control-a");
    CHECK_EQ(share(&w, old), 0);
    CHECK_EQ(share(&w, new), before);
    members_close(old); /* Leaves the new one's row alone. */
    CHECK_EQ(share(&w, new), before);
    members_close(new);
    members_close(other);
    world_fini(&w);
}

struct links {
    struct members *members;
    struct desc_list list;
};

static bool
links_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct links *l = ctx;
    return members_links(l->members, txn, &l->list, err);
}

TEST(members_links_name_ours_first)
{
    struct world w;
    struct err err;
    world_init(&w);
    struct members *a = enter(&w, "control-a"), *b = enter(&w, "control-b");
    CHECK_OK(members_set_link(a, "a:1", &err), &err);
    CHECK_OK(members_set_link(b, "b:1", &err), &err);
    struct row_control silent = {.id = "control-c", .run = "x"};
    CHECK_OK(store_write(w.store, w.arena, put_txn, &silent, &err), &err);
    struct links l = {.members = b};
    CHECK_OK(store_read(w.store, w.arena, links_txn, &l, &err), &err);
    CHECK_EQ(l.list.count, 2);
    CHECK_STR(((const char **)l.list.items)[0], "b:1");
    CHECK_STR(((const char **)l.list.items)[1], "a:1");
    members_close(a);
    members_close(b);
    world_fini(&w);
}
