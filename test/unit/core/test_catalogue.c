/* The catalogue of instance types: the shipped file, additions, and what is refused. */
#include "base/file.h"
#include "core/catalogue.h"
#include "test.h"

static const struct instance_type *
find(const struct instance_type *types, size_t count, const char *name)
{
    struct cloud_config config = {.types = types, .type_count = count};
    return config_type(&config, name);
}

static bool
read_one(struct arena *arena, const char *text, struct err *err)
{
    const struct instance_type *types;
    size_t count;
    struct catalogue_text one = {"mine.json", text, strlen(text)};
    return catalogue_read(arena, &one, 1, &types, &count, err);
}

TEST(catalogue_reads_shipped_types_when_given_share)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(free) char *text = NULL;
    size_t len, count;
    const struct instance_type *types;
    struct err err = {0};
    CHECK_OK(file_read(CATALOGUE_FILE, 1 << 20, &text, &len, &err), &err);
    struct catalogue_text shipped = {"instance-types.json", text, len};
    CHECK_OK(catalogue_read(arena, &shipped, 1, &types, &count, &err), &err);
    CHECK(count > 100);

    const struct instance_type *micro = find(types, count, "t3.micro");
    CHECK_EQ(micro->vcpus, 2);
    CHECK_EQ(micro->memory_bytes, GIB);
    CHECK_EQ(micro->threads_per_core, 2);
    CHECK(micro->burstable && micro->current_generation);
    CHECK_STR(micro->network_text, "Up to 5 Gigabit");
    CHECK_STR(find(types, count, "m5.24xlarge")->network_text, "25 Gigabit");
    CHECK_STR(find(types, count, "m6i.12xlarge")->network_text, "18.75 Gigabit");
    CHECK(find(types, count, "t2.nano")->xen);
    CHECK_NULL(find(types, count, "t3.huge"));
}

TEST(catalogue_replaces_type_when_named_again)
{
    static const char first[] =
        "{\"families\":[{\"family\":\"x1\",\"clock_ghz\":2.0,\"sizes\":[{\"size\":"
        "\"a\",\"vcpus\":2,\"memory_mib\":512,\"max_enis\":2,\"ips_per_eni\":2,"
        "\"network_mbps\":100}]}]}";
    static const char second[] =
        "{\"families\":[{\"family\":\"x1\",\"clock_ghz\":2.0,\"sizes\":[{\"size\":"
        "\"a\",\"vcpus\":4,\"memory_mib\":512,\"max_enis\":2,\"ips_per_eni\":2,"
        "\"network_mbps\":100}]}]}";
    AUTO(arena) struct arena *arena = arena_create();
    const struct catalogue_text texts[] = {
        {"first", first, strlen(first)}, {"second", second, strlen(second)}};
    const struct instance_type *types;
    size_t count;
    struct err err = {0};
    CHECK_OK(catalogue_read(arena, texts, 2, &types, &count, &err), &err);
    CHECK_EQ(count, 1);
    CHECK_EQ(types[0].vcpus, 4);
}

TEST(catalogue_names_the_entry_when_it_is_wrong)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    CHECK(!read_one(arena, "{\"families\":[{}]}", &err));
    CHECK_STR(err.msg, "mine.json: families[0].family: out of range");
    CHECK(!read_one(arena,
                    "{\"families\":[{\"family\":\"x\",\"clock_ghz\":1,\"sizes\":["
                    "{\"size\":\"a\",\"vcpus\":0}]}]}",
                    &err));
    CHECK_STR(err.msg,
              "mine.json: families[0].sizes[0].vcpus: must be from 1 to 1024");
    CHECK(!read_one(arena, "{\"families\":[{\"colour\":\"red\"}]}", &err));
    CHECK_STR(err.msg, "mine.json: families[0].colour: is not known");
    CHECK(!read_one(arena, "{\n\n]", &err));
    CHECK(strstr(err.msg, "line 3"));
}
