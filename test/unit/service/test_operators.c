/* test_operators.c - the operators' service: accounts, keys, nodes, images, records. */
#include "operation.h"

static const char *
account_make(struct ec2 *e, const char *name)
{
    struct err err;
    struct moln_create_account_response out;
    const struct moln_create_account_request in = {.name = name};
    CHECK_OK(MOLN(e, "CreateAccount", &in, &out, &err), &err);
    return out.account->account_id;
}

TEST(account_is_made_with_a_default_vpc_and_deleted_when_it_owns_nothing)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_vpcs_result vpcs;
    struct ec2_key_pair pair;
    struct moln_delete_account_response gone;
    const struct ec2_describe_vpcs_request ask = {0};
    const struct ec2_create_key_pair_request key = {.key_name = "k",
                                                    .key_type = "ed25519"};
    const struct ec2_delete_key_pair_request no_key = {.key_name = "k"};
    ec2_init(&e);
    const char *id = account_make(&e, "team");
    const struct moln_delete_account_request del = {.account_id = id};
    CHECK_EQ(strlen(id), 12);
    e.account = id;
    CHECK_OK(EC2(&e, "DescribeVpcs", &ask, &vpcs, &err), &err);
    CHECK_EQ(vpcs.vpcs.count, 1);
    CHECK_OK(EC2(&e, "CreateKeyPair", &key, &pair, &err), &err);
    CHECK(!MOLN(&e, "DeleteAccount", &del, &gone, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    CHECK_OK(EC2_DO(&e, "DeleteKeyPair", &no_key, &err), &err);
    CHECK_OK(MOLN(&e, "DeleteAccount", &del, &gone, &err), &err);
    CHECK(!MOLN(&e, "DeleteAccount", &del, &gone, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_NOT_FOUND);
    CHECK_OK(EC2(&e, "DescribeVpcs", &ask, &vpcs, &err), &err);
    CHECK_EQ(vpcs.vpcs.count, 0);
    ec2_fini(&e);
}

TEST(access_keys_are_two_at_a_time_and_rotate)
{
    struct ec2 e;
    struct err err;
    struct moln_create_access_key_response first, second;
    struct moln_delete_access_key_response gone;
    struct moln_rotate_access_key_response rotated;
    struct moln_list_access_keys_response list;
    ec2_init(&e);
    const char *id = account_make(&e, "team");
    const struct moln_create_access_key_request in = {.account_id = id};
    CHECK_OK(MOLN(&e, "CreateAccessKey", &in, &first, &err), &err);
    CHECK(str_starts(first.access_key->access_key_id, "AKIA"));
    CHECK_EQ(strlen(first.access_key->secret_access_key), 40);
    CHECK_OK(MOLN(&e, "CreateAccessKey", &in, &second, &err), &err);
    CHECK(!MOLN(&e, "CreateAccessKey", &in, &second, &err));
    CHECK_EQ(err.code, ERR_LIMIT_EXCEEDED);

    const struct moln_list_access_keys_request all = {.account_id = id};
    CHECK_OK(MOLN(&e, "ListAccessKeys", &all, &list, &err), &err);
    CHECK_EQ(list.access_keys.count, 2);
    const char *old = first.access_key->access_key_id;
    const char *other = str_eq(list.access_keys.items[0].access_key_id, old)
                            ? list.access_keys.items[1].access_key_id
                            : list.access_keys.items[0].access_key_id;
    const struct moln_delete_access_key_request drop = {.access_key_id = other};
    CHECK_OK(MOLN(&e, "DeleteAccessKey", &drop, &gone, &err), &err);
    const struct moln_rotate_access_key_request rotate = {.access_key_id = old};
    CHECK_OK(MOLN(&e, "RotateAccessKey", &rotate, &rotated, &err), &err);
    CHECK_STR(rotated.deactivated->access_key_id, old);
    CHECK_STR(rotated.deactivated->state, "inactive");
    CHECK(!str_eq(rotated.access_key->access_key_id, old));
    ec2_fini(&e);
}

TEST(operator_keys_keep_one_active)
{
    struct ec2 e;
    struct err err;
    struct moln_create_operator_key_response a, b;
    struct moln_deactivate_operator_key_response off;
    const struct moln_create_operator_key_request in = {.name = "ops"};
    ec2_init(&e);
    CHECK_OK(MOLN(&e, "CreateOperatorKey", &in, &a, &err), &err);
    CHECK_OK(MOLN(&e, "CreateOperatorKey", &in, &b, &err), &err);
    CHECK(str_starts(a.access_key->access_key_id, "MOLN"));
    struct moln_deactivate_operator_key_request drop = {
        .access_key_id = a.access_key->access_key_id};
    CHECK_OK(MOLN(&e, "DeactivateOperatorKey", &drop, &off, &err), &err);
    drop.access_key_id = b.access_key->access_key_id;
    CHECK(!MOLN(&e, "DeactivateOperatorKey", &drop, &off, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    /* A tenant's calls cannot name an operator's key. */
    struct moln_delete_access_key_response gone;
    const struct moln_delete_access_key_request other = {
        .access_key_id = b.access_key->access_key_id};
    CHECK(!MOLN(&e, "DeleteAccessKey", &other, &gone, &err));
    ec2_fini(&e);
}

TEST(nodes_are_listed_cordoned_and_revoked)
{
    struct ec2 e;
    struct err err;
    struct moln_list_nodes_response list;
    struct moln_cordon_node_response cordoned;
    struct moln_revoke_node_response revoked;
    struct moln_get_status_response status;
    const struct moln_list_nodes_request page = {.max_results = 1,
                                                 .has_max_results = true};
    const struct moln_get_status_request ask = {0};
    ec2_init(&e);
    CHECK_OK(MOLN(&e, "ListNodes", &page, &list, &err), &err);
    CHECK_EQ(list.nodes.count, 1);
    CHECK(list.next_token != NULL);
    CHECK_OK(MOLN(&e, "GetStatus", &ask, &status, &err), &err);
    CHECK_EQ(status.nodes, 2);
    CHECK_EQ(status.capacity_vcpus, 2 * HOST_VCPUS);
    const struct moln_cordon_node_request cordon = {.node_id = "node-a"};
    CHECK_OK(MOLN(&e, "CordonNode", &cordon, &cordoned, &err), &err);
    CHECK(cordoned.node->cordoned);
    const struct moln_revoke_node_request revoke = {.node_id = "node-a"};
    CHECK_OK(MOLN(&e, "RevokeNode", &revoke, &revoked, &err), &err);
    CHECK_OK(MOLN(&e, "GetStatus", &ask, &status, &err), &err);
    CHECK_EQ(status.nodes, 1);
    ec2_fini(&e);
}

TEST(platform_image_is_pending_public_and_imported_by_a_task)
{
    struct ec2 e;
    struct err err;
    struct moln_import_platform_image_response out;
    struct moln_list_platform_images_response list;
    const char *const uploads[] = {"blob-0000000000000000a", "blob-0000000000000000b"};
    ec2_init(&e);
    for (size_t i = 0; i < ARRAY_LEN(uploads); i++) {
        const struct row_blob row = {
            .id = uploads[i], .account = "operator", .state = "ready", .upload = true};
        put_row(&e, &row_blob_type, &row);
    }
    struct moln_import_platform_image_request in = {
        .name = "micro-2", .disk_upload = uploads[0], .kernel_upload = uploads[1]};
    CHECK_OK(MOLN(&e, "ImportPlatformImage", &in, &out, &err), &err);
    CHECK_STR(out.image->state, "pending");
    CHECK_STR(out.image->boot_mode, "direct");
    const struct row_blob key = {.id = uploads[1]};
    const struct row_blob *kernel = get_row(&e, &row_blob_type, &key);
    CHECK(!kernel->upload);
    CHECK_STR(kernel->format, "raw");
    const struct moln_list_platform_images_request all = {0};
    CHECK_OK(MOLN(&e, "ListPlatformImages", &all, &list, &err), &err);
    CHECK_EQ(list.images.count, 2); /* With the fixture's. */
    CHECK(!MOLN(&e, "ImportPlatformImage", &in, &out, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    ec2_fini(&e);
}

TEST(audit_records_page_over_days)
{
    struct ec2 e;
    struct err err;
    struct moln_list_audit_records_response out;
    struct moln_list_audit_records_request in = {.from_day = "2026-01-01",
                                                 .to_day = "2026-01-03",
                                                 .max_results = 2,
                                                 .has_max_results = true};
    static const char *const days[] = {"2026-01-01", "2026-01-02", "2026-01-03",
                                       "2026-01-04"};
    size_t seen = 0;
    ec2_init(&e);
    for (size_t i = 0; i < 8; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "r%zu", i);
        const struct row_audit row = {.day = days[i / 2],
                                      .id = id,
                                      .at = 1,
                                      .account = i % 2 ? ACCOUNT : STRANGER,
                                      .service = "ec2",
                                      .operation = "RunInstances"};
        put_row(&e, &row_audit_type, &row);
    }
    do {
        CHECK_OK(MOLN(&e, "ListAuditRecords", &in, &out, &err), &err);
        seen += out.records.count;
        in.next_token = out.next_token;
    } while (out.next_token);
    CHECK_EQ(seen, 6);
    in.account_id = STRANGER;
    CHECK_OK(MOLN(&e, "ListAuditRecords", &in, &out, &err), &err);
    CHECK_EQ(out.records.count, 2);
    in.from_day = "2026-13-45";
    CHECK(!MOLN(&e, "ListAuditRecords", &in, &out, &err));
    CHECK_EQ(err.code, ERR_VALIDATION);
    ec2_fini(&e);
}

/* ---- hosts and placement ---- */

TEST(node_is_described_changed_and_its_hardware_accepted)
{
    struct ec2 e;
    struct err err;
    struct moln_update_node_response changed;
    struct moln_accept_node_response accepted;
    const char *labels[] = {"ssd", "l4", "ssd"};
    struct moln_update_node_request set = {
        .node_id = "node-a", .rack = "r1", .cost = 7, .has_cost = true};
    const struct moln_accept_node_request accept = {.node_id = "node-a"};
    ec2_init(&e);
    set.labels.items = labels;
    set.labels.count = 3;
    CHECK_OK(MOLN(&e, "UpdateNode", &set, &changed, &err), &err);
    CHECK_STR(changed.node->rack, "r1");
    CHECK_EQ(changed.node->labels.count, 2);
    CHECK_STR(changed.node->labels.items[0], "l4");
    set = (struct moln_update_node_request){.node_id = "node-a", .segment = "s1"};
    CHECK_OK(MOLN(&e, "UpdateNode", &set, &changed, &err), &err);
    CHECK_STR(changed.node->rack, "r1"); /* What is absent stays. */
    CHECK_EQ(changed.node->cost, 7);
    CHECK_EQ(changed.node->labels.count, 2);
    set = (struct moln_update_node_request){
        .node_id = "node-a", .rack = "", .clear_labels = true};
    CHECK_OK(MOLN(&e, "UpdateNode", &set, &changed, &err), &err);
    CHECK_NULL(changed.node->rack);
    CHECK_EQ(changed.node->labels.count, 0);
    CHECK_OK(MOLN(&e, "AcceptNode", &accept, &accepted, &err), &err);
    CHECK_NULL(accepted.node->quarantine);
    ec2_fini(&e);
}

TEST(node_is_kept_for_one_account_that_alone_is_there)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation launched;
    struct moln_update_node_response changed;
    const struct ec2_run_instances_request launch = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    ec2_init(&e);
    const char *account = account_make(&e, "alone");
    struct moln_update_node_request mark = {.node_id = "node-a",
                                            .single_account = "999999999999"};
    CHECK(!MOLN(&e, "UpdateNode", &mark, &changed, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_NOT_FOUND);
    mark.single_account = account;
    CHECK_OK(MOLN(&e, "UpdateNode", &mark, &changed, &err), &err);
    CHECK_STR(changed.node->single_account, account);

    /* Others are placed elsewhere, and keep a host from being marked. */
    for (int i = 0; i < 4; i++) {
        CHECK_OK(EC2(&e, "RunInstances", &launch, &launched, &err), &err);
    }
    CHECK(!EC2(&e, "RunInstances", &launch, &launched, &err));
    CHECK_EQ(err.code, ERR_INSTANCE_CAPACITY);
    mark.node_id = "node-b";
    CHECK(!MOLN(&e, "UpdateNode", &mark, &changed, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    CHECK(strstr(err.msg, "4 instances") && strstr(err.msg, "node-b"));

    mark = (struct moln_update_node_request){.node_id = "node-a", .single_account = ""};
    CHECK_OK(MOLN(&e, "UpdateNode", &mark, &changed, &err), &err);
    CHECK_NULL(changed.node->single_account);
    CHECK_OK(EC2(&e, "RunInstances", &launch, &launched, &err), &err);
    ec2_fini(&e);
}

/* 'in' is the state of one that goes from node-b. */
static bool
put_migration(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct row_migration m = {.id = "migration-1",
                                    .vpc_id = "vpc-1",
                                    .from_node = "node-b",
                                    .to_node = "node-a",
                                    .state = in};
    return row_put(call->txn, &row_migration_type, &m, err);
}

TEST(node_is_removed_when_it_is_revoked_and_empty)
{
    struct ec2 e;
    struct err err;
    struct ec2_reservation launched;
    struct moln_remove_node_response gone;
    struct moln_revoke_node_response revoked;
    struct moln_list_nodes_response left;
    const struct moln_list_nodes_request all = {0};
    const struct moln_remove_node_request rm[] = {{.node_id = "node-a"},
                                                  {.node_id = "node-b"}};
    const struct moln_revoke_node_request revoke[] = {{.node_id = "node-a"},
                                                      {.node_id = "node-b"}};
    const struct ec2_run_instances_request run = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 1, .max_count = 1};
    ec2_init(&e);
    CHECK_OK(EC2(&e, "RunInstances", &run, &launched, &err), &err);
    CHECK(!MOLN(&e, "RemoveNode", &rm[1], &gone, &err)); /* Active. */
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    CHECK_OK(MOLN(&e, "RevokeNode", &revoke[0], &revoked, &err), &err);
    CHECK_OK(MOLN(&e, "RevokeNode", &revoke[1], &revoked, &err), &err);
    /* The instance went to the first host. */
    CHECK(!MOLN(&e, "RemoveNode", &rm[0], &gone, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    CHECK_OK(ec2_step(&e, "migrate", put_migration, "switching", NULL, 0, &err), &err);
    CHECK(!MOLN(&e, "RemoveNode", &rm[1], &gone, &err)); /* Wanted of it still. */
    CHECK_EQ(err.code, ERR_RESOURCE_IN_USE);
    CHECK_OK(ec2_step(&e, "migrate", put_migration, "done", NULL, 0, &err), &err);
    CHECK_OK(MOLN(&e, "RemoveNode", &rm[1], &gone, &err), &err);
    CHECK(!MOLN(&e, "RemoveNode", &rm[1], &gone, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_NOT_FOUND);
    CHECK_OK(MOLN(&e, "ListNodes", &all, &left, &err), &err);
    CHECK_EQ(left.nodes.count, 1);
    ec2_fini(&e);
}

TEST(placement_is_explained_and_nothing_is_promised)
{
    struct ec2 e;
    struct err err;
    struct moln_explain_placement_response out;
    const struct moln_explain_placement_request in = {
        .instance_type = "m5.large", .count = 9, .has_count = true};
    const struct moln_explain_placement_request unknown = {.instance_type =
                                                               "m99.large"};
    ec2_init(&e);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(MOLN(&e, "ExplainPlacement", &in, &out, &err), &err);
        CHECK_EQ(out.placed, 8);
        CHECK_EQ(out.node_ids.count, 8);
    }
    CHECK_STR(out.reasons,
              "us-east-1a: 2 emulated hosts: 2 lack vCPUs (the nearest by 2)");
    CHECK(!MOLN(&e, "ExplainPlacement", &unknown, &out, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_NOT_FOUND);
    ec2_fini(&e);
}
