#include "wire/protocol.h"

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes [s, s + len) into 'out', which has room for it and a NUL. */
static bool
decode(const char *s, size_t len, char *out, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = i + 1 < len ? hex_digit(s[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit(s[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (!c) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    *out_len = n;
    return true;
}

static size_t
count_pairs(const char *text, size_t len)
{
    size_t count = 1;
    for (const char *at = text; (at = memchr(at, '&', len - (size_t)(at - text)));
         at++) {
        count++;
    }
    return count;
}

bool
params_parse(struct params *out, const char *text, size_t len, struct arena *arena,
             struct err *err)
{
    if (!len) {
        return true;
    }
    size_t more = count_pairs(text, len);
    if (out->count + more > PROTOCOL_PARAMS_MAX) {
        return err_set(err, ERR_MALFORMED_REQUEST,
                       "The request has more than %d parameters.", PROTOCOL_PARAMS_MAX);
    }
    struct param *items = ARENA_ARRAY(arena, out->count + more, struct param);
    if (out->count) {
        memcpy(items, out->items, out->count * sizeof *items);
    }
    size_t count = out->count;
    char *room = arena_alloc(arena, len + 2 * more);
    for (const char *at = text, *end = text + len; at < end;) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop ? stop : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        const char *value = equals ? equals + 1 : stop;
        struct param *p = &items[count];
        p->name = room;
        if (!decode(at, (size_t)((equals ? equals : stop) - at), room, &p->name_len)) {
            return err_set(
                err, ERR_MALFORMED_REQUEST,
                "The query string is malformed: a name has a broken escape.");
        }
        room += p->name_len + 1;
        p->value = room;
        if (!decode(value, (size_t)(stop - value), room, &p->value_len)) {
            return err_set(err, ERR_MALFORMED_REQUEST,
                           "The query string is malformed: the value of '%.64s' has a "
                           "broken escape or a NUL.",
                           p->name);
        }
        room += p->value_len + 1;
        count += stop != at; /* 'a=b&&c=d': nothing between two '&'. */
        at = stop + 1;
    }
    out->items = items;
    out->count = count;
    return true;
}

const char *
params_get(const struct params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0) {
            return params->items[i].value;
        }
    }
    return NULL;
}
