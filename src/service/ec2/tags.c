/* tags.c - tags as the other handlers meet them: loaded, shown, set at creation. */
#include "service/ec2/common.h"

bool
tags_load_all(struct call *call, struct tags *out, struct err *err)
{
    const struct row_tag prefix = {.account = call->account, .region = call->region};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    return row_list(call->txn, &row_tag_type, &query, &out->rows, err);
}

bool
tags_load_one(struct call *call, const char *resource_id, struct tag_set *out,
              struct err *err)
{
    const struct row_tag prefix = {
        .account = call->account, .region = call->region, .resource_id = resource_id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 3};
    struct row_list list;
    if (!row_list(call->txn, &row_tag_type, &query, &list, err)) {
        return false;
    }
    *out = (struct tag_set){(const struct row_tag *const *)list.rows, list.count};
    return true;
}

/* Index of the first tag whose resource is not before 'id'. */
static size_t
first_of(const struct row_tag *const *rows, size_t count, const char *id)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(rows[middle]->resource_id, id);
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct tag_set
tags_of(const struct tags *tags, const char *resource_id)
{
    const struct row_tag *const *rows = (const struct row_tag *const *)tags->rows.rows;
    size_t first = first_of(rows, tags->rows.count, resource_id);
    size_t end = first;
    /* At most TAGS_MAX of them: walking on is cheaper than a second search. */
    while (end < tags->rows.count && strcmp(rows[end]->resource_id, resource_id) == 0) {
        end++;
    }
    return (struct tag_set){rows + first, end - first};
}

const char *
tag_value(struct tag_set set, const char *key)
{
    for (size_t i = 0; i < set.count; i++) {
        if (strcmp(set.rows[i]->tag_key, key) == 0) {
            return set.rows[i]->value ? set.rows[i]->value : "";
        }
    }
    return NULL;
}

struct ec2_tag *
tags_out(struct call *call, struct tag_set set)
{
    struct ec2_tag *out = ARENA_ARRAY(call->arena, set.count, struct ec2_tag);
    for (size_t i = 0; i < set.count; i++) {
        out[i].key = set.rows[i]->tag_key;
        out[i].value = set.rows[i]->value ? set.rows[i]->value : "";
    }
    return out;
}

#define TAG_KEY_MAX 128
#define TAG_VALUE_MAX 256

/* Characters of UTF-8, not bytes. */
static size_t
characters(const char *s)
{
    size_t count = 0;
    for (; *s; s++) {
        count += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return count;
}

bool
tag_check(const char *key, const char *value, struct err *err)
{
    if (str_empty(key)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Tag key cannot be null or empty");
    }
    if (strncasecmp(key, "aws:", 4) == 0) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Tag keys starting with 'aws:' are reserved for internal use");
    }
    if (characters(key) > TAG_KEY_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Tag key exceeds the maximum length of %d characters",
                       TAG_KEY_MAX);
    }
    if (value && characters(value) > TAG_VALUE_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Tag value exceeds the maximum length of %d characters",
                       TAG_VALUE_MAX);
    }
    return true;
}

static bool
type_known(const char *const *types, const char *type)
{
    for (; *types; types++) {
        if (strcmp(*types, type) == 0) {
            return true;
        }
    }
    return false;
}

static bool
spec_check(const struct ec2_tag_specification *spec, struct err *err)
{
    if (spec->tags.count == 0) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Tag specification must have at least one tag");
    }
    if (spec->tags.count > TAGS_MAX) {
        return err_set(err, ERR_TAG_LIMIT,
                       "The maximum number of Tags for a resource has been reached.");
    }
    for (size_t i = 0; i < spec->tags.count; i++) {
        const struct ec2_tag *tag = &spec->tags.items[i];
        if (!tag_check(tag->key, tag->value, err)) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(spec->tags.items[k].key, tag->key) == 0) {
                return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                               "Duplicate tag key '%s' specified.", tag->key);
            }
        }
    }
    return true;
}

bool
tag_specs_check(const struct ec2_tag_specification *specs, size_t count,
                const char *const *types, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *type = specs[i].resource_type;
        if (str_empty(type)) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Tag specification resource type must have a value");
        }
        if (!type_known(types, type)) {
            return err_set(
                err, ERR_INVALID_PARAMETER_VALUE,
                "'%s' is not a valid taggable resource type for this operation.", type);
        }
        for (size_t k = 0; k < i; k++) {
            if (str_eq(specs[k].resource_type, type)) {
                return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                               "The same resource type may not be specified more than "
                               "once in tag specifications");
            }
        }
        if (!spec_check(&specs[i], err)) {
            return false;
        }
    }
    return true;
}

bool
tag_specs_put(struct call *call, const struct ec2_tag_specification *specs,
              size_t count, const char *resource_type, const char *resource_id,
              struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!str_eq(specs[i].resource_type, resource_type)) {
            continue;
        }
        for (size_t k = 0; k < specs[i].tags.count; k++) {
            const struct ec2_tag *tag = &specs[i].tags.items[k];
            const struct row_tag row = {.account = call->account,
                                        .region = call->region,
                                        .resource_id = resource_id,
                                        .tag_key = tag->key,
                                        .value = tag->value ? tag->value : "",
                                        .resource_type = resource_type};
            if (!row_put(call->txn, &row_tag_type, &row, err)) {
                return false;
            }
        }
    }
    return true;
}

bool
tags_drop(struct call *call, const char *resource_id, struct err *err)
{
    struct tag_set set;
    if (!tags_load_one(call, resource_id, &set, err)) {
        return false;
    }
    for (size_t i = 0; i < set.count; i++) {
        if (!row_delete(call->txn, &row_tag_type, set.rows[i], err)) {
            return false;
        }
    }
    return true;
}
