/* test_tags.c - CreateTags, DeleteTags and DescribeTags. */
#include "operation.h"

static void
create(struct ec2 *e, const char *id, const char *key, const char *value)
{
    struct err err;
    const struct ec2_create_tags_request in = {
        .resources = ONE(const char *, id),
        .tags = ONE(struct ec2_tag, {key, value}),
    };
    CHECK_OK(EC2_DO(e, "CreateTags", &in, &err), &err);
}

static size_t
count_tags(struct ec2 *e, const char *filter, const char *value)
{
    struct err err;
    struct ec2_describe_tags_result out;
    struct ec2_filter one = {.name = filter, .values = ONE(const char *, value)};
    const struct ec2_describe_tags_request in = {.filters = {&one, 1}};
    CHECK_OK(EC2(e, "DescribeTags", &in, &out, &err), &err);
    return out.tags.count;
}

TEST(tags_are_put_replaced_and_found_by_filter)
{
    struct ec2 e;
    ec2_init(&e);
    create(&e, IMAGE, "Name", "first");
    create(&e, IMAGE, "Name", "second");
    create(&e, IMAGE, "Owner", "me");
    CHECK_EQ(count_tags(&e, "resource-id", IMAGE), 2);
    CHECK_EQ(count_tags(&e, "value", "sec*"), 1);
    CHECK_EQ(count_tags(&e, "tag:Name", "second"), 1);
    CHECK_EQ(count_tags(&e, "resource-type", "image"), 2);
    e.account = STRANGER; /* Tags of a public image are seen by who made them alone. */
    CHECK_EQ(count_tags(&e, "resource-id", IMAGE), 0);
    ec2_fini(&e);
}

TEST(tags_are_refused_when_the_resource_is_missing_or_not_an_id)
{
    static const struct {
        const char *id;
        enum err_code code;
    } cases[] = {
        {"i-0123456789abcdef0", ERR_INSTANCE_NOT_FOUND},
        {"vol-0123456789abcdef0", ERR_VOLUME_NOT_FOUND},
        {"ami-0123456789abcdef1", ERR_IMAGE_NOT_FOUND},
        {"subnet-0123456789abcdef0", ERR_SUBNET_NOT_FOUND},
        {"sgr-0123456789abcdef0", ERR_GROUP_RULE_NOT_FOUND},
        {"import-ami-0123456789abcdef0", ERR_IMPORT_TASK_NOT_FOUND},
        {"snap-0123456789abcdef1", ERR_SNAPSHOT_NOT_FOUND},
        {"igw-0123456789abcdef0", ERR_GATEWAY_NOT_FOUND},
        {"hello", ERR_RESOURCE_ID_INVALID},
        {"", ERR_RESOURCE_ID_INVALID},
    };
    struct ec2 e;
    ec2_init(&e);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err;
        const struct ec2_create_tags_request in = {
            .resources = ONE(const char *, IMAGE, cases[i].id),
            .tags = ONE(struct ec2_tag, {"k", "v"}),
        };
        CHECK(!EC2_DO(&e, "CreateTags", &in, &err));
        CHECK_EQ(err.code, cases[i].code);
        CHECK_EQ(count_tags(&e, "key", "k"), 0); /* All or nothing. */
    }
    ec2_fini(&e);
}

TEST(tags_stop_at_fifty_and_replacing_is_always_possible)
{
    struct ec2 e;
    struct err err;
    char key[16];
    ec2_init(&e);
    for (int i = 0; i < TAGS_MAX; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        create(&e, IMAGE, key, "v");
    }
    create(&e, IMAGE, "k7", "other");
    const struct ec2_create_tags_request in = {
        .resources = ONE(const char *, IMAGE),
        .tags = ONE(struct ec2_tag, {"one-more", "v"}),
    };
    CHECK(!EC2_DO(&e, "CreateTags", &in, &err));
    CHECK_EQ(err.code, ERR_TAG_LIMIT);
    ec2_fini(&e);
}

TEST(tags_delete_by_key_by_value_and_all)
{
    struct ec2 e;
    struct err err;
    ec2_init(&e);
    create(&e, IMAGE, "a", "1");
    create(&e, IMAGE, "b", "1");
    create(&e, IMAGE, "c", "1");
    struct ec2_delete_tags_request in = {
        .resources = ONE(const char *, IMAGE),
        .tags = ONE(struct ec2_tag, {"a", NULL}, {"b", "2"}),
    };
    CHECK_OK(EC2_DO(&e, "DeleteTags", &in, &err), &err);
    CHECK_EQ(count_tags(&e, "resource-id", IMAGE), 2); /* b has another value. */
    in.tags.count = 0;
    CHECK_OK(EC2_DO(&e, "DeleteTags", &in, &err), &err);
    CHECK_EQ(count_tags(&e, "resource-id", IMAGE), 0);
    ec2_fini(&e);
}

TEST(tags_page_through_without_loss_or_repeat)
{
    struct ec2 e;
    struct err err;
    struct ec2_describe_tags_result out;
    struct ec2_describe_tags_request in = {.max_results = 5, .has_max_results = true};
    size_t seen = 0, pages = 0;
    char key[16];
    ec2_init(&e);
    for (int i = 0; i < 12; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        create(&e, IMAGE, key, "v");
    }
    do {
        CHECK_OK(EC2(&e, "DescribeTags", &in, &out, &err), &err);
        seen += out.tags.count;
        pages++;
        in.next_token = out.next_token;
    } while (out.next_token);
    CHECK_EQ(seen, 12);
    CHECK_EQ(pages, 3);
    ec2_fini(&e);
}
