/* template_versions.c - versions of launch templates, and launches from them. */
#include "base/crypto.h"
#include "base/jsonio.h"
#include "service/ec2/launch.h"
#include "service/ec2/templates.h"

void
template_overlay(const struct desc *desc, const void *top, void *base)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        if (desc_present(f, top)) {
            memcpy(desc_at(f, base), desc_at(f, top), desc_field_size(f));
            desc_set_present(f, base);
        }
    }
}

bool
template_data_check(struct call *call,
                    const struct ec2_request_launch_template_data *data,
                    struct err *err)
{
    if (!data) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter LaunchTemplateData");
    }
    if (str_empty(data->user_data)) {
        return true;
    }
    uint8_t *bytes;
    size_t len;
    struct err why;
    err_clear(&why);
    if (!base64_decode(call->arena, data->user_data, strlen(data->user_data), &bytes,
                       &len, &why)) {
        return err_set(err, ERR_USER_DATA_MALFORMED,
                       "Invalid BASE64 encoding of user data.");
    }
    return user_data_check(len, err);
}

bool
template_version_number(const struct row_launch_template *t, const char *text,
                        int64_t *out, struct err *err)
{
    if (str_empty(text) || str_eq(text, "$Default")) {
        *out = t->default_version;
        return true;
    }
    if (str_eq(text, "$Latest")) {
        *out = t->latest_version;
        return true;
    }
    char *end;
    long long number = strtoll(text, &end, 10);
    if (*end != '\0' || number < 1 || strlen(text) > 10) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The specified launch template version '%.40s' is invalid.",
                       text);
    }
    *out = number;
    return true;
}

bool
template_version_get(struct call *call, const struct row_launch_template *t,
                     int64_t number, const struct row_launch_template_version **out,
                     struct err *err)
{
    const struct row_launch_template_version key = {
        .account = t->account, .template_id = t->id, .version = number};
    const void *row;
    if (!row_get(call->txn, &row_launch_template_version_type, &key, &row, err)) {
        return false;
    }
    *out = row;
    return true;
}

bool
err_no_version(struct err *err, const struct row_launch_template *t, int64_t number)
{
    return err_set(err, ERR_TEMPLATE_VERSION,
                   "Could not find the specified version %" PRId64
                   " for the launch template with ID %s.",
                   number, t->id);
}

static bool
data_read(struct call *call, const struct row_launch_template_version *v,
          const struct desc *desc, void *out, struct err *err)
{
    const char *text = v->data ? v->data : "{}";
    return json_read_text(desc, text, strlen(text), JSONIO_TIME_TEXT, call->arena, out,
                          err);
}

bool
template_version_put(struct call *call, const struct row_launch_template *t,
                     int64_t number, const char *description,
                     const struct ec2_request_launch_template_data *data,
                     const struct row_launch_template_version *source, struct err *err)
{
    struct ec2_request_launch_template_data merged = {0};
    if (source && !data_read(call, source, &ec2_request_launch_template_data_desc,
                             &merged, err)) {
        return false;
    }
    template_overlay(&ec2_request_launch_template_data_desc, data, &merged);
    AUTO(buf) struct buf text = {0};
    json_write(&ec2_request_launch_template_data_desc, &merged, JSONIO_TIME_TEXT,
               &text);
    if (text.len > TEMPLATE_BYTES_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The data of a launch template is limited to %d bytes, as JSON.",
                       TEMPLATE_BYTES_MAX);
    }
    const struct row_launch_template_version row = {
        .account = t->account,
        .template_id = t->id,
        .version = number,
        .description = description,
        .created_at = call->now_ns,
        .created_by = call->user_arn,
        .data = arena_strdup(call->arena, buf_str(&text)),
    };
    return row_insert(call->txn, &row_launch_template_version_type, &row, err);
}

bool
launch_template_merge(struct call *call, const struct ec2_run_instances_request *in,
                      struct launch *out, struct err *err)
{
    out->in = in;
    if (!in->launch_template) {
        return true;
    }
    const struct template_name by = {in->launch_template->launch_template_id,
                                     in->launch_template->launch_template_name};
    const struct row_launch_template *t;
    const struct row_launch_template_version *v;
    if (!template_find(call, &by, &t, err) ||
        !template_version_number(t, in->launch_template->version,
                                 &out->template_version, err) ||
        !template_version_get(call, t, out->template_version, &v, err)) {
        return false;
    }
    if (!v) {
        return err_no_version(err, t, out->template_version);
    }
    /* The members of both have the same names but one. */
    struct ec2_run_instances_request *merged =
        ARENA_NEW(call->arena, struct ec2_run_instances_request);
    struct ec2_request_launch_template_data data;
    if (!data_read(call, v, &ec2_run_instances_request_desc, merged, err) ||
        !data_read(call, v, &ec2_request_launch_template_data_desc, &data, err)) {
        return false;
    }
    if (data.instance_requirements) {
        return err_unsupported(err, "launching by instance requirements");
    }
    merged->ramdisk_id = data.ram_disk_id;
    template_overlay(&ec2_run_instances_request_desc, in, merged);
    out->in = merged;
    out->template_id = t->id;
    return true;
}

/* ---- answers ---- */

bool
template_version_out(struct call *call, const struct row_launch_template *t,
                     const struct row_launch_template_version *v,
                     struct ec2_launch_template_version *out, struct err *err)
{
    *out = (struct ec2_launch_template_version){
        .launch_template_id = t->id,
        .launch_template_name = t->name,
        .version_number = v->version,
        .has_version_number = true,
        .version_description = str_empty(v->description) ? NULL : v->description,
        .create_time = v->created_at,
        .has_create_time = true,
        .created_by = v->created_by,
        .default_version = v->version == t->default_version,
        .has_default_version = true,
        .launch_template_data =
            ARENA_NEW(call->arena, struct ec2_response_launch_template_data),
    };
    return data_read(call, v, &ec2_response_launch_template_data_desc,
                     out->launch_template_data, err);
}

static bool
check_version_limit(struct call *call, const struct row_launch_template *t,
                    struct err *err)
{
    const struct row_launch_template_version prefix = {.account = t->account,
                                                       .template_id = t->id};
    const struct row_query query = {
        .prefix = &prefix, .prefix_fields = 2, .limit = TEMPLATE_VERSIONS_MAX};
    struct row_list list;
    return row_list(call->txn, &row_launch_template_version_type, &query, &list, err) &&
           (list.count < TEMPLATE_VERSIONS_MAX ||
            err_set(err, ERR_TEMPLATE_VERSIONS_MANY,
                    "The launch template %s has %d versions: delete some first.", t->id,
                    TEMPLATE_VERSIONS_MAX));
}

bool
ec2_create_launch_template_version(
    struct call *call, const struct ec2_create_launch_template_version_request *in,
    struct ec2_create_launch_template_version_result *out, struct err *err)
{
    const struct template_name by = {in->launch_template_id, in->launch_template_name};
    const char *digest =
        request_digest(call, &ec2_create_launch_template_version_request_desc, in);
    const char *before;
    const struct row_launch_template *t;
    const struct row_launch_template_version *source = NULL, *made;
    int64_t number;
    if (!token_get(call, in->client_token, digest, &before, err) ||
        !template_find(call, &by, &t, err)) {
        return false;
    }
    struct row_launch_template next = *t;
    if (before) {
        number = strtoll(before, NULL, 10);
    } else {
        if (!template_data_check(call, in->launch_template_data, err) ||
            !check_version_limit(call, t, err)) {
            return false;
        }
        if (!str_empty(in->source_version)) {
            if (!template_version_number(t, in->source_version, &number, err) ||
                !template_version_get(call, t, number, &source, err)) {
                return false;
            }
            if (!source) {
                return err_no_version(err, t, number);
            }
        }
        if (!dry_run_check(in->has_dry_run && in->dry_run, err)) {
            return false;
        }
        number = MAX(t->next_version, t->latest_version + 1);
        next.latest_version = number;
        next.next_version = number + 1;
        if (!template_version_put(call, t, number, in->version_description,
                                  in->launch_template_data, source, err) ||
            !row_put(call->txn, &row_launch_template_type, &next, err) ||
            !token_put(call, in->client_token, digest,
                       arena_printf(call->arena, "%" PRId64, number), err)) {
            return false;
        }
    }
    if (!template_version_get(call, t, number, &made, err)) {
        return false;
    }
    if (!made) {
        return err_no_version(err, t, number);
    }
    out->launch_template_version =
        ARENA_NEW(call->arena, struct ec2_launch_template_version);
    return template_version_out(call, &next, made, out->launch_template_version, err);
}

/* ---- DeleteLaunchTemplateVersions ---- */

/* Why version 'text' cannot go, or NULL. Sets '*out_number'. */
static bool
delete_one(struct call *call, const struct row_launch_template *t, const char *text,
           int64_t *out_number, struct ec2_response_error **out_why, struct err *err)
{
    const struct row_launch_template_version *v;
    if (!template_version_number(t, text, out_number, err) ||
        !template_version_get(call, t, *out_number, &v, err)) {
        return false;
    }
    *out_why = NULL;
    if (v && *out_number != t->default_version) {
        return row_delete(call->txn, &row_launch_template_version_type, v, err);
    }
    struct ec2_response_error *why = ARENA_NEW(call->arena, struct ec2_response_error);
    why->code = v ? "unexpectedError" : "launchTemplateVersionDoesNotExist";
    why->message = v ? "Cannot delete the default version of a launch template."
                     : "The specified launch template version does not exist.";
    *out_why = why;
    return true;
}

/* The highest version that is left is the latest. */
static bool
renew_latest(struct call *call, const struct row_launch_template *t, struct err *err)
{
    const struct row_launch_template_version prefix = {.account = t->account,
                                                       .template_id = t->id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(call->txn, &row_launch_template_version_type, &query, &list, err)) {
        return false;
    }
    const struct row_launch_template_version *last =
        list.count ? list.rows[list.count - 1] : NULL;
    struct row_launch_template next = *t;
    next.next_version = MAX(t->next_version, t->latest_version + 1);
    next.latest_version = last ? last->version : t->default_version;
    return row_put(call->txn, &row_launch_template_type, &next, err);
}

bool
ec2_delete_launch_template_versions(
    struct call *call, const struct ec2_delete_launch_template_versions_request *in,
    struct ec2_delete_launch_template_versions_result *out, struct err *err)
{
    const struct template_name by = {in->launch_template_id, in->launch_template_name};
    const struct row_launch_template *t;
    if (!template_find(call, &by, &t, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    size_t count = in->versions.count;
    struct ec2_delete_launch_template_versions_response_success_item *good =
        ARENA_ARRAY(call->arena, count,
                    struct ec2_delete_launch_template_versions_response_success_item);
    struct ec2_delete_launch_template_versions_response_error_item *bad =
        ARENA_ARRAY(call->arena, count,
                    struct ec2_delete_launch_template_versions_response_error_item);
    size_t good_count = 0, bad_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct ec2_response_error *why;
        int64_t number;
        if (!delete_one(call, t, in->versions.items[i], &number, &why, err)) {
            return false;
        }
        if (!why) {
            good[good_count].launch_template_id = t->id;
            good[good_count].launch_template_name = t->name;
            good[good_count].has_version_number = true;
            good[good_count++].version_number = number;
        } else {
            bad[bad_count].launch_template_id = t->id;
            bad[bad_count].launch_template_name = t->name;
            bad[bad_count].has_version_number = true;
            bad[bad_count].version_number = number;
            bad[bad_count++].response_error = why;
        }
    }
    out->successfully_deleted_launch_template_versions.items = good;
    out->successfully_deleted_launch_template_versions.count = good_count;
    out->unsuccessfully_deleted_launch_template_versions.items = bad;
    out->unsuccessfully_deleted_launch_template_versions.count = bad_count;
    return good_count == 0 || renew_latest(call, t, err);
}
