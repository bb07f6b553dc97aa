/* common.h - what EC2's handlers share: ids, filters, pages, tags, dry runs.
 *
 * Place:    service/ec2; above the rows and core/.
 * Memory:   everything lives in the call's arena.
 * Threads:  the request's.
 *
 * A Describe call reads like this:
 *
 *     struct filters filters;
 *     struct page page;
 *     if (!filters_init(call, vpc_filters, ARRAY_LEN(vpc_filters), in->filters.items,
 *                       in->filters.count, &filters, err) ||
 *         !page_init(call, &(struct page_ask){.has_max = in->has_max_results,
 *                        .max_results = in->max_results, .min = 5, .max = 1000,
 *                        .next_token = in->next_token, .ids = in->vpc_ids.count,
 *                        .ids_name = "vpcIds"}, &filters, &page, err)) {
 *         return false;
 *     }
 *     ... row_list(...), tags_load_all(call, &tags, err) ...
 *     for each row, in the order of its key:
 *         set = tags_of(&tags, row->id);
 *         if (filters_match(&filters, row, set) && page_take(&page, row->id)) {
 *             put it out, with .tags = tags_out(call, set)
 *         }
 *     out->next_token = page_next_token(call, &page);
 */
#pragma once
#include "core/config.h"
#include "core/id.h"
#include "service/call.h"
#include "service/ec2/api.h"
#include "store/rows.h"

/* ---- ids ---- */

/* Each of 'ids' must have the form of 'prefix': else 'malformed', "Invalid id: "x"". */
MUST_CHECK bool ids_check(const char *prefix, const char *const *ids, size_t count,
                          enum err_code malformed, struct err *err);
/* "The VPC ID 'vpc-1' does not exist": 'what' is "VPC ID". One id that is missing. */
bool err_no_such(struct err *err, enum err_code code, const char *what, const char *id);
/* The same for several: "The instance IDs 'i-1, i-2' do not exist". */
bool err_no_such_ids(struct err *err, enum err_code code, const char *what,
                     const char *const *ids, size_t count);
/* Several ids as one text, for token_put, and back from it. */
const char *ids_join(struct call *call, const char *const *ids, size_t count);
const char **ids_split(struct call *call, const char *text, size_t *out_count);
/* DryRunOperation when asked for; call it when everything has been checked and before
 * the first write: if (!dry_run_check(in->has_dry_run && in->dry_run, err)) return
 * false; */
MUST_CHECK bool dry_run_check(bool dry_run, struct err *err);

/* ---- tags ---- */

struct tag_set {
    const struct row_tag *const *rows;
    size_t count;
};

/* All tags of the account in the region, by resource id. */
struct tags {
    struct row_list rows;
};

MUST_CHECK bool tags_load_all(struct call *call, struct tags *out, struct err *err);
MUST_CHECK bool tags_load_one(struct call *call, const char *resource_id,
                              struct tag_set *out, struct err *err);
struct tag_set tags_of(const struct tags *tags, const char *resource_id); /* O(log n) */
/* The value of 'key', or NULL. */
const char *tag_value(struct tag_set set, const char *key);
/* As a result's list of tags: assign both members. */
struct ec2_tag *tags_out(struct call *call, struct tag_set set);

/* AWS's limits: key 1 to 128 characters, value up to 256, no "aws:" prefix. */
MUST_CHECK bool tag_check(const char *key, const char *value, struct err *err);
#define TAGS_MAX 50

/* TagSpecifications: 'types' are the resource types that this operation makes, ended by
 * NULL; another type, a repeated type or key, and bad tags are refused. */
MUST_CHECK bool tag_specs_check(const struct ec2_tag_specification *specs, size_t count,
                                const char *const *types, struct err *err);
/* Puts the tags that 'specs' has for 'resource_type' on 'resource_id'. */
MUST_CHECK bool tag_specs_put(struct call *call,
                              const struct ec2_tag_specification *specs, size_t count,
                              const char *resource_type, const char *resource_id,
                              struct err *err);
/* Deletes every tag of a resource that goes away. */
MUST_CHECK bool tags_drop(struct call *call, const char *resource_id, struct err *err);

/* ---- filters ---- */

/* The test under way: a filter's 'values' function offers each value that the object
 * has. */
struct filter_test;
typedef void filter_values_fn(const void *object, struct filter_test *test);

void filter_offer(struct filter_test *test, const char *value); /* NULL: has none. */
void filter_offer_int(struct filter_test *test, int64_t value);
void filter_offer_bool(struct filter_test *test, bool value);
void filter_offer_time(struct filter_test *test, int64_t ns); /* 0: has none. */

struct filter_def {
    const char *name;         /* "instance-type" */
    filter_values_fn *values; /* NULL: accepted, and no object of ours has a value. */
    unsigned
        parts; /* Of the object, as its handlers number them: what 'values' looks at
                     * beyond its own row. */
};

/* Defines NAME_values(): the field of a row (or other struct) as text. */
#define FILTER_TEXT(NAME, type, member) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        filter_offer(test, ((const type *)object)->member); \
    }
#define FILTER_BOOL(NAME, type, member) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        filter_offer_bool(test, ((const type *)object)->member); \
    }
#define FILTER_INT(NAME, type, member) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        filter_offer_int(test, ((const type *)object)->member); \
    }
#define FILTER_TIME(NAME, type, member) \
    static void NAME##_values(const void *object, struct filter_test *test) \
    { \
        filter_offer_time(test, ((const type *)object)->member); \
    }

struct filter_use; /* One filter of the request, resolved. */
struct filters {
    struct filter_use *uses;
    size_t count;
};

/* Resolves names; tag:KEY, tag-key and tag-value are known for every object. An unknown
 * name is InvalidParameterValue "The filter 'x' is invalid"; more than 200 values are
 * FilterLimitExceeded. 'defs' is borrowed for as long as 'out' is used. */
MUST_CHECK bool filters_init(struct call *call, const struct filter_def *defs,
                             size_t def_count, const struct ec2_filter *filters,
                             size_t count, struct filters *out, struct err *err);
/* The parts of objects that the filters look at; 'tags': what tags count as. */
unsigned filters_parts(const struct filters *filters, unsigned tags);
/* Every filter has some value that the object has. */
bool filters_match(const struct filters *filters, const void *object,
                   struct tag_set tags);

/* ---- pages ---- */

struct page_ask {
    bool has_max;
    int64_t max_results;
    int64_t min, max; /* The operation's range of MaxResults. */
    size_t most;      /* On the page of who does not say how many; 0: all there are. */
    const char *next_token;
    size_t ids; /* How many ids the request names... */
    const char
        *ids_name; /* ..."instancesSet": with MaxResults a combination refused. */
};

struct page {
    size_t left;       /* SIZE_MAX: unlimited. */
    const char *after; /* Key of the last page's end, or NULL. */
    const char *last;  /* Last key taken. */
    bool more;
    const struct filters *filters;
    const char *bind; /* Of tokens; NULL: none came or was asked for. */
};

MUST_CHECK bool page_init(struct call *call, const struct page_ask *ask,
                          const struct filters *filters, struct page *out,
                          struct err *err);
/* Whether the object with this key (rising from call to call, borrowed until the answer
 * is made) belongs on the page. */
bool page_take(struct page *page, const char *key);
/* NULL: that was all. */
const char *page_next_token(struct call *call, const struct page *page);

/* ---- where a request leads ---- */

/* The default VPC of an account in a region, made at first sight (in a writing
 * transaction): 172.31.0.0/16, a /20 subnet in each zone, an internet gateway, and what
 * every VPC has. '*out_vpc_id' is NULL when its owner has deleted it. */
MUST_CHECK bool default_vpc_ensure(struct call *call, const char *account,
                                   const char *region, const char **out_vpc_id,
                                   struct err *err);
/* The same without making it: '*out_vpc_id' NULL when there is none. */
MUST_CHECK bool default_vpc_find(struct call *call, const char **out_vpc_id,
                                 struct err *err);
/* An image that this account may launch from, or see: its own, a public one, or one
 * shared with it. '*out' NULL: to this caller there is none. */
MUST_CHECK bool image_visible(struct call *call, const char *image_id,
                              const struct row_image **out, struct err *err);
/* An instance of this account and region that is still visible, checked for form;
 * InvalidInstanceID.Malformed or .NotFound. */
MUST_CHECK bool instance_find(struct call *call, const char *instance_id,
                              const struct row_instance **out, struct err *err);
/* Its state now, with the node's last word. */
MUST_CHECK bool instance_state_load(struct call *call, const struct row_instance *inst,
                                    int *out_state, struct err *err);
/* ClientToken: '*out_result' is what the same request made before, or NULL (go on, then
 * token_put). The same token with another 'digest' is IdempotentParameterMismatch. */
MUST_CHECK bool token_get(struct call *call, const char *token, const char *digest,
                          const char **out_result, struct err *err);
MUST_CHECK bool token_put(struct call *call, const char *token, const char *digest,
                          const char *result, struct err *err);
/* sha256 (hex) over a request by its descriptor, ClientToken and DryRun included. */
const char *request_digest(struct call *call, const struct desc *desc, const void *in);
