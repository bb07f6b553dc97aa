/* test_janitor.c - what goes when its time is over, and what stays. */
#include "control/client_tokens.h"
#include "control/janitor.h"
#include "core/lifecycle.h"
#include "link/link.h"
#include "stage.h"

#define ACCOUNT "111122223333"
#define PEER "444455556666"
#define HOUR_NS (3600 * NS_PER_S)
#define NOW_NS (1000 * 24 * HOUR_NS)
#define TOKENS 5000 /* More than go in one transaction. */

struct kept {
    const struct row_type *type;
    size_t count;
};

static bool
do_count(struct pass *pass, void *ctx, struct err *err)
{
    struct kept *kept = ctx;
    const struct row_query all = {0};
    struct row_list list;
    if (!row_list(pass->txn, kept->type, &all, &list, err)) {
        return false;
    }
    kept->count = list.count;
    return true;
}

static size_t
count(struct stage *s, const struct row_type *type)
{
    struct kept kept = {.type = type};
    stage_run(s, do_count, &kept);
    return kept.count;
}

static void
forget(struct stage *s, int64_t now_ns)
{
    struct err err = {0};
    CHECK_OK(janitor_forget(s->store, now_ns, &err), &err);
}

static bool
do_tokens(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    for (int i = 0; i < TOKENS; i++) {
        const struct row_client_token old = {
            .account = ACCOUNT,
            .region = "us-east-1",
            .operation = "RunInstances",
            .token = arena_printf(txn_arena(pass->txn), "token-%d", i),
            .at = i ? NOW_NS - 49 * HOUR_NS : NOW_NS - 47 * HOUR_NS,
        };
        if (!row_put(pass->txn, &row_client_token_type, &old, err)) {
            return false;
        }
    }
    return true;
}

/* However many came since the last round: else there were ever more of them. */
TEST(janitor_forgets_all_that_is_past_in_one_round)
{
    struct stage s;
    stage_open(&s);
    stage_run(&s, do_tokens, NULL);
    forget(&s, NOW_NS);
    CHECK_EQ(count(&s, &row_client_token_type), 1);
    stage_close(&s);
}

/* One account has made 200 more than are kept, half of those long enough ago; another has one
 * that is older. */
static bool
do_many_tokens(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const int64_t minute = 60 * NS_PER_S;
    bool ok = true;
    for (size_t i = 0; ok && i < CLIENT_TOKENS_MAX + 200; i++) {
        const struct row_client_token t = {
            .account = ACCOUNT,
            .region = i % 2 ? "us-east-1" : "us-west-2",
            .operation = "RunInstances",
            .token = arena_printf(txn_arena(pass->txn), "token-%zu", i),
            .at = NOW_NS - (i < 100 ? 11 * minute : minute) + (int64_t)i,
        };
        ok = row_put(pass->txn, &row_client_token_type, &t, err);
    }
    const struct row_client_token other = {.account = PEER,
                                           .region = "us-east-1",
                                           .operation = "RunInstances",
                                           .token = "token-0",
                                           .at = NOW_NS - 40 * HOUR_NS};
    return ok && row_put(pass->txn, &row_client_token_type, &other, err);
}

/* Whoever makes and deletes things for ever keeps no more tokens than so many, beside those
 * with which a client could still try again; nobody else's go for them. */
TEST(janitor_bounds_the_client_tokens_of_an_account)
{
    struct stage s;
    stage_open(&s);
    stage_run(&s, do_many_tokens, NULL);
    forget(&s, NOW_NS);
    CHECK_EQ(count(&s, &row_client_token_type), CLIENT_TOKENS_MAX + 100 + 1);
    forget(&s, NOW_NS + CLIENT_TOKENS_LEAST_NS);
    CHECK_EQ(count(&s, &row_client_token_type), CLIENT_TOKENS_MAX + 1);
    stage_close(&s);
}

/* One that has just ended, and one that stands, of each kind. */
static bool
do_ended(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_vpc_peering peerings[] = {{.account = ACCOUNT,
                                                .id = "pcx-1",
                                                .region = "us-east-1",
                                                .peer_account = PEER,
                                                .state = "deleted",
                                                .ended_at = NOW_NS},
                                               {.account = ACCOUNT,
                                                .id = "pcx-2",
                                                .region = "us-east-1",
                                                .peer_account = PEER,
                                                .state = "pending-acceptance",
                                                .expires_at = NOW_NS},
                                               {.account = ACCOUNT,
                                                .id = "pcx-3",
                                                .region = "us-east-1",
                                                .peer_account = PEER,
                                                .state = "active",
                                                .expires_at = NOW_NS}};
    const struct row_dedicated_host hosts[] = {
        {.account = ACCOUNT, .id = "h-1", .region = "us-east-1", .released_at = NOW_NS},
        {.account = ACCOUNT, .id = "h-2", .region = "us-east-1"}};
    const struct row_root_task tasks[] = {
        {.account = ACCOUNT,
         .id = "replacevol-1",
         .region = "us-east-1",
         .completed_at = NOW_NS},
        {.account = ACCOUNT, .id = "replacevol-2", .region = "us-east-1"}};
    const struct row_import_task imports[] = {{.account = ACCOUNT,
                                               .id = "import-ami-1",
                                               .region = "us-east-1",
                                               .state = "completed",
                                               .created_at = NOW_NS},
                                              {.account = ACCOUNT,
                                               .id = "import-ami-2",
                                               .region = "us-east-1",
                                               .state = "active",
                                               .created_at = NOW_NS}};
    const struct row_tag tags[] = {{.account = ACCOUNT,
                                    .region = "us-east-1",
                                    .resource_id = "pcx-1",
                                    .tag_key = "k"},
                                   {.account = PEER,
                                    .region = "us-east-1",
                                    .resource_id = "pcx-1",
                                    .tag_key = "k"},
                                   {.account = ACCOUNT,
                                    .region = "us-east-1",
                                    .resource_id = "h-2",
                                    .tag_key = "k"}};
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(peerings); i++) {
        ok = row_put(pass->txn, &row_vpc_peering_type, &peerings[i], err) &&
             row_put(pass->txn, &row_tag_type, &tags[i], err);
    }
    for (size_t i = 0; ok && i < ARRAY_LEN(hosts); i++) {
        ok = row_put(pass->txn, &row_dedicated_host_type, &hosts[i], err) &&
             row_put(pass->txn, &row_root_task_type, &tasks[i], err) &&
             row_put(pass->txn, &row_import_task_type, &imports[i], err);
    }
    return ok;
}

TEST(janitor_forgets_what_ended_when_nobody_sees_it_any_more)
{
    static const struct row_type *const types[] = {
        &row_vpc_peering_type, &row_dedicated_host_type, &row_root_task_type,
        &row_import_task_type, &row_tag_type};
    /* How many are left, by the hours that have gone by. */
    static const struct {
        int64_t hours;
        size_t left[ARRAY_LEN(types)];
    } steps[] = {
        {0, {3, 2, 2, 2, 3}},  {1, {3, 1, 2, 2, 3}},      {2, {2, 1, 2, 2, 1}},
        {48, {1, 1, 2, 2, 1}}, {7 * 24, {1, 1, 1, 1, 1}}, {9999, {1, 1, 1, 1, 1}},
    };
    struct stage s;
    stage_open(&s);
    stage_run(&s, do_ended, NULL);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        forget(&s, NOW_NS + steps[i].hours * HOUR_NS);
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            CHECK_EQ(count(&s, types[k]), steps[i].left[k]);
        }
    }
    stage_close(&s);
}

static const struct row_image image = {.id = "ami-1",
                                       .account = ACCOUNT,
                                       .region = "us-east-1",
                                       .state = "deregistered",
                                       .source_instance = "i-1",
                                       .job_id = "ami-1",
                                       .job_node = "node-1"};
static const struct row_node_want job = {
    .node_id = "node-1", .kind = LINK_BLOB_JOB, .id = "ami-1", .account = ACCOUNT};

static bool
do_image(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance held = {
        .account = ACCOUNT, .id = "i-1", .region = "us-east-1", .held_by = "ami-1"};
    return row_put(pass->txn, &row_image_type, &image, err) &&
           row_put(pass->txn, &row_node_want_type, &job, err) &&
           row_put(pass->txn, &row_instance_type, &held, err);
}

static bool
do_let_go(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_instance free = {
        .account = ACCOUNT, .id = "i-1", .region = "us-east-1"};
    return row_put(pass->txn, &row_instance_type, &free, err);
}

static bool
do_job_end(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return row_delete(pass->txn, &row_node_want_type, &job, err);
}

/* Until then its instance could not be let go, nor its node's copy be ended. */
TEST(janitor_keeps_a_deregistered_image_while_its_copy_is_made)
{
    struct stage s;
    stage_open(&s);
    stage_run(&s, do_image, NULL);
    forget(&s, NOW_NS);
    CHECK_EQ(count(&s, &row_image_type), 1);
    stage_run(&s, do_let_go, NULL);
    forget(&s, NOW_NS);
    CHECK_EQ(count(&s, &row_image_type), 1);
    stage_run(&s, do_job_end, NULL);
    forget(&s, NOW_NS);
    CHECK_EQ(count(&s, &row_image_type), 0);
    stage_close(&s);
}
