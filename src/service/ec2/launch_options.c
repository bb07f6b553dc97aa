/* launch_options.c - image, type, key, user data and the many switches of RunInstances.
 */
#include "base/crypto.h"
#include "service/ec2/launch.h"

#define USER_DATA_MAX 16384

bool
err_unsupported(struct err *err, const char *what)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "The requested configuration is currently not supported: %s.", what);
}

static bool
check_image(struct call *call, struct launch *l, struct err *err)
{
    const char *id = l->in->image_id;
    if (str_empty(id)) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter ImageId");
    }
    if (!ids_check("ami", &id, 1, ERR_IMAGE_MALFORMED, err) ||
        !image_visible(call, id, &l->image, err)) {
        return false;
    }
    if (!l->image) {
        return err_set(err, ERR_IMAGE_NOT_FOUND, "The image id '[%s]' does not exist",
                       id);
    }
    if (!str_eq(l->image->state, "available")) {
        return err_set(err, ERR_IMAGE_UNAVAILABLE,
                       "The image '%s' is not available: it is %s", id,
                       l->image->state);
    }
    return true;
}

static bool
check_type(struct call *call, struct launch *l, struct err *err)
{
    const char *name = l->in->instance_type;
    if (str_empty(name)) {
        /* EC2's default, or what takes its place in a catalogue without it. */
        l->type = config_type(call->config, "m1.small");
        name = "t3.micro";
    }
    if (!l->type) {
        l->type = config_type(call->config, name);
    }
    if (!l->type) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value '%.100s' for InstanceType.", name);
    }
    l->threads_per_core = MAX(l->type->threads_per_core, 1);
    l->core_count = MAX(l->type->vcpus / l->threads_per_core, 1);
    const struct ec2_cpu_options_request *cpu = l->in->cpu_options;
    if (!cpu) {
        return true;
    }
    if (!cpu->has_core_count || !cpu->has_threads_per_core) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "CoreCount and ThreadsPerCore must be specified together");
    }
    if (cpu->core_count < 1 || cpu->core_count > l->core_count ||
        cpu->threads_per_core < 1 || cpu->threads_per_core > l->threads_per_core) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "%s does not support %" PRId64 " cores with %" PRId64
                       " threads per core.",
                       l->type->name, cpu->core_count, cpu->threads_per_core);
    }
    l->core_count = cpu->core_count;
    l->threads_per_core = cpu->threads_per_core;
    return true;
}

static bool
check_key(struct call *call, struct launch *l, struct err *err)
{
    if (str_empty(l->in->key_name)) {
        return true;
    }
    const struct row_key_pair key = {
        .account = call->account, .region = call->region, .name = l->in->key_name};
    const void *row;
    if (!row_get(call->txn, &row_key_pair_type, &key, &row, err)) {
        return false;
    }
    if (!row) {
        return err_set(err, ERR_KEY_PAIR_NOT_FOUND,
                       "The key pair '%.255s' does not exist", l->in->key_name);
    }
    l->public_key = ((const struct row_key_pair *)row)->public_key;
    return true;
}

bool
user_data_check(size_t len, struct err *err)
{
    if (len > USER_DATA_MAX) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "User data is limited to %d bytes", USER_DATA_MAX);
    }
    return true;
}

static bool
check_user_data(struct call *call, struct launch *l, struct err *err)
{
    const char *text = l->in->user_data;
    if (str_empty(text)) {
        return true;
    }
    uint8_t *data;
    size_t len, text_len = strlen(text);
    struct err why;
    err_clear(&why);
    /* White space may be spread through it, but not without bound. */
    if (text_len > 4 * (size_t)USER_DATA_MAX) {
        return user_data_check(text_len, err);
    }
    if (!base64_decode(call->arena, text, text_len, &data, &len, &why)) {
        return err_set(err, ERR_USER_DATA_MALFORMED,
                       "Invalid BASE64 encoding of user data.");
    }
    l->user_data = (struct blob){data, len};
    return user_data_check(len, err);
}

static bool
check_credit(struct launch *l, struct err *err)
{
    const struct ec2_credit_specification_request *credit = l->in->credit_specification;
    if (!credit) {
        l->credit_mode = !l->type->burstable             ? NULL
                         : str_eq(l->type->family, "t2") ? "standard"
                                                         : "unlimited";
        return true;
    }
    const char *mode = credit->cpu_credits;
    if (!str_eq(mode, "standard") && !str_eq(mode, "unlimited")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value '%.40s' for CpuCredits.", mode ? mode : "");
    }
    if (!l->type->burstable) {
        return err_set(err, ERR_CREDIT_UNSUPPORTED,
                       "The %s instance type does not support T2 Unlimited.",
                       l->type->name);
    }
    l->credit_mode = mode;
    return true;
}

bool
hop_limit_check(int64_t hops, struct err *err)
{
    if (hops < 1 || hops > 64) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%" PRId64 ") for parameter HttpPutResponseHopLimit is "
                       "invalid. Expecting a value between 1 and 64.",
                       hops);
    }
    return true;
}

static bool
check_metadata(struct launch *l, struct err *err)
{
    const struct ec2_instance_metadata_options_request none = {0};
    const struct ec2_instance_metadata_options_request *m =
        l->in->metadata_options ? l->in->metadata_options : &none;
    bool v2 = l->image->imds_v2;
    l->http_tokens = m->http_tokens ? m->http_tokens : v2 ? "required" : "optional";
    l->http_endpoint = m->http_endpoint ? m->http_endpoint : "enabled";
    l->http_tags = m->instance_metadata_tags ? m->instance_metadata_tags : "disabled";
    l->http_ipv6 = m->http_protocol_ipv6 ? m->http_protocol_ipv6 : "disabled";
    l->http_hop_limit = m->has_http_put_response_hop_limit
                            ? m->http_put_response_hop_limit
                        : v2 ? 2
                             : 1;
    return hop_limit_check(l->http_hop_limit, err);
}

/* What EC2 has and this cloud has not: refused, never ignored. */
static bool
check_absent(const struct launch *l, struct err *err)
{
    const struct ec2_run_instances_request *in = l->in;
    if (in->instance_market_options) {
        return err_unsupported(err, "spot instances");
    }
    if (in->elastic_gpu_specification.count ||
        in->elastic_inference_accelerators.count) {
        return err_unsupported(err, "accelerators");
    }
    if (in->license_specifications.count) {
        return err_unsupported(err, "license configurations");
    }
    if (in->capacity_reservation_specification &&
        in->capacity_reservation_specification->capacity_reservation_target) {
        return err_unsupported(err, "capacity reservations");
    }
    if (in->enclave_options && in->enclave_options->enabled) {
        return err_unsupported(err, "enclaves");
    }
    if (in->hibernation_options && in->hibernation_options->configured) {
        return err_set(err, ERR_HIBERNATION,
                       "Hibernation is not supported by this cloud.");
    }
    if (!str_empty(in->kernel_id) || !str_empty(in->ramdisk_id)) {
        return err_unsupported(err, "a kernel or RAM disk other than the image's own");
    }
    if (in->iam_instance_profile) {
        const struct ec2_iam_instance_profile_specification *p =
            in->iam_instance_profile;
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.200s) for parameter iamInstanceProfile.%s is invalid. "
                       "Invalid IAM Instance Profile %s",
                       p->name  ? p->name
                       : p->arn ? p->arn
                                : "",
                       p->name ? "name" : "arn", p->name ? "name" : "ARN");
    }
    return true;
}

bool
launch_options(struct call *call, struct launch *l, struct err *err)
{
    if (!check_image(call, l, err) || !check_type(call, l, err) ||
        !check_absent(l, err) || !check_key(call, l, err) ||
        !check_user_data(call, l, err) || !check_credit(l, err) ||
        !check_metadata(l, err)) {
        return false;
    }
    const char *behavior = l->in->instance_initiated_shutdown_behavior;
    l->shutdown_behavior = behavior ? behavior : "stop";
    return true;
}
