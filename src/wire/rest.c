/* rest.c - the rest-json protocol's requests: a path, a query, headers and a JSON body. */
#include "base/crypto.h"
#include "base/timefmt.h"
#include "wire/protocol.h"
#include <errno.h>
#include <strings.h>

struct rest {
    const struct desc *desc;
    struct arena *arena;
    void *out;
    struct err *err;
};

/* ---- path ------------------------------------------------------------------------------- */

/* Walks 'path' along 'pattern' ("/a/{Id}/{Rest+}?flag"); 'label' is called for each label,
 * NULL to see only whether they fit. */
typedef bool label_fn(struct rest *rest, const char *name, size_t name_len,
                      const char *text, size_t len);

static bool
walk(struct rest *rest, const char *pattern, const char *path, label_fn *label,
     bool *fits)
{
    *fits = false;
    while (*pattern && *pattern != '?') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return true;
            }
            continue;
        }
        size_t name_len = strcspn(pattern, "}") - 1;
        const char *name = pattern + 1;
        bool greedy = name_len && name[name_len - 1] == '+';
        size_t len = greedy ? strlen(path) : strcspn(path, "/");
        if (!len) {
            return true;
        }
        if (label && !label(rest, name, name_len - greedy, path, len)) {
            return false;
        }
        path += len;
        pattern = name + name_len + 1;
    }
    *fits = !*path;
    return true;
}

bool
rest_path_matches(const char *pattern, const char *path)
{
    bool fits;
    return walk(NULL, pattern, path, NULL, &fits) && fits;
}

/* ---- members ---------------------------------------------------------------------------- */

static bool
malformed(struct rest *rest, const char *name, const char *text)
{
    return err_set(rest->err, ERR_SERIALIZATION, "'%.64s' is not a value for %.64s",
                   text, name);
}

/* Text of path, query or header into one value of 'kind'. */
static bool
read_text(struct rest *rest, enum desc_kind kind, const char *name, const char *text,
          void *at)
{
    char *end;
    errno = 0;
    switch (kind) {
    case DESC_STR:
        *(const char **)at = arena_strdup(rest->arena, text);
        return true;
    case DESC_BOOL:
        *(bool *)at = strcasecmp(text, "true") == 0;
        return *(bool *)at || strcasecmp(text, "false") == 0 ||
               malformed(rest, name, text);
    case DESC_INT:
        *(int64_t *)at = strtoll(text, &end, 10);
        return (!errno && end != text && !*end) || malformed(rest, name, text);
    case DESC_F64:
        *(double *)at = strtod(text, &end);
        return (!errno && end != text && !*end) || malformed(rest, name, text);
    case DESC_TIME:
        return time_parse(text, at) || time_parse_http(text, at) ||
               malformed(rest, name, text);
    default:
        return malformed(rest, name, text);
    }
}

static bool
read_field(struct rest *rest, const struct desc_field *f, const char *text)
{
    if (!read_text(rest, f->kind, f->name, text, desc_at(f, rest->out))) {
        return false;
    }
    desc_set_present(f, rest->out);
    return true;
}

static const struct desc_field *
field_at(const struct desc *desc, unsigned place, const char *name, size_t len)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        const char *wire = f->in_name ? f->in_name : f->name;
        bool same = place == DESC_IN_HEADER ? strncasecmp(wire, name, len) == 0
                                            : strncmp(wire, name, len) == 0;
        if ((f->flags & place) && same && !wire[len]) {
            return f;
        }
    }
    return NULL;
}

static bool
read_label(struct rest *rest, const char *name, size_t name_len, const char *text,
           size_t len)
{
    const struct desc_field *f = field_at(rest->desc, DESC_IN_PATH, name, name_len);
    struct params one = {0};
    /* A label is decoded as a value is, but for '+', which is itself in a path. */
    AUTO(buf) struct buf escaped = {0};
    buf_puts(&escaped, "x=");
    for (size_t i = 0; i < len; i++) {
        buf_puts(&escaped, text[i] == '+' ? "%2B" : text[i] == '&' ? "%26" : "");
        if (text[i] != '+' && text[i] != '&') {
            buf_putc(&escaped, text[i]);
        }
    }
    return f && params_parse(&one, escaped.data, escaped.len, rest->arena, rest->err) &&
           read_field(rest, f, one.items[0].value);
}

/* A list in the query is its name, repeated. */
static bool
read_query_list(struct rest *rest, const struct desc_field *f,
                const struct params *query, const char *name)
{
    struct desc_list *list = desc_at(f, rest->out);
    size_t size = desc_kind_size(f->item_kind, f->type);
    if (list->items) {
        return true; /* All of them were read when the first was met. */
    }
    char *items = arena_array(rest->arena, query->count, size);
    size_t count = 0;
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->items[i].name, name) != 0) {
            continue;
        }
        if (!read_text(rest, f->item_kind, name, query->items[i].value,
                       items + count++ * size)) {
            return false;
        }
    }
    *list = (struct desc_list){items, count};
    return true;
}

/* Parameters that the pattern itself names ("?flag") are passed over. */
static bool
read_query(struct rest *rest, const struct params *query, const char *pattern)
{
    const char *fixed = strchr(pattern, '?');
    for (size_t i = 0; i < query->count; i++) {
        const struct param *p = &query->items[i];
        const struct desc_field *f =
            field_at(rest->desc, DESC_IN_QUERY, p->name, p->name_len);
        if (!f &&
            (str_starts(p->name, "X-Amz-") || (fixed && strstr(fixed, p->name)))) {
            continue;
        }
        if (!f) {
            return err_set(rest->err, ERR_UNKNOWN_PARAMETER,
                           "The parameter %.128s is not recognized", p->name);
        }
        if (f->kind == DESC_LIST ? !read_query_list(rest, f, query, p->name)
                                 : !read_field(rest, f, p->value)) {
            return false;
        }
    }
    return true;
}

static bool
read_headers(struct rest *rest, header_fn *header, void *ctx)
{
    for (uint32_t i = 0; i < rest->desc->field_count; i++) {
        const struct desc_field *f = &rest->desc->fields[i];
        const char *text = f->flags & DESC_IN_HEADER
                               ? header(ctx, f->in_name ? f->in_name : f->name)
                               : NULL;
        if (text && !read_field(rest, f, text)) {
            return false;
        }
    }
    return true;
}

/* ---- body ------------------------------------------------------------------------------- */

static bool
read_body(struct rest *rest, const char *body, size_t len)
{
    const struct desc_field *payload = NULL;
    for (uint32_t i = 0; i < rest->desc->field_count && !payload; i++) {
        const struct desc_field *f = &rest->desc->fields[i];
        payload = f->flags & DESC_PAYLOAD ? f : NULL;
    }
    if (!payload) {
        return json_decode(rest->desc, body, len, rest->arena, rest->out, rest->err);
    }
    memset(rest->out, 0, rest->desc->size);
    if (!len) {
        return true;
    }
    void *at = desc_at(payload, rest->out);
    if (payload->kind == DESC_BLOB) {
        *(struct blob *)at = (struct blob){arena_memdup(rest->arena, body, len), len};
        return true;
    }
    if (payload->kind == DESC_STR) {
        *(const char **)at = arena_strndup(rest->arena, body, len);
        return true;
    }
    void *inner = arena_alloc(rest->arena, payload->type->size);
    *(void **)at = inner;
    return json_decode(payload->type, body, len, rest->arena, inner, rest->err);
}

bool
rest_decode(const struct desc *desc, const char *pattern, const char *path,
            const struct params *query, header_fn *header, void *ctx, const char *body,
            size_t len, struct arena *arena, void *out, bool *out_matches,
            struct err *err)
{
    struct rest rest = {desc, arena, out, err};
    *out_matches = rest_path_matches(pattern, path);
    bool fits;
    /* The body first: it begins with an empty struct. */
    return !*out_matches ||
           (read_body(&rest, body, len) &&
            walk(&rest, pattern, path, read_label, &fits) &&
            read_query(&rest, query, pattern) && read_headers(&rest, header, ctx));
}
