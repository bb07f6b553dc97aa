/* test_older.c - a database of the first version's is opened by this one, and on PostgreSQL
 * the first goes on beside it. */
#include "fixture.h"
#include "older_rows.h"
#include "store/rows.h"

#define ACCOUNT "123456789012"
#define INSTANCE "i-0123456789abcdef0"
#define NODE "node-0123456789abcdef0"

static void
open_as(struct fixture *f, const struct row_type *const *types, size_t count)
{
    struct err err;
    const struct store_config config = {.url = f->url,
                                        .types = types,
                                        .type_count = count,
                                        .master_key = f->key,
                                        .rng = &rng_system,
                                        .clock = &clock_system};
    f->store = store_open(&config, &err);
    CHECK_OK(f->store != NULL, &err);
}

/* What a small cloud of then had: a host, its wants, an instance with a secret. */
static void
fill(struct fixture *old)
{
    const uint8_t body[] = {1, 2, 3};
    const char *enis[] = {"eni-1", "eni-2"};
    struct older_instance instance = {
        .account = ACCOUNT,
        .id = INSTANCE,
        .region = "us-east-1",
        .want_state = "running",
        .generation = 7,
        .node_id = NODE,
        .user_data = {body, sizeof body},
        .auto_recovery = "default",
        .eni_ids = {enis, 2},
    };
    struct older_node node = {.id = NODE, .region = "us-east-1", .state = "active"};
    struct older_node_want want = {.node_id = NODE,
                                   .kind = 2,
                                   .id = INSTANCE,
                                   .revision = 5,
                                   .body = {body, sizeof body}};
    fixture_put(old, &older_instance_type, &instance);
    fixture_put(old, &older_node_type, &node);
    fixture_put(old, &older_node_want_type, &want);
}

static const struct row_instance *
instance_of(struct fixture *f)
{
    return fixture_get(f, &row_instance_type,
                       &(struct row_instance){.account = ACCOUNT, .id = INSTANCE});
}

static void
check_rows(struct fixture *new)
{
    const struct row_instance *instance = instance_of(new);
    CHECK(instance != NULL);
    CHECK_STR(instance->want_state, "running");
    CHECK_EQ(instance->generation, 7);
    CHECK_EQ(instance->user_data.len, 3); /* It is sealed in the database. */
    CHECK_EQ(instance->eni_ids.count, 2);
    CHECK_STR(instance->eni_ids.items[1], "eni-2");
    CHECK(!instance->recover); /* What nobody knew of then is empty. */
    CHECK_NULL(instance->migration_id);

    const struct row_node_want key = {.node_id = NODE, .kind = 2, .id = INSTANCE};
    const struct row_node_want *want = fixture_get(new, &row_node_want_type, &key);
    CHECK_EQ(want->revision, 5);
    CHECK_EQ(want->body.len, 3);
    CHECK_EQ(want->digest.len, 0);
    CHECK_NULL(want->scope);

    /* Indexes that are newer than the rows find them, too. */
    const struct row_node_want scope = {.node_id = NODE};
    const struct row_query by_scope = {
        .index = "by_scope", .prefix = &scope, .prefix_fields = 2};
    CHECK_EQ(fixture_list(new, &row_node_want_type, &by_scope).count, 1);
    const struct row_control nobody = {.id =
                                           "nobody"}; /* A table that there was not. */
    CHECK_NULL(fixture_get(new, &row_control_type, &nobody));
}

TEST(store_of_the_first_version_is_opened_with_all_its_rows)
{
    struct fixture f;
    fixture_init(&f);
    store_close(f.store);
    open_as(&f, older_types, OLDER_TYPES);
    fill(&f);
    for (int i = 0; i < 2; i++) {
        store_close(f.store);
        open_as(&f, row_types, ROW_TYPES);
        check_rows(&f);
    }
    struct row_instance next = *instance_of(&f);
    next.migration_id = "migration-1";
    fixture_put(&f, &row_instance_type, &next);
    store_close(f.store);
    open_as(&f, row_types, ROW_TYPES);
    CHECK_STR(instance_of(&f)->migration_id, "migration-1");
    fixture_fini(&f);
}

/* An upgrade of one process after another: each writes what the other reads, and nothing is
 * lost that only the newer knows of. */
TEST(store_of_the_first_version_goes_on_beside_this_one)
{
    struct fixture old, new;
    if (!postgres_url()) {
        return; /* SQLite has one process. */
    }
    fixture_init(&old);
    store_close(old.store);
    open_as(&old, older_types, OLDER_TYPES);
    fill(&old);
    new = old;
    new.arena = arena_create();
    open_as(&new, row_types, ROW_TYPES);
    check_rows(&new);

    struct row_instance ours = *instance_of(&new);
    ours.migration_id = "migration-1";
    ours.generation = 8;
    fixture_put(&new, &row_instance_type, &ours);
    const struct older_instance *seen =
        fixture_get(&old, &older_instance_type,
                    &(struct older_instance){.account = ACCOUNT, .id = INSTANCE});
    CHECK_EQ(seen->generation, 8);
    CHECK_STR(seen->auto_recovery, "default"); /* Retired since: nobody touched it. */

    struct older_instance theirs = *seen;
    theirs.generation = 9;
    fixture_put(&old, &older_instance_type, &theirs);
    CHECK_EQ(instance_of(&new)->generation, 9);
    CHECK_STR(instance_of(&new)->migration_id, "migration-1");
    fixture_delete(&old, &older_instance_type, &theirs);
    CHECK_NULL(instance_of(&new));
    store_close(new.store);
    arena_destroy(new.arena);
    fixture_fini(&old);
}
