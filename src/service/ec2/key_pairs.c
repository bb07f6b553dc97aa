/* key_pairs.c - CreateKeyPair, ImportKeyPair, DescribeKeyPairs, DeleteKeyPair.
 *
 * A private key is answered once and kept nowhere: a transaction that runs again makes
 * another. */
#include "service/ec2/describe.h"
#include "service/ec2/key_material.h"

#define KEY_NAME_MAX 255
#define KEYS_MAX 5000 /* A region: AWS's quota. */

static const char *const taggable[] = {"key-pair", NULL};

static bool
name_check(const char *name, struct err *err)
{
    if (str_empty(name)) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter KeyName");
    }
    bool good = strlen(name) <= KEY_NAME_MAX;
    for (const char *p = name; *p; p++) {
        good = good && *p >= ' ' && *p < 0x7f;
    }
    return good || err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Value (%.80s) for parameter KeyName is invalid. A name has "
                           "up to 255 ASCII characters.",
                           name);
}

static bool
find_by_name(struct call *call, const char *name, const struct row_key_pair **out,
             struct err *err)
{
    const struct row_key_pair key = {
        .account = call->account, .region = call->region, .name = name};
    const void *row;
    if (!row_get(call->txn, &row_key_pair_type, &key, &row, err)) {
        return false;
    }
    *out = row;
    return true;
}

static bool
find_by_id(struct call *call, const char *id, const struct row_key_pair **out,
           struct err *err)
{
    const struct row_key_pair prefix = {
        .account = call->account, .region = call->region, .id = id};
    const struct row_query query = {
        .index = "by_id", .prefix = &prefix, .prefix_fields = 3, .limit = 1};
    struct row_list list;
    if (!row_list(call->txn, &row_key_pair_type, &query, &list, err)) {
        return false;
    }
    *out = list.count ? list.rows[0] : NULL;
    return true;
}

/* What both ways of getting a pair check before they do anything. */
static bool
new_check(struct call *call, const char *name,
          const struct ec2_tag_specification *specs, size_t spec_count, bool dry_run,
          struct err *err)
{
    const struct row_key_pair *old;
    if (!name_check(name, err) || !tag_specs_check(specs, spec_count, taggable, err) ||
        !find_by_name(call, name, &old, err)) {
        return false;
    }
    if (old) {
        return err_set(err, ERR_KEY_DUPLICATE, "The keypair already exists");
    }
    return room_for_one(call, &row_key_pair_type, NULL, KEYS_MAX, ERR_RESOURCE_LIMIT,
                        "key pairs", err) &&
           dry_run_check(dry_run, err);
}

static bool
put(struct call *call, const char *name, const struct key_material *key,
    const struct ec2_tag_specification *specs, size_t spec_count, const char **out_id,
    struct tag_set *out_tags, struct err *err)
{
    const struct row_key_pair row = {
        .account = call->account,
        .region = call->region,
        .name = name,
        .id = id_new(call->arena, call->rng, "key"),
        .fingerprint = key->fingerprint,
        .type = key_kind_name(key->kind),
        .public_key = key->public_key,
        .created_at = call->now_ns,
    };
    *out_id = row.id;
    return row_insert(call->txn, &row_key_pair_type, &row, err) &&
           tag_specs_put(call, specs, spec_count, "key-pair", row.id, err) &&
           tags_load_one(call, row.id, out_tags, err);
}

bool
ec2_create_key_pair(struct call *call, const struct ec2_create_key_pair_request *in,
                    struct ec2_key_pair *out, struct err *err)
{
    struct key_material key;
    struct tag_set tags;
    bool ed25519 = str_eq(in->key_type, "ed25519");
    if (!new_check(call, in->key_name, in->tag_specifications.items,
                   in->tag_specifications.count, in->dry_run, err)) {
        return false;
    }
    if (in->key_format && !str_eq(in->key_format, "pem")) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Private keys are given in the format pem only; puttygen turns "
                       "one into ppk.");
    }
    if (!key_make(call->arena, call->rng, ed25519 ? KEY_ED25519 : KEY_RSA, in->key_name,
                  &key, err) ||
        !put(call, in->key_name, &key, in->tag_specifications.items,
             in->tag_specifications.count, &out->key_pair_id, &tags, err)) {
        return false;
    }
    out->key_name = in->key_name;
    out->key_fingerprint = key.fingerprint;
    out->key_material = key.private_pem;
    out->tags.items = tags_out(call, tags);
    out->tags.count = tags.count;
    return true;
}

bool
ec2_import_key_pair(struct call *call, const struct ec2_import_key_pair_request *in,
                    struct ec2_import_key_pair_result *out, struct err *err)
{
    struct key_material key;
    struct tag_set tags;
    if (!in->public_key_material.len) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter PublicKeyMaterial");
    }
    if (!key_read(call->arena, in->public_key_material.data,
                  in->public_key_material.len, in->key_name, &key, err) ||
        !new_check(call, in->key_name, in->tag_specifications.items,
                   in->tag_specifications.count, in->dry_run, err) ||
        !put(call, in->key_name, &key, in->tag_specifications.items,
             in->tag_specifications.count, &out->key_pair_id, &tags, err)) {
        return false;
    }
    out->key_name = in->key_name;
    out->key_fingerprint = key.fingerprint;
    out->tags.items = tags_out(call, tags);
    out->tags.count = tags.count;
    return true;
}

FILTER_TEXT(filter_id, struct row_key_pair, id)
FILTER_TEXT(filter_fingerprint, struct row_key_pair, fingerprint)
FILTER_TEXT(filter_name, struct row_key_pair, name)

static const struct filter_def key_pair_filters[] = {
    {"key-pair-id", filter_id_values},
    {"fingerprint", filter_fingerprint_values},
    {"key-name", filter_name_values},
};

bool
ec2_describe_key_pairs(struct call *call,
                       const struct ec2_describe_key_pairs_request *in,
                       struct ec2_describe_key_pairs_result *out, struct err *err)
{
    struct filters filters;
    struct pick names, ids;
    struct tags tags;
    struct row_list list;
    const struct row_key_pair prefix = {.account = call->account,
                                        .region = call->region};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    if (!filters_init(call, key_pair_filters, ARRAY_LEN(key_pair_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !dry_run_check(in->dry_run, err) || !tags_load_all(call, &tags, err) ||
        !row_list(call->txn, &row_key_pair_type, &query, &list, err)) {
        return false;
    }
    pick_init(call, in->key_names.items, in->key_names.count, &names);
    pick_init(call, in->key_pair_ids.items, in->key_pair_ids.count, &ids);
    struct ec2_key_pair_info *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_key_pair_info);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_key_pair *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        bool named = pick_take(&names, row->name);
        if (!pick_take(&ids, row->id) || !named || !filters_match(&filters, row, set)) {
            continue;
        }
        items[count++] = (struct ec2_key_pair_info){
            .key_pair_id = row->id,
            .key_name = row->name,
            .key_fingerprint = row->fingerprint,
            .key_type = row->type,
            .public_key = in->include_public_key ? row->public_key : NULL,
            HAS(create_time, row->created_at),
            .tags = {tags_out(call, set), set.count},
        };
    }
    out->key_pairs.items = items;
    out->key_pairs.count = count;
    return pick_check(call, &names, ERR_KEY_PAIR_NOT_FOUND, "key pair", err) &&
           pick_check(call, &ids, ERR_KEY_PAIR_NOT_FOUND, "key pair ID", err);
}

bool
ec2_delete_key_pair(struct call *call, const struct ec2_delete_key_pair_request *in,
                    struct err *err)
{
    const struct row_key_pair *row;
    if (!in->key_name && !in->key_pair_id) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter KeyName or KeyPairId");
    }
    bool read = in->key_name ? find_by_name(call, in->key_name, &row, err)
                             : find_by_id(call, in->key_pair_id, &row, err);
    if (!read || !dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (!row || (in->key_pair_id && !str_eq(row->id, in->key_pair_id))) {
        return true; /* Deleting what is not there succeeds. */
    }
    return tags_drop(call, row->id, err) &&
           row_delete(call->txn, &row_key_pair_type, row, err);
}
