/* test_match.c - filter patterns and page tokens: what strangers may write. */
#include "core/match.h"
#include "core/page_token.h"
#include "test.h"

TEST(match_wildcard_takes_star_as_any_run)
{
    CHECK(match_wildcard("t3.*", "t3.micro"));
    CHECK(match_wildcard("*micro", "t3.micro"));
    CHECK(match_wildcard("t*i*o", "t3.micro"));
    CHECK(match_wildcard("*", ""));
    CHECK(!match_wildcard("t3.*", "t2.micro"));
    CHECK(match_wildcard("**a**b", "xxaxxab"));
}

TEST(match_wildcard_takes_question_mark_as_one_character)
{
    CHECK(match_wildcard("t?.micro", "t3.micro"));
    CHECK(!match_wildcard("t?.micro", "t.micro"));
    CHECK(!match_wildcard("?", ""));
}

TEST(match_wildcard_takes_escaped_characters_literally)
{
    CHECK(match_wildcard("a\\*b", "a*b"));
    CHECK(!match_wildcard("a\\*b", "axb"));
    CHECK(match_wildcard("\\?", "?"));
    CHECK(!match_wildcard("\\?", "x"));
    CHECK(match_wildcard("a\\\\b", "a\\b"));
    CHECK(match_wildcard("*\\*", "many*"));
}

TEST(match_wildcard_ends_soon_on_hostile_patterns)
{
    char pattern[256], text[4096];
    for (size_t i = 0; i + 2 < sizeof pattern; i += 2) {
        memcpy(pattern + i, "*a", 2);
    }
    memcpy(pattern + sizeof pattern - 2, "b", 2);
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK(!match_wildcard(pattern, text));
}

TEST(page_token_gives_back_its_key)
{
    struct err err;
    AUTO(arena) struct arena *arena = arena_create();
    const char *key;
    const char *token = page_token_make(arena, "query", "i-0123");
    CHECK_OK(page_token_read(arena, "query", token, &key, &err), &err);
    CHECK_STR(key, "i-0123");
}

TEST(page_token_is_refused_for_another_query)
{
    struct err err;
    AUTO(arena) struct arena *arena = arena_create();
    const char *key;
    const char *token = page_token_make(arena, "query", "i-0123");
    CHECK(!page_token_read(arena, "other", token, &key, &err));
    CHECK_EQ(err.code, ERR_NEXT_TOKEN_INVALID);
}

TEST(page_token_is_refused_when_changed_in_any_digit)
{
    struct err err;
    AUTO(arena) struct arena *arena = arena_create();
    const char *key;
    char *token = arena_strdup(arena, page_token_make(arena, "query", "i-0123"));
    for (size_t i = 0; token[i]; i++) {
        char was = token[i];
        token[i] = was == '0' ? '1' : '0';
        CHECK(!page_token_read(arena, "query", token, &key, &err));
        token[i] = was;
    }
    CHECK(!page_token_read(arena, "query", "", &key, &err));
    CHECK(!page_token_read(arena, "query", "zz", &key, &err));
    CHECK(!page_token_read(arena, "query", "01", &key, &err));
}
