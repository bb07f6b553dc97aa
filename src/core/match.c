#include "core/match.h"

/* One pattern element against one character; '*p' is moved past the element. */
static bool
matches_one(const char **p, char c)
{
    if (**p == '\\' && (*p)[1] != '\0') {
        (*p)++;
    } else if (**p == '?') {
        (*p)++;
        return true;
    }
    return *(*p)++ == c;
}

bool
match_wildcard(const char *pattern, const char *text)
{
    /* Only the last '*' can be worth going back to: linear in practice, and never worse
     * than pattern times text. */
    const char *star = NULL, *resume = NULL;
    const char *p = pattern, *t = text;
    while (*t) {
        if (*p == '*') {
            star = ++p;
            resume = t;
            continue;
        }
        if (*p && matches_one(&p, *t)) {
            t++;
            continue;
        }
        if (!star) {
            return false;
        }
        p = star;
        t = ++resume;
    }
    while (*p == '*') {
        p++;
    }
    return *p == '\0';
}
