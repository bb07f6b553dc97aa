/* test_key_pairs.c - key pairs as the API has them; their material is test_key_material's. */
#include "operation.h"

static struct ec2_key_pair
create(struct ec2 *e, const char *name)
{
    struct err err;
    struct ec2_key_pair out;
    const struct ec2_create_key_pair_request in = {.key_name = name,
                                                   .key_type = "ed25519"};
    CHECK_OK(EC2(e, "CreateKeyPair", &in, &out, &err), &err);
    return out;
}

TEST(key_pair_is_answered_once_and_kept_without_its_secret)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_key_pairs_result list;
    ec2_init(&e);
    const struct ec2_key_pair made = create(&e, "mine");
    CHECK(strstr(made.key_material, "OPENSSH PRIVATE KEY"));
    struct ec2_describe_key_pairs_request in = {.include_public_key = true};
    CHECK_OK(EC2(&e, "DescribeKeyPairs", &in, &list, &err), &err);
    CHECK_EQ(list.key_pairs.count, 1);
    CHECK_STR(list.key_pairs.items[0].key_fingerprint, made.key_fingerprint);
    CHECK_STR(list.key_pairs.items[0].key_type, "ed25519");
    CHECK(str_starts(list.key_pairs.items[0].public_key, "ssh-ed25519 "));
    in.include_public_key = false;
    CHECK_OK(EC2(&e, "DescribeKeyPairs", &in, &list, &err), &err);
    CHECK_NULL(list.key_pairs.items[0].public_key);

    e.account = STRANGER;
    CHECK_OK(EC2(&e, "DescribeKeyPairs", &in, &list, &err), &err);
    CHECK_EQ(list.key_pairs.count, 0);
    ec2_fini(&e);
}

TEST(key_pair_is_refused_when_the_name_is_taken_or_bad)
{
    struct ec2 e;
    struct err err;
    struct ec2_key_pair out;
    ec2_init(&e);
    create(&e, "mine");
    struct ec2_create_key_pair_request in = {.key_name = "mine"};
    CHECK(!EC2(&e, "CreateKeyPair", &in, &out, &err));
    CHECK_EQ(err.code, ERR_KEY_DUPLICATE);
    in.key_name = "tab\there";
    CHECK(!EC2(&e, "CreateKeyPair", &in, &out, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    in = (struct ec2_create_key_pair_request){.key_name = "dry", .dry_run = true};
    CHECK(!EC2(&e, "CreateKeyPair", &in, &out, &err));
    CHECK_EQ(err.code, ERR_DRY_RUN);
    ec2_fini(&e);
}

TEST(key_pair_deletes_by_name_by_id_and_again)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_key_pairs_result list;
    ec2_init(&e);
    create(&e, "a");
    const struct ec2_key_pair b = create(&e, "b");
    const struct ec2_delete_key_pair_request by_name = {.key_name = "a"};
    const struct ec2_delete_key_pair_request by_id = {.key_pair_id = b.key_pair_id};
    CHECK_OK(EC2_DO(&e, "DeleteKeyPair", &by_name, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteKeyPair", &by_name, &err), &err);
    CHECK_OK(EC2_DO(&e, "DeleteKeyPair", &by_id, &err), &err);
    const struct ec2_describe_key_pairs_request all = {0};
    CHECK_OK(EC2(&e, "DescribeKeyPairs", &all, &list, &err), &err);
    CHECK_EQ(list.key_pairs.count, 0);
    const struct ec2_describe_key_pairs_request named = {.key_names =
                                                             ONE(const char *, "a")};
    CHECK(!EC2(&e, "DescribeKeyPairs", &named, &list, &err));
    CHECK_EQ(err.code, ERR_KEY_PAIR_NOT_FOUND);
    ec2_fini(&e);
}
