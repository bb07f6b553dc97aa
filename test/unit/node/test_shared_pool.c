/* test_shared_pool.c - disks in a folder that two nodes see. */
#include "test.h"

#include "base/file.h"
#include "node/disk/disk.h"

#include <sys/stat.h>

#define DISK "vol-00000000000000001"

/* One node's disks, and what they said last. */
struct node {
    uv_loop_t loop;
    struct disks *disks;
    char state[16], message[120];
};

static bool
no(void *ctx UNUSED, const char *id UNUSED)
{
    return false;
}

static void
changed(void *ctx UNUSED)
{
}

static void
event(void *ctx UNUSED, const char *kind UNUSED, const char *object UNUSED,
      const char *level UNUSED, const char *message UNUSED)
{
    fail_msg("nothing in a shared pool is worth an event");
}

static void
node_open(struct node *n, const char *dir, const char *shared)
{
    struct err err = {0};
    const struct disks_config config = {
        .loop = &n->loop,
        .dir = dir,
        .blobs_dir = "blobs",
        .shared_dir = shared,
        .node_id = strrchr(dir, '/') + 1,
        .rng = &rng_system,
        .clock = &clock_system,
        .host = {.blob_ready = no, .in_use = no, .changed = changed, .event = event},
    };
    CHECK_EQ(uv_loop_init(&n->loop), 0);
    n->disks = disks_open(&config, &err);
    CHECK_OK(n->disks != NULL, &err);
    disks_complete(n->disks);
}

static void
node_close(struct node *n)
{
    disks_close(n->disks);
    (void)uv_run(&n->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&n->loop), 0);
}

static void
see(void *ctx, const struct link_disk_seen *seen)
{
    struct node *n = ctx;
    CHECK_STR(seen->id, DISK);
    snprintf(n->state, sizeof n->state, "%s", seen->state);
    snprintf(n->message, sizeof n->message, "%s", seen->message);
}

static const char *
pass(struct node *n)
{
    AUTO(arena) struct arena *arena = arena_create();
    int64_t wake;
    disks_pass(n->disks, &wake);
    (void)uv_run(&n->loop, UV_RUN_DEFAULT); /* Until the file is made. */
    disks_pass(n->disks, &wake);
    disks_seen(n->disks, arena, see, n);
    return n->state;
}

static void
want(struct node *n, const char *pool, bool made, bool deleted, bool erase)
{
    const struct link_disk record = {.id = DISK,
                                     .generation = 1,
                                     .size_bytes = (int64_t)MIB,
                                     .tier = pool,
                                     .made = made,
                                     .erase = erase};
    disks_want(n->disks, &record, deleted);
}

TEST(disks_of_a_shared_pool_go_from_node_to_node_and_end_by_erasure_alone)
{
    struct err err = {0};
    char dir[] = "/tmp/moln-unit-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    AUTO(free) char *shared = xasprintf("%s/shared", dir);
    AUTO(free) char *first_dir = xasprintf("%s/first", dir);
    AUTO(free) char *second_dir = xasprintf("%s/second", dir);
    AUTO(free) char *file = xasprintf("%s/" DISK ".qcow2", shared);
    struct node first = {0}, second = {0};
    CHECK_OK(dir_make(shared, 0700, &err), &err);
    node_open(&first, first_dir, shared);
    AUTO(free) char *pool = xstrdup(disks_shared_pool(first.disks)); /* Outlives it. */
    want(&first, pool, false, false, false);
    CHECK_STR(pass(&first), "ready");
    CHECK(file_exists(file));

    /* Another node finds what is in the pool only when it is wanted there. */
    node_open(&second, second_dir, shared);
    CHECK_STR(disks_shared_pool(second.disks), pool);
    (void)pass(&second);
    CHECK_STR(second.state, "");
    want(&second, pool, true, false, false);
    CHECK_STR(pass(&second), "ready");

    /* The first loses its part; the file stays. */
    want(&first, pool, true, true, false);
    CHECK_STR(pass(&first), "absent");
    CHECK(file_exists(file));
    node_close(&first);

    want(&second, pool, true, true, true);
    CHECK_STR(pass(&second), "absent");
    CHECK(!file_exists(file));
    node_close(&second);
    CHECK_OK(dir_remove(dir, &err), &err);
}

/* One that was cut off may make it when another has it already, and a guest on it. */
TEST(disks_of_a_shared_pool_are_made_by_whoever_comes_first)
{
    struct err err = {0};
    char dir[] = "/tmp/moln-unit-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    AUTO(free) char *shared = xasprintf("%s/shared", dir);
    AUTO(free) char *first_dir = xasprintf("%s/first", dir);
    AUTO(free) char *second_dir = xasprintf("%s/second", dir);
    AUTO(free) char *file = xasprintf("%s/" DISK ".qcow2", shared);
    struct node first = {0}, second = {0};
    struct stat before, after;
    CHECK_OK(dir_make(shared, 0700, &err), &err);
    node_open(&first, first_dir, shared);
    node_open(&second, second_dir, shared);
    AUTO(free) char *pool = xstrdup(disks_shared_pool(first.disks));
    want(&first, pool, false, false, false); /* Both look, and find nothing. */
    want(&second, pool, false, false, false);
    int64_t wake;
    disks_pass(second.disks, &wake); /* It begins; who ends first is chance. */
    CHECK_STR(pass(&first), "ready");
    CHECK_EQ(stat(file, &before), 0);
    CHECK_STR(pass(&second), "ready");
    CHECK_EQ(stat(file, &after), 0);
    CHECK_EQ(before.st_ino, after.st_ino);
    node_close(&first);
    node_close(&second);
    CHECK_OK(dir_remove(dir, &err), &err);
}

TEST(disks_of_a_shared_pool_that_is_out_of_sight_are_missed_and_not_made_anew)
{
    struct err err = {0};
    char dir[] = "/tmp/moln-unit-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    AUTO(free) char *shared = xasprintf("%s/shared", dir);
    AUTO(free) char *own = xasprintf("%s/own", dir);
    AUTO(free) char *file = xasprintf("%s/" DISK ".qcow2", shared);
    struct node n = {0};
    CHECK_OK(dir_make(shared, 0700, &err), &err);
    node_open(&n, own, shared);
    /* The right folder without the file, and the wrong folder in its place. */
    want(&n, disks_shared_pool(n.disks), true, false, false);
    CHECK_STR(pass(&n), "error");
    CHECK(strstr(n.message, "mounted"));
    want(&n, "pool-0123456789abcdef", false, false, false);
    CHECK_STR(pass(&n), "error");
    CHECK(strstr(n.message, "no pool"));
    CHECK(!file_exists(file));
    node_close(&n);
    CHECK_OK(dir_remove(dir, &err), &err);
}
