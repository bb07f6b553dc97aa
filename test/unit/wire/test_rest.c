/* test_rest.c - requests of the rest-json protocol, over a descriptor of our own. */
#include "test.h"
#include "wire/protocol.h"
#include <strings.h>

struct thing {
    const char *id, *note, *agent;
    LIST_OF(const char *) tags;
    int64_t size;
    bool has_size;
};

static const struct desc_field thing_fields[] = {
    {.name = "Id",
     .in_name = "id",
     .kind = DESC_STR,
     .offset = offsetof(struct thing, id),
     .has_offset = DESC_ALWAYS,
     .flags = DESC_IN_PATH | DESC_REQUIRED},
    {.name = "Note",
     .kind = DESC_STR,
     .offset = offsetof(struct thing, note),
     .has_offset = DESC_ALWAYS},
    {.name = "Agent",
     .in_name = "x-agent",
     .kind = DESC_STR,
     .offset = offsetof(struct thing, agent),
     .has_offset = DESC_ALWAYS,
     .flags = DESC_IN_HEADER},
    {.name = "Tags",
     .in_name = "tag",
     .kind = DESC_LIST,
     .item_kind = DESC_STR,
     .offset = offsetof(struct thing, tags),
     .has_offset = DESC_ALWAYS,
     .flags = DESC_IN_QUERY},
    {.name = "Size",
     .in_name = "size",
     .kind = DESC_INT,
     .offset = offsetof(struct thing, size),
     .has_offset = offsetof(struct thing, has_size),
     .flags = DESC_IN_QUERY},
};
static const struct desc thing_desc = {"Thing", thing_fields, ARRAY_LEN(thing_fields),
                                       sizeof(struct thing)};

static const char *
header(void *ctx UNUSED, const char *name)
{
    return strcasecmp(name, "x-agent") == 0 ? "me" : NULL;
}

static struct arena *arena;

static bool
decode(const char *path, const char *query, const char *body, struct thing *out,
       bool *matches, struct err *err)
{
    arena_destroy(arena);
    arena = arena_create();
    struct params params = {0};
    *err = (struct err){0};
    return params_parse(&params, query, strlen(query), arena, err) &&
           rest_decode(&thing_desc, "/things/{id}/notes", path, &params, header, NULL,
                       body, strlen(body), arena, out, matches, err);
}

TEST(rest_decode_gathers_from_all_places)
{
    struct err err;
    struct thing in;
    bool matches;
    CHECK_OK(decode("/things/a%2Fb+c/notes", "tag=x&size=7&tag=y", "{\"Note\":\"n\"}",
                    &in, &matches, &err),
             &err);
    CHECK(matches);
    CHECK_STR(in.id, "a/b+c");
    CHECK_STR(in.note, "n");
    CHECK_STR(in.agent, "me");
    CHECK_EQ(in.tags.count, 2);
    CHECK_STR(in.tags.items[1], "y");
    CHECK(in.has_size);
    CHECK_EQ(in.size, 7);
}

TEST(rest_decode_refuses_what_does_not_fit)
{
    struct err err;
    struct thing in;
    bool matches;
    CHECK(decode("/things//notes", "", "", &in, &matches, &err) && !matches);
    CHECK(decode("/things/a/notes/b", "", "", &in, &matches, &err) && !matches);
    CHECK(decode("/other", "", "", &in, &matches, &err) && !matches);
    CHECK(!decode("/things/a/notes", "size=x", "", &in, &matches, &err));
    CHECK_EQ(err.code, ERR_SERIALIZATION);
    CHECK(!decode("/things/a/notes", "foo=1", "", &in, &matches, &err));
    CHECK_EQ(err.code, ERR_UNKNOWN_PARAMETER);
    CHECK(!decode("/things/a/notes", "", "{\"Foo\":1}", &in, &matches, &err));
}

TEST(rest_path_matches_takes_greedy_labels)
{
    CHECK(rest_path_matches("/b/{Key+}", "/b/x/y/z"));
    CHECK(rest_path_matches("/b/{Key}?flag", "/b/x"));
    CHECK(!rest_path_matches("/b/{Key}", "/b/x/y"));
}
