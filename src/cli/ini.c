#include "cli/ini.h"
#include <ctype.h>

static void
trim(const char **start, const char **end)
{
    while (*start < *end && isspace((unsigned char)**start)) {
        (*start)++;
    }
    while (*end > *start && isspace((unsigned char)(*end)[-1])) {
        (*end)--;
    }
}

static bool
is_word(const char *start, const char *end, const char *word)
{
    size_t len = strlen(word);
    return (size_t)(end - start) == len && memcmp(start, word, len) == 0;
}

const char *
ini_get(struct arena *arena, const char *text, const char *section, const char *key)
{
    const char *found = NULL;
    bool inside = false;
    for (const char *line = text; *line;) {
        const char *start = line;
        const char *end = line + strcspn(line, "\n");
        line = *end ? end + 1 : end;
        trim(&start, &end);
        if (start == end || *start == '#' || *start == ';') {
            continue;
        }
        if (*start == '[' && end[-1] == ']') {
            start++;
            end--;
            trim(&start, &end);
            inside = is_word(start, end, section);
            continue;
        }
        const char *equals = memchr(start, '=', (size_t)(end - start));
        if (!inside || !equals) {
            continue;
        }
        const char *key_end = equals;
        trim(&start, &key_end);
        const char *value = equals + 1;
        trim(&value, &end);
        if (is_word(start, key_end, key)) {
            found = arena_strndup(arena, value, (size_t)(end - value));
        }
    }
    return found;
}
