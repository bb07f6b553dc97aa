/* test_fragments.c - texts kept from answer to answer, and that none outlives its rows. */
#include "operation.h"
#include "service/fragments.h"
#include "wire/protocol.h"

static struct fragment_key
key_of(const char *id, uint64_t word)
{
    return (struct fragment_key){.id = id, .words = {word}, .count = 1};
}

static struct blob
text_of(const char *s)
{
    return (struct blob){(const uint8_t *)s, strlen(s)};
}

TEST(fragments_give_a_text_under_its_own_words_only)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct fragments *f = fragments_create(MIB);
    struct fragment_key one = key_of("i-1", 1), two = key_of("i-1", 2);
    struct blob out;
    CHECK(!fragments_get(f, &one, arena, &out));
    fragments_put(f, &one, text_of("old"));
    CHECK(fragments_get(f, &one, arena, &out));
    CHECK(!fragments_get(f, &two, arena, &out));
    fragments_put(f, &two, text_of("new"));
    CHECK(!fragments_get(f, &one, arena, &out));
    CHECK_EQ(memcmp(out.data, "old", 3), 0); /* What was given stands. */
    CHECK(fragments_get(f, &two, arena, &out));
    CHECK_EQ(memcmp(out.data, "new", 3), 0);
    fragments_destroy(f);
    CHECK_EQ(memcmp(out.data, "new", 3), 0);
}

TEST(fragments_begin_anew_past_their_limit)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct fragments *f = fragments_create(1000);
    struct fragment_key one = key_of("i-1", 1), two = key_of("i-2", 2);
    struct blob out;
    char text[600];
    memset(text, 'x', sizeof text);
    fragments_put(f, &one, (struct blob){(const uint8_t *)text, sizeof text});
    CHECK(fragments_get(f, &one, arena, &out));
    fragments_put(f, &two, (struct blob){(const uint8_t *)text, sizeof text});
    CHECK(!fragments_get(f, &one, arena, &out));
    CHECK(fragments_get(f, &two, arena, &out));
    fragments_destroy(f);
}

/* ---- DescribeInstances ------------------------------------------------------------------ */

static char *
describe(struct ec2 *e, struct fragments *fragments)
{
    struct err err;
    struct buf text = {0};
    struct ec2_describe_instances_request in = {0};
    struct ec2_describe_instances_result out;
    e->fragments = fragments;
    CHECK_OK(CALL(e, describe_instances, &in, &out, &err), &err);
    xml_encode_members(&ec2_describe_instances_result_desc, &out, &text);
    e->fragments = NULL;
    char *copy = arena_strdup(e->arena, buf_str(&text));
    buf_fini(&text);
    return copy;
}

/* With kept texts the answer is, twice, what it is without; '*last' was another one. */
static void
check_changed(struct ec2 *e, struct fragments *fragments, const char **last)
{
    const char *made = describe(e, NULL);
    CHECK(!*last || strcmp(*last, made) != 0);
    CHECK_STR(describe(e, fragments), made);
    CHECK_STR(describe(e, fragments), made);
    *last = made;
}

static void
launch_two(struct ec2 *e)
{
    struct err err;
    struct ec2_reservation out;
    const struct ec2_run_instances_request in = {
        .image_id = IMAGE, .instance_type = "t3.micro", .min_count = 2, .max_count = 2};
    CHECK_OK(CALL(e, run_instances, &in, &out, &err), &err);
}

static const struct row_instance *
first_instance(struct ec2 *e)
{
    struct err err;
    const struct ec2_describe_instances_request in = {0};
    struct ec2_describe_instances_result out;
    CHECK_OK(CALL(e, describe_instances, &in, &out, &err), &err);
    const struct row_instance key = {
        .account = ACCOUNT,
        .id = out.reservations.items[0].instances.items[0].instance_id};
    return get_row(e, &row_instance_type, &key);
}

static void
change_tag(struct ec2 *e, const char *id, const char *value)
{
    const struct row_tag row = {.account = ACCOUNT,
                                .region = "us-east-1",
                                .resource_id = id,
                                .tag_key = "Name",
                                .value = value,
                                .resource_type = "instance"};
    put_row(e, &row_tag_type, &row);
}

TEST(describe_instances_answers_follow_each_row_that_they_show)
{
    struct ec2 e;
    const char *last = NULL;
    struct fragments *fragments = fragments_create(MIB);
    ec2_init(&e);
    launch_two(&e);
    check_changed(&e, fragments, &last);

    struct row_instance inst = *first_instance(&e);
    change_tag(&e, inst.id, "one");
    check_changed(&e, fragments, &last);
    change_tag(&e, inst.id, "two");
    check_changed(&e, fragments, &last);

    const struct row_eni eni_key = {.account = ACCOUNT, .id = inst.eni_ids.items[0]};
    struct row_eni eni = *(const struct row_eni *)get_row(&e, &row_eni_type, &eni_key);
    eni.description = "another";
    put_row(&e, &row_eni_type, &eni);
    check_changed(&e, fragments, &last);

    const struct row_volume volume_key = {.account = ACCOUNT,
                                          .id = inst.root_volume_id};
    struct row_volume volume =
        *(const struct row_volume *)get_row(&e, &row_volume_type, &volume_key);
    volume.delete_on_termination = !volume.delete_on_termination;
    put_row(&e, &row_volume_type, &volume);
    check_changed(&e, fragments, &last);

    ec2_node_says(&e, inst.id, "running");
    check_changed(&e, fragments, &last);
    inst = *first_instance(&e);
    inst.key_name = "other";
    put_row(&e, &row_instance_type, &inst);
    check_changed(&e, fragments, &last);
    ec2_fini(&e);
    fragments_destroy(fragments);
}
