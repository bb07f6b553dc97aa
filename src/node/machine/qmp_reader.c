#include "node/machine/qmp_reader.h"
#include "base/jsonio.h"

void
qmp_reader_fini(struct qmp_reader *r)
{
    buf_fini(&r->line);
}

/* jansson recurses as deep as its input nests; QMP's answers nest little. */
static bool
shallow(const char *s, size_t len)
{
    int depth = 0;
    bool text = false;
    for (size_t i = 0; i < len; i++) {
        if (text) {
            if (s[i] == '\\') {
                i++;
            } else if (s[i] == '"') {
                text = false;
            }
        } else if (s[i] == '"') {
            text = true;
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth > 64) {
                return false;
            }
        } else if (s[i] == '}' || s[i] == ']') {
            depth--;
        }
    }
    return true;
}

/* '*out_more' false: the owner has gone. */
static bool
read_line(const char *line, size_t len, qmp_object_fn *fn, void *ctx, bool *out_more,
          struct err *err)
{
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' ')) {
        len--;
    }
    if (len == 0) {
        return true;
    }
    if (!shallow(line, len)) {
        return err_set(err, ERR_CORRUPT, "QMP: nested too deeply");
    }
    json_error_t where;
    AUTO(json) json_t *object = json_loadb(line, len, 0, &where);
    if (!json_is_object(object)) {
        return err_set(err, ERR_CORRUPT, "QMP: not a JSON object: %s", where.text);
    }
    *out_more = fn(ctx, object);
    return true;
}

bool
qmp_reader_feed(struct qmp_reader *r, const char *data, size_t len, qmp_object_fn *fn,
                void *ctx, struct err *err)
{
    bool more = true;
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t part = end ? (size_t)(end - data) : len;
        if (r->line.len + part > QMP_LINE_MAX) {
            return err_set(err, ERR_TOO_LARGE, "QMP: a line is too long");
        }
        buf_put(&r->line, data, part);
        if (!end) {
            return true;
        }
        data += part + 1;
        len -= part + 1;
        /* Out of the reader first: the callback may free it. */
        AUTO(buf) struct buf line = r->line;
        r->line = (struct buf){0};
        bool rest = r->amid;
        r->amid = false;
        if (!rest && !read_line(buf_str(&line), line.len, fn, ctx, &more, err)) {
            return false;
        }
        if (!more) {
            return true;
        }
    }
    return true;
}
