/* place.c - see place.h. */
#include "link/place.h"

#include "base/buf.h"

/* One "HOST:PORT" or "[V6]:PORT" of 'len' bytes. */
static bool
place_read(const char *text, size_t len, struct place *out)
{
    const char *colon = memrchr(text, ':', len);
    size_t digits = colon ? (size_t)(text + len - colon) - 1 : 0;
    if (digits < 1 || digits > 5 || strspn(colon + 1, "0123456789") != digits) {
        return false;
    }
    size_t host = (size_t)(colon - text);
    if (host > 2 && text[0] == '[' && text[host - 1] == ']') {
        text++;
        host -= 2;
    }
    int port = atoi(colon + 1);
    if (host < 1 || host >= sizeof out->host || port < 1 || port > 65535) {
        return false;
    }
    *out = (struct place){.port = port};
    memcpy(out->host, text, host);
    return true;
}

bool
places_read(const char *text, struct place out[PLACES_MAX], size_t *out_count,
            struct err *err)
{
    size_t count = 0;
    for (const char *at = text;;) {
        size_t len = strcspn(at, ",");
        struct place place;
        bool known = false;
        if (!place_read(at, len, &place)) {
            return err_set(err, ERR_INVALID, "'%.*s' is not HOST:PORT",
                           (int)MIN(len, 100), at);
        }
        for (size_t i = 0; i < count; i++) {
            known =
                known || (out[i].port == place.port && str_eq(out[i].host, place.host));
        }
        if (!known && count == PLACES_MAX) {
            return err_set(err, ERR_INVALID, "more than %u places", PLACES_MAX);
        }
        if (!known) {
            out[count++] = place;
        }
        if (!at[len]) {
            break;
        }
        at += len + 1;
    }
    *out_count = count;
    return true;
}

void
places_add(struct buf *text, const char *place)
{
    struct place all[PLACES_MAX];
    size_t count = 0, with = 0;
    struct err ignored;
    AUTO(buf) struct buf more = {0};
    buf_printf(&more, "%s%s%s", buf_str(text), text->len ? "," : "", place);
    bool had = text->len == 0 || places_read(buf_str(text), all, &count, &ignored);
    if (had && places_read(buf_str(&more), all, &with, &ignored) && with > count) {
        buf_clear(text);
        buf_puts(text, buf_str(&more));
    }
}
