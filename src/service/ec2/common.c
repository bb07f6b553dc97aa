#include "service/ec2/common.h"

#include "base/crypto.h"
#include "base/jsonio.h"
#include "core/lifecycle.h"

bool
ids_check(const char *prefix, const char *const *ids, size_t count,
          enum err_code malformed, struct err *err)
{
    size_t len = strlen(prefix);
    for (size_t i = 0; i < count; i++) {
        if (!ids[i]) { /* The model calls it optional; the operation does not. */
            return err_set(err, ERR_MISSING_PARAMETER,
                           "The request must contain the id of a resource \"%s-...\"",
                           prefix);
        }
        if (id_valid(prefix, ids[i])) {
            continue;
        }
        if (strncmp(ids[i], prefix, len) == 0 && ids[i][len] == '-') {
            return err_set(err, malformed, "Invalid id: \"%s\"", ids[i]);
        }
        return err_set(err, malformed, "Invalid id: \"%s\" (expecting \"%s-...\")",
                       ids[i], prefix);
    }
    return true;
}

bool
err_no_such(struct err *err, enum err_code code, const char *what, const char *id)
{
    return err_set(err, code, "The %s '%s' does not exist", what, id);
}

bool
err_no_such_ids(struct err *err, enum err_code code, const char *what,
                const char *const *ids, size_t count)
{
    if (count == 1) {
        return err_no_such(err, code, what, ids[0]);
    }
    AUTO(buf) struct buf list = {.limit = 400};
    for (size_t i = 0; i < count; i++) {
        buf_printf(&list, "%s%s", i ? ", " : "", ids[i]);
    }
    return err_set(err, code, "The %ss '%s' do not exist", what, buf_str(&list));
}

const char *
ids_join(struct call *call, const char *const *ids, size_t count)
{
    AUTO(buf) struct buf text = {0};
    for (size_t i = 0; i < count; i++) {
        buf_printf(&text, "%s%s", i ? " " : "", ids[i]);
    }
    return arena_strdup(call->arena, buf_str(&text));
}

const char **
ids_split(struct call *call, const char *text, size_t *out_count)
{
    char *rest = arena_strdup(call->arena, text), *save;
    const char **ids = ARENA_ARRAY(call->arena, strlen(text) / 2 + 1, const char *);
    *out_count = 0;
    for (char *id = strtok_r(rest, " ", &save); id; id = strtok_r(NULL, " ", &save)) {
        ids[(*out_count)++] = id;
    }
    return ids;
}

bool
dry_run_check(bool dry_run, struct err *err)
{
    if (dry_run) {
        return err_set(err, ERR_DRY_RUN,
                       "Request would have succeeded, but DryRun flag is set.");
    }
    return true;
}

static bool
listed(const struct row_image *image, const char *account)
{
    for (size_t i = 0; i < image->launch_accounts.count; i++) {
        if (str_eq(image->launch_accounts.items[i], account)) {
            return true;
        }
    }
    return false;
}

bool
image_visible(struct call *call, const char *image_id, const struct row_image **out,
              struct err *err)
{
    const struct row_image key = {.id = image_id};
    const void *row;
    if (!row_get(call->txn, &row_image_type, &key, &row, err)) {
        return false;
    }
    const struct row_image *image = row;
    bool visible = image && str_eq(image->region, call->region) &&
                   !str_eq(image->state, "deregistered") &&
                   (str_eq(image->account, call->account) || image->public ||
                    listed(image, call->account));
    *out = visible ? image : NULL;
    return true;
}

bool
instance_find(struct call *call, const char *instance_id,
              const struct row_instance **out, struct err *err)
{
    if (!ids_check("i", &instance_id, 1, ERR_INSTANCE_MALFORMED, err)) {
        return false;
    }
    const struct row_instance key = {.account = call->account, .id = instance_id};
    const void *row;
    if (!row_get(call->txn, &row_instance_type, &key, &row, err)) {
        return false;
    }
    const struct row_instance *inst = row;
    if (!inst || !str_eq(inst->region, call->region) ||
        !instance_visible(inst, call->now_ns)) {
        return err_no_such(err, ERR_INSTANCE_NOT_FOUND, "instance ID", instance_id);
    }
    *out = inst;
    return true;
}

bool
instance_state_load(struct call *call, const struct row_instance *inst, int *out_state,
                    struct err *err)
{
    const void *seen = NULL;
    if (instance_state_needs_seen(inst)) {
        const struct row_machine_seen key = {.id = inst->id};
        if (!row_get(call->txn, &row_machine_seen_type, &key, &seen, err)) {
            return false;
        }
    }
    *out_state = (int)instance_state_of(inst, seen);
    return true;
}

#define CLIENT_TOKEN_MAX 64

bool
token_get(struct call *call, const char *token, const char *digest,
          const char **out_result, struct err *err)
{
    *out_result = NULL;
    if (str_empty(token)) {
        return true;
    }
    if (strlen(token) > CLIENT_TOKEN_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.80s) for parameter clientToken is invalid. The token "
                       "must not be longer than %d characters.",
                       token, CLIENT_TOKEN_MAX);
    }
    const struct row_client_token key = {.account = call->account,
                                         .region = call->region,
                                         .operation = call->operation,
                                         .token = token};
    const void *row;
    if (!row_get(call->txn, &row_client_token_type, &key, &row, err)) {
        return false;
    }
    const struct row_client_token *old = row;
    if (old && !str_eq(old->digest, digest)) {
        return err_set(err, ERR_IDEMPOTENT_MISMATCH,
                       "Arguments on this idempotent request are inconsistent with "
                       "arguments used in previous request(s).");
    }
    *out_result = old ? old->result : NULL;
    return true;
}

bool
token_put(struct call *call, const char *token, const char *digest, const char *result,
          struct err *err)
{
    if (str_empty(token)) {
        return true;
    }
    const struct row_client_token row = {.account = call->account,
                                         .region = call->region,
                                         .operation = call->operation,
                                         .token = token,
                                         .digest = digest,
                                         .result = result,
                                         .at = call->now_ns};
    return row_put(call->txn, &row_client_token_type, &row, err);
}

const char *
request_digest(struct call *call, const struct desc *desc, const void *in)
{
    AUTO(buf) struct buf text = {0};
    char hex[SHA256_HEX_LEN];
    json_write(desc, in, JSONIO_TIME_TEXT, &text);
    sha256_hex(buf_str(&text), text.len, hex);
    return arena_strdup(call->arena, hex);
}
