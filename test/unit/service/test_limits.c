/* test_limits.c - how much a tenant may make of what costs nothing to make. */
#include "operation.h"
#include "service/ec2/network.h"
#include "service/ec2/templates.h"

#define KEYS_MAX 5000
#define IMAGES_MAX 10000
#define SNAPSHOT "snap-0123456789abcdef1"

/* 'count' rows of one kind, made by 'make' of their number. */
struct many {
    const struct row_type *type;
    size_t count;
    const void *(*make)(struct arena *arena, size_t number);
};

static bool
many_step(struct call *call, const void *in, void *out UNUSED, struct err *err)
{
    const struct many *many = in;
    for (size_t i = 0; i < many->count; i++) {
        if (!row_put(call->txn, many->type, many->make(call->arena, i), err)) {
            return false;
        }
    }
    return true;
}

static void
put_many(struct ec2 *e, const struct many *many)
{
    struct err err;
    CHECK_OK(ec2_step(e, "put", many_step, many, NULL, 0, &err), &err);
}

static const char *
numbered(struct arena *arena, const char *prefix, size_t number)
{
    return arena_printf(arena, "%s-%017zx", prefix, number);
}

#define MAKER(NAME, ...) \
    static const void *make_##NAME(struct arena *arena, size_t number) \
    { \
        struct row_##NAME *row = ARENA_NEW(arena, struct row_##NAME); \
        *row = (struct row_##NAME){ \
            .account = ACCOUNT, .region = "us-east-1", __VA_ARGS__}; \
        return row; \
    }

MAKER(key_pair, .name = numbered(arena, "key", number),
      .id = numbered(arena, "key", number))
MAKER(launch_template, .name = numbered(arena, "lt", number),
      .id = numbered(arena, "lt", number))
MAKER(dhcp_options, .id = numbered(arena, "dopt", number))
MAKER(prefix_list, .id = numbered(arena, "pl", number))
MAKER(image, .id = numbered(arena, "ami", number), .state = "available",
      .name = numbered(arena, "image", number))
MAKER(vpc_peering, .id = numbered(arena, "pcx", number), .peer_account = STRANGER,
      .peer_region = "us-east-1", .state = "pending-acceptance",
      .vpc_id = "vpc-0123456789abcdef1", .expires_at = INT64_MAX)

/* With one less than there may be one more is made, and no other. */
#define CHECK_LIMIT(e, name, in, out, code_) \
    do { \
        struct err err_; \
        CHECK_OK(EC2((e), (name), (in), (out), &err_), &err_); \
        CHECK(!EC2((e), (name), (in), (out), &err_)); \
        CHECK_EQ(err_.code, (code_)); \
    } while (0)

TEST(limits_of_key_pairs)
{
    struct ec2 e;
    struct err err;
    struct ec2_key_pair key;
    ec2_init(&e);
    put_many(&e, &(struct many){&row_key_pair_type, KEYS_MAX - 1, make_key_pair});
    struct ec2_create_key_pair_request in = {.key_name = "a", .key_type = "ed25519"};
    CHECK_OK(EC2(&e, "CreateKeyPair", &in, &key, &err), &err);
    in.key_name = "b";
    CHECK(!EC2(&e, "CreateKeyPair", &in, &key, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_LIMIT);
    e.account = STRANGER; /* Each account for itself. */
    CHECK_OK(EC2(&e, "CreateKeyPair", &in, &key, &err), &err);
    ec2_fini(&e);
}

TEST(limits_of_dhcp_options_and_prefix_lists)
{
    static const char *values[] = {"x.test"};
    struct ec2 e;
    struct ec2_create_dhcp_options_result options;
    struct ec2_create_managed_prefix_list_result list;
    const struct ec2_create_dhcp_options_request make_options = {
        .dhcp_configurations = ONE(struct ec2_new_dhcp_configuration,
                                   {.key = "domain-name", .values = {values, 1}})};
    const struct ec2_create_managed_prefix_list_request make_list = {
        .prefix_list_name = "l", .max_entries = 1, .address_family = "IPv4"};
    ec2_init(&e);
    put_many(&e, &(struct many){&row_dhcp_options_type,
                                DHCP_OPTIONS_MAX - 2, /* And the first VPC's own. */
                                make_dhcp_options});
    put_many(&e, &(struct many){&row_prefix_list_type, PREFIX_LISTS_MAX - 1,
                                make_prefix_list});
    CHECK_LIMIT(&e, "CreateDhcpOptions", &make_options, &options, ERR_RESOURCE_LIMIT);
    CHECK_LIMIT(&e, "CreateManagedPrefixList", &make_list, &list, ERR_RESOURCE_LIMIT);
    ec2_fini(&e);
}

TEST(limits_of_launch_templates_and_of_their_data)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_launch_template_result out;
    struct ec2_request_launch_template_data data = {.instance_type = "t3.micro"};
    struct ec2_create_launch_template_request in = {.launch_template_name = "aaa",
                                                    .launch_template_data = &data};
    ec2_init(&e);
    put_many(&e, &(struct many){&row_launch_template_type, TEMPLATES_MAX - 1,
                                make_launch_template});
    char *long_text = arena_alloc(e.arena, TEMPLATE_BYTES_MAX + 1);
    memset(long_text, 'x', TEMPLATE_BYTES_MAX);
    data.key_name = long_text;
    CHECK(!EC2(&e, "CreateLaunchTemplate", &in, &out, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    data.key_name = NULL;
    CHECK_OK(EC2(&e, "CreateLaunchTemplate", &in, &out, &err), &err);
    in.launch_template_name = "bbb";
    CHECK(!EC2(&e, "CreateLaunchTemplate", &in, &out, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_LIMIT);
    ec2_fini(&e);
}

/* The oldest versions of a prefix list go; the newest can be gone back to. */
TEST(limits_of_prefix_list_versions)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_managed_prefix_list_result made;
    struct ec2_modify_managed_prefix_list_result changed;
    struct ec2_restore_managed_prefix_list_version_result restored;
    const struct ec2_create_managed_prefix_list_request make = {
        .prefix_list_name = "l", .max_entries = 1, .address_family = "IPv4"};
    ec2_init(&e);
    CHECK_OK(EC2(&e, "CreateManagedPrefixList", &make, &made, &err), &err);
    const char *id = made.prefix_list->prefix_list_id;
    for (int i = 0; i < PREFIX_VERSIONS_KEPT; i++) {
        const struct ec2_modify_managed_prefix_list_request add = {
            .prefix_list_id = id,
            .add_entries =
                ONE(struct ec2_add_prefix_list_entry, {.cidr = "10.0.0.0/8"})};
        CHECK_OK(EC2(&e, "ModifyManagedPrefixList", &add, &changed, &err), &err);
    }
    struct ec2_restore_managed_prefix_list_version_request back = {
        .prefix_list_id = id,
        .previous_version = 1,
        .current_version = changed.prefix_list->version};
    CHECK(!EC2(&e, "RestoreManagedPrefixListVersion", &back, &restored, &err));
    CHECK_EQ(err.code, ERR_PREFIX_LIST_VERSION);
    back.previous_version = 2;
    CHECK_OK(EC2(&e, "RestoreManagedPrefixListVersion", &back, &restored, &err), &err);
    ec2_fini(&e);
}

static struct row_vpc vpc = {.account = ACCOUNT,
                             .id = "vpc-0123456789abcdef1",
                             .region = "us-east-1",
                             .cidr = "10.1.0.0/16",
                             .main_table_id = "rtb-0123456789abcdef1"};

TEST(limits_of_flow_logs_and_their_client_token)
{
    struct ec2 e;
    struct err err;
    struct ec2_create_flow_logs_result first, again;
    struct ec2_create_flow_logs_request in = {.resource_type = "VPC",
                                              .resource_ids = ONE(const char *, vpc.id),
                                              .log_destination_type = "s3",
                                              .log_destination = "arn:aws:s3:::0",
                                              .client_token = "t"};
    ec2_init(&e);
    put_row(&e, &row_vpc_type, &vpc);
    CHECK_OK(EC2(&e, "CreateFlowLogs", &in, &first, &err), &err);
    CHECK_OK(EC2(&e, "CreateFlowLogs", &in, &again, &err), &err);
    CHECK_EQ(again.flow_log_ids.count, 1);
    CHECK_STR(again.flow_log_ids.items[0], first.flow_log_ids.items[0]);
    for (int i = 1; i <= FLOW_LOGS_MAX; i++) {
        in.client_token = NULL;
        in.log_destination = arena_printf(e.arena, "arn:aws:s3:::%d", i);
        bool made = EC2(&e, "CreateFlowLogs", &in, &again, &err);
        CHECK_EQ(made, i < FLOW_LOGS_MAX);
    }
    CHECK_EQ(err.code, ERR_FLOW_LOG_LIMIT);
    ec2_fini(&e);
}

TEST(limits_of_peerings_that_nobody_has_accepted)
{
    struct ec2 e;
    struct ec2_create_vpc_peering_connection_result out;
    struct row_vpc theirs = vpc;
    ec2_init(&e);
    theirs.account = STRANGER;
    theirs.id = "vpc-0123456789abcdef2";
    theirs.cidr = "10.2.0.0/16";
    put_row(&e, &row_vpc_type, &vpc);
    put_row(&e, &row_vpc_type, &theirs);
    put_many(&e, &(struct many){&row_vpc_peering_type, PEERINGS_ASKED_MAX - 1,
                                make_vpc_peering});
    const struct ec2_create_vpc_peering_connection_request in = {
        .vpc_id = vpc.id, .peer_vpc_id = theirs.id, .peer_owner_id = STRANGER};
    CHECK_LIMIT(&e, "CreateVpcPeeringConnection", &in, &out, ERR_PEERINGS_ASKED);
    ec2_fini(&e);
}

/* An image of the account's, whose snapshot another one may be registered from. */
static void
put_source(struct ec2 *e)
{
    static struct row_block_mapping root = {.device = "/dev/xvda",
                                            .snapshot_id = SNAPSHOT,
                                            .blob_id = "blob-0123456789abcdef1",
                                            .size_gib = 2};
    const struct row_image source = {.id = "ami-0123456789abcdef1",
                                     .account = ACCOUNT,
                                     .region = "us-east-1",
                                     .name = "source",
                                     .state = "available",
                                     .root_device = "/dev/xvda",
                                     .mappings = {&root, 1},
                                     .snapshot_id = SNAPSHOT};
    put_row(e, &row_image_type, &source);
}

TEST(limits_of_images_and_of_their_bytes)
{
    struct ec2 e;
    struct err err;
    struct ec2_register_image_result out;
    struct ec2_ebs_block_device ebs = {.snapshot_id = SNAPSHOT};
    struct ec2_register_image_request in = {
        .name = "one",
        .root_device_name = "/dev/xvda",
        .block_device_mappings = ONE(struct ec2_block_device_mapping,
                                     {.device_name = "/dev/xvda", .ebs = &ebs})};
    struct row_blob blob = {.id = "blob-0123456789abcdef2",
                            .account = ACCOUNT,
                            .state = "ready",
                            .size_bytes = 1001 * (int64_t)GIB};
    ec2_init(&e);
    put_source(&e);
    put_row(&e, &row_blob_type, &blob); /* The quota is 1,000 GiB. */
    CHECK(!EC2(&e, "RegisterImage", &in, &out, &err));
    CHECK_EQ(err.code, ERR_SNAPSHOT_LIMIT);
    blob.size_bytes = 1000 * (int64_t)GIB;
    put_row(&e, &row_blob_type, &blob);
    CHECK_OK(EC2(&e, "RegisterImage", &in, &out, &err), &err);
    put_many(&e, &(struct many){&row_image_type, IMAGES_MAX - 2, make_image});
    in.name = "two";
    CHECK(!EC2(&e, "RegisterImage", &in, &out, &err));
    CHECK_EQ(err.code, ERR_RESOURCE_LIMIT);
    ec2_fini(&e);
}
