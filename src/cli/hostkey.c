#include "cli/hostkey.h"
#include "base/buf.h"
#include <ctype.h>

#define BEGIN_MARK "-----BEGIN SSH HOST KEY KEYS-----"
#define END_MARK "-----END SSH HOST KEY KEYS-----"

/* Where the last block that has both marks begins, after its mark; its end in
 * '*out_end'. */
static const char *
last_block(const char *console, const char **out_end)
{
    const char *found = NULL;
    for (const char *at = strstr(console, BEGIN_MARK); at;
         at = strstr(at, BEGIN_MARK)) {
        at += strlen(BEGIN_MARK);
        const char *end = strstr(at, END_MARK);
        const char *next = strstr(at, BEGIN_MARK);
        if (end && (!next || end < next)) {
            found = at;
            *out_end = end;
        }
    }
    return found;
}

static size_t
word(const char *s, const char *end)
{
    size_t len = 0;
    while (s + len < end && isgraph((unsigned char)s[len])) {
        len++;
    }
    return len;
}

static bool
is_base64(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)s[i]) && !strchr("+/=", s[i])) {
            return false;
        }
    }
    return len >= 32;
}

/* "ssh-ed25519 AAAA... comment", anywhere in the line: a log's prefix may stand before.
 */
static void
put_key(struct buf *out, const char *line, const char *end, const char *alias)
{
    static const char *const types[] = {"ssh-ed25519 ", "ecdsa-sha2-nistp256 ",
                                        "ecdsa-sha2-nistp384 ", "ecdsa-sha2-nistp521 ",
                                        "ssh-rsa "};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        size_t len = strlen(types[i]);
        const char *at = memmem(line, (size_t)(end - line), types[i], len);
        if (!at) {
            continue;
        }
        size_t key_len = word(at + len, end);
        if (is_base64(at + len, key_len)) {
            buf_printf(out, "%s %.*s%.*s\n", alias, (int)len, types[i], (int)key_len,
                       at + len);
        }
        return;
    }
}

const char *
hostkey_known_hosts(struct arena *arena, const char *console, const char *alias)
{
    const char *end;
    const char *at = last_block(console, &end);
    if (!at) {
        return NULL;
    }
    AUTO(buf) struct buf lines = {.limit = 64 * KIB};
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline ? newline : end;
        put_key(&lines, at, line_end, alias);
        at = newline ? newline + 1 : end;
    }
    return lines.len ? arena_strdup(arena, buf_str(&lines)) : NULL;
}
