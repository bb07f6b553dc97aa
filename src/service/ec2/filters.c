/* filters.c - Filter.N of the Describe calls, and their pages. */
#include "base/crypto.h"
#include "base/timefmt.h"
#include "core/match.h"
#include "core/page_token.h"
#include "service/ec2/common.h"

#define FILTER_VALUES_MAX 200

enum filter_kind {
    FILTER_FIELD,
    FILTER_TAG,       /* tag:KEY */
    FILTER_TAG_KEY,   /* tag-key */
    FILTER_TAG_VALUE, /* tag-value */
};

struct filter_use {
    enum filter_kind kind;
    const struct filter_def *def; /* FILTER_FIELD */
    const char *tag_key;          /* FILTER_TAG */
    const struct ec2_filter *filter;
    bool wild; /* Some value has a character that means something. */
};

struct filter_test {
    const struct filter_use *use;
    bool hit;
};

void
filter_offer(struct filter_test *test, const char *value)
{
    if (!value || test->hit) {
        return;
    }
    const struct ec2_filter *f = test->use->filter;
    for (size_t i = 0; i < f->values.count; i++) {
        const char *want = f->values.items[i];
        if (test->use->wild ? match_wildcard(want, value) : strcmp(want, value) == 0) {
            test->hit = true;
            return;
        }
    }
}

void
filter_offer_int(struct filter_test *test, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    filter_offer(test, text);
}

void
filter_offer_bool(struct filter_test *test, bool value)
{
    filter_offer(test, value ? "true" : "false");
}

void
filter_offer_time(struct filter_test *test, int64_t ns)
{
    if (ns) {
        char text[TIME_TEXT_LEN];
        time_iso(ns, text);
        filter_offer(test, text);
    }
}

static bool
filter_resolve(const struct filter_def *defs, size_t def_count,
               const struct ec2_filter *filter, struct filter_use *out, struct err *err)
{
    const char *name = filter->name;
    *out = (struct filter_use){.filter = filter};
    for (size_t i = 0; i < filter->values.count; i++) {
        out->wild |= strpbrk(filter->values.items[i], "*?\\") != NULL;
    }
    if (str_starts(name, "tag:")) {
        out->kind = FILTER_TAG;
        out->tag_key = name + strlen("tag:");
        return true;
    }
    if (str_eq(name, "tag-key") || str_eq(name, "tag-value")) {
        out->kind = str_eq(name, "tag-key") ? FILTER_TAG_KEY : FILTER_TAG_VALUE;
        return true;
    }
    for (size_t i = 0; i < def_count; i++) {
        if (strcmp(defs[i].name, name) == 0) {
            out->def = &defs[i];
            return true;
        }
    }
    return err_set(err, ERR_FILTER_INVALID, "The filter '%.200s' is invalid", name);
}

bool
filters_init(struct call *call, const struct filter_def *defs, size_t def_count,
             const struct ec2_filter *filters, size_t count, struct filters *out,
             struct err *err)
{
    size_t values = 0;
    *out = (struct filters){.uses = ARENA_ARRAY(call->arena, count, struct filter_use),
                            .count = count};
    for (size_t i = 0; i < count; i++) {
        if (str_empty(filters[i].name)) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "The filter name is missing");
        }
        if (filters[i].values.count == 0) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "The filter '%.200s' has no values", filters[i].name);
        }
        values += filters[i].values.count;
        if (!filter_resolve(defs, def_count, &filters[i], &out->uses[i], err)) {
            return false;
        }
    }
    if (values > FILTER_VALUES_MAX) {
        return err_set(err, ERR_FILTER_LIMIT,
                       "The maximum number of filter values specified on a single call "
                       "is %d",
                       FILTER_VALUES_MAX);
    }
    return true;
}

unsigned
filters_parts(const struct filters *filters, unsigned tags)
{
    unsigned parts = 0;
    for (size_t i = 0; i < filters->count; i++) {
        const struct filter_use *use = &filters->uses[i];
        parts |= use->kind == FILTER_FIELD ? use->def->parts : tags;
    }
    return parts;
}

static void
offer_tags(const struct filter_use *use, struct tag_set tags, struct filter_test *test)
{
    for (size_t i = 0; i < tags.count; i++) {
        const struct row_tag *tag = tags.rows[i];
        if (use->kind == FILTER_TAG_KEY) {
            filter_offer(test, tag->tag_key);
        } else if (use->kind == FILTER_TAG_VALUE ||
                   strcmp(tag->tag_key, use->tag_key) == 0) {
            filter_offer(test, tag->value ? tag->value : "");
        }
    }
}

bool
filters_match(const struct filters *filters, const void *object, struct tag_set tags)
{
    for (size_t i = 0; i < filters->count; i++) {
        const struct filter_use *use = &filters->uses[i];
        struct filter_test test = {.use = use};
        if (use->kind != FILTER_FIELD) {
            offer_tags(use, tags, &test);
        } else if (use->def->values) {
            use->def->values(object, &test);
        }
        if (!test.hit) {
            return false;
        }
    }
    return true;
}

/* ---- pages ---- */

/* Everything that a token may not be moved away from. The lengths keep values apart. */
static const char *
page_bind(struct call *call, const struct filters *filters)
{
    AUTO(buf) struct buf text = {0};
    const char *parts[] = {call->config->cloud_id, call->account, call->region,
                           call->operation};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buf_printf(&text, "%s\n", parts[i] ? parts[i] : "");
    }
    for (size_t i = 0; i < filters->count; i++) {
        const struct ec2_filter *f = filters->uses[i].filter;
        buf_printf(&text, "%zu:%s\n", strlen(f->name), f->name);
        for (size_t v = 0; v < f->values.count; v++) {
            buf_printf(&text, " %zu:%s\n", strlen(f->values.items[v]),
                       f->values.items[v]);
        }
    }
    char hex[SHA256_HEX_LEN];
    sha256_hex(buf_str(&text), text.len, hex);
    return arena_strdup(call->arena, hex);
}

static bool
page_check_max(const struct page_ask *ask, struct err *err)
{
    if (ask->ids > 0) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "The parameter %s cannot be used with the parameter maxResults",
                       ask->ids_name);
    }
    if (ask->max_results < ask->min) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value ( %" PRId64 " ) for parameter maxResults is invalid. "
                       "Expecting a value greater than %" PRId64 ".",
                       ask->max_results, ask->min);
    }
    if (ask->max_results > ask->max) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value ( %" PRId64 " ) for parameter maxResults is invalid. "
                       "Expecting a value smaller than %" PRId64 ".",
                       ask->max_results, ask->max);
    }
    return true;
}

bool
page_init(struct call *call, const struct page_ask *ask, const struct filters *filters,
          struct page *out, struct err *err)
{
    struct page page = {.left = ask->most && !ask->ids ? ask->most : SIZE_MAX,
                        .filters = filters};
    if (ask->has_max) {
        if (!page_check_max(ask, err)) {
            return false;
        }
        page.left = (size_t)ask->max_results;
    }
    if (ask->has_max || !str_empty(ask->next_token)) {
        page.bind = page_bind(call, filters);
    }
    if (!str_empty(ask->next_token) &&
        !page_token_read(call->arena, page.bind, ask->next_token, &page.after, err)) {
        return false;
    }
    *out = page;
    return true;
}

bool
page_take(struct page *page, const char *key)
{
    if (page->after && strcmp(key, page->after) <= 0) {
        return false;
    }
    if (page->left == 0) {
        page->more = true;
        return false;
    }
    page->left--;
    page->last = key;
    return true;
}

const char *
page_next_token(struct call *call, const struct page *page)
{
    if (!page->more || !page->last) {
        return NULL;
    }
    const char *bind = page->bind ? page->bind : page_bind(call, page->filters);
    return page_token_make(call->arena, bind, page->last);
}
