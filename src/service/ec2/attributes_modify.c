/* attributes_modify.c - ModifyInstanceAttribute, ModifyInstanceMetadataOptions,
 * ModifyPrivateDnsNameOptions.
 *
 * A request changes one attribute, named by its own member or by Attribute and Value;
 * the second form is turned into the first before anything else. */
#include "base/crypto.h"
#include "core/instance_rows.h"
#include "core/network_rows.h"
#include "service/ec2/launch.h"

/* The change under way: 'next' is put when all went well. */
struct change {
    struct call *call;
    const struct ec2_modify_instance_attribute_request *in;
    const struct row_instance *inst;
    enum instance_state state;
    struct row_instance next;
};

static bool
must_be_stopped(const struct change *c, struct err *err)
{
    return c->state == INSTANCE_STOPPED ||
           err_set(err, ERR_INSTANCE_STATE,
                   "The instance '%s' is not in the 'stopped' state.", c->inst->id);
}

static bool
change_type(struct change *c, struct err *err)
{
    const char *name = c->in->instance_type->value;
    const struct instance_type *type = name ? config_type(c->call->config, name) : NULL;
    if (!type) {
        return err_set(err, ERR_INSTANCE_ATTRIBUTE_VALUE,
                       "Invalid value '%.100s' for InstanceType.", name ? name : "");
    }
    if (!must_be_stopped(c, err)) {
        return false;
    }
    c->next.type = type->name;
    c->next.threads_per_core = MAX(type->threads_per_core, 1);
    c->next.core_count = MAX(type->vcpus / c->next.threads_per_core, 1);
    c->next.vcpus = c->next.core_count * c->next.threads_per_core;
    c->next.memory_bytes = type->memory_bytes;
    c->next.claim_memory_bytes = 0; /* Its start reckons anew what it takes. */
    if (type->burstable && str_empty(c->next.credit_mode)) {
        c->next.credit_mode = str_eq(type->family, "t2") ? "standard" : "unlimited";
    }
    c->next.generation++;
    return true;
}

static bool
change_user_data(struct change *c, struct err *err)
{
    if (!user_data_check(c->in->user_data->value.len, err) ||
        !must_be_stopped(c, err)) {
        return false;
    }
    c->next.user_data = c->in->user_data->value;
    return true;
}

static bool
change_no_termination(struct change *c, struct err *err)
{
    c->next.disable_api_termination = c->in->disable_api_termination->value;
    return true;
}

static bool
change_no_stop(struct change *c, struct err *err)
{
    c->next.disable_api_stop = c->in->disable_api_stop->value;
    return true;
}

static bool
change_shutdown(struct change *c, struct err *err)
{
    const char *value = c->in->instance_initiated_shutdown_behavior->value;
    if (!str_eq(value, "stop") && !str_eq(value, "terminate")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value '%.40s' for InstanceInitiatedShutdownBehavior.",
                       value ? value : "");
    }
    c->next.shutdown_behavior = value;
    return true;
}

/* The primary interface's row, for a change in it too. */
static bool
load_eni(struct change *c, struct row_eni *out, struct err *err)
{
    struct instance_view view;
    if (!instance_view_load(c->call, c->inst, VIEW_ENI, &view, err)) {
        return false;
    }
    if (!view.eni) {
        return err_set(err, ERR_INSTANCE_STATE,
                       "The instance '%s' has no network interface.", c->inst->id);
    }
    *out = *view.eni;
    return true;
}

static bool
change_source_check(struct change *c, struct err *err)
{
    struct row_eni eni;
    if (!load_eni(c, &eni, err)) {
        return false;
    }
    eni.source_dest_check = c->in->source_dest_check->value;
    c->next.source_dest_check = eni.source_dest_check;
    return eni_put(c->call->txn, &eni, err);
}

static bool
change_groups(struct change *c, struct err *err)
{
    struct row_eni eni;
    struct row_instance_group *groups;
    size_t count;
    if (!load_eni(c, &eni, err) ||
        !groups_by_id(c->call, c->inst->vpc_id, c->in->groups.items,
                      c->in->groups.count, &groups, &count, err)) {
        return false;
    }
    const char **ids = ARENA_ARRAY(c->call->arena, count, const char *);
    for (size_t i = 0; i < count; i++) {
        ids[i] = groups[i].id;
    }
    eni.group_ids.items = ids;
    eni.group_ids.count = count;
    c->next.groups.items = groups;
    c->next.groups.count = count;
    return eni_put(c->call->txn, &eni, err);
}

static bool
change_mappings(struct change *c, struct err *err)
{
    struct instance_view view;
    if (!instance_view_load(c->call, c->inst, VIEW_ROOT, &view, err)) {
        return false;
    }
    for (size_t i = 0; i < c->in->block_device_mappings.count; i++) {
        const struct ec2_instance_block_device_mapping_specification *m =
            &c->in->block_device_mappings.items[i];
        if (!view.root || !str_eq(m->device_name, view.root->device) ||
            (m->ebs && m->ebs->volume_id &&
             !str_eq(m->ebs->volume_id, view.root->id))) {
            return err_set(err, ERR_INSTANCE_ATTRIBUTE_VALUE,
                           "No device is currently mapped at %.80s",
                           m->device_name ? m->device_name : "");
        }
        struct row_volume next = *view.root;
        if (m->ebs && m->ebs->has_delete_on_termination) {
            next.delete_on_termination = m->ebs->delete_on_termination;
        }
        if (!row_put(c->call->txn, &row_volume_type, &next, err)) {
            return false;
        }
    }
    return true;
}

static bool
change_ebs_optimized(struct change *c, struct err *err)
{
    c->next.ebs_optimized = c->in->ebs_optimized->value;
    return must_be_stopped(c, err);
}

static bool
change_ena(struct change *c, struct err *err)
{
    return c->in->ena_support->value ||
           err_unsupported(err, "instances without enhanced networking");
}

static bool
change_sriov(struct change *c, struct err *err)
{
    return str_eq(c->in->sriov_net_support->value, "simple") ||
           err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Invalid value for sriovNetSupport: expecting 'simple'.");
}

static bool
change_boot(struct change *c, struct err *err)
{
    return err_unsupported(err, "a kernel or RAM disk other than the image's own");
}

typedef bool change_fn(struct change *c, struct err *err);

/* What a request may carry, and what it does. */
static const struct attribute {
    const char *name;   /* As Attribute names it. */
    const char *member; /* Its own member in the request. */
    change_fn *apply;
} attributes[] = {
    {"instanceType", "InstanceType", change_type},
    {"userData", "UserData", change_user_data},
    {"disableApiTermination", "DisableApiTermination", change_no_termination},
    {"disableApiStop", "DisableApiStop", change_no_stop},
    {"instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior",
     change_shutdown},
    {"sourceDestCheck", "SourceDestCheck", change_source_check},
    {"groupSet", "Groups", change_groups},
    {"blockDeviceMapping", "BlockDeviceMappings", change_mappings},
    {"ebsOptimized", "EbsOptimized", change_ebs_optimized},
    {"enaSupport", "EnaSupport", change_ena},
    {"sriovNetSupport", "SriovNetSupport", change_sriov},
    {"kernel", "Kernel", change_boot},
    {"ramdisk", "Ramdisk", change_boot},
};

static bool
bool_value(const char *text, bool *out)
{
    *out = str_eq(text, "true");
    return *out || str_eq(text, "false");
}

/* Sets the member 'f' of 'request' from the text of Value. */
static bool
set_member(struct call *call, const struct desc_field *f, const char *value,
           struct ec2_modify_instance_attribute_request *request, struct err *err)
{
    void *object = desc_at(f, request);
    if (f->kind == DESC_STRUCT && f->type == &ec2_attribute_value_desc) {
        struct ec2_attribute_value *v =
            ARENA_NEW(call->arena, struct ec2_attribute_value);
        v->value = value;
        *(struct ec2_attribute_value **)object = v;
        return true;
    }
    if (f->kind == DESC_STRUCT && f->type == &ec2_attribute_boolean_value_desc) {
        struct ec2_attribute_boolean_value *v =
            ARENA_NEW(call->arena, struct ec2_attribute_boolean_value);
        v->has_value = true;
        *(struct ec2_attribute_boolean_value **)object = v;
        return bool_value(value, &v->value) ||
               err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Invalid value '%.40s' for %s: expecting true or false.", value,
                       request->attribute);
    }
    if (f->kind == DESC_STRUCT && f->type == &ec2_blob_attribute_value_desc) {
        struct ec2_blob_attribute_value *v =
            ARENA_NEW(call->arena, struct ec2_blob_attribute_value);
        uint8_t *data;
        *(struct ec2_blob_attribute_value **)object = v;
        if (!base64_decode(call->arena, value, strlen(value), &data, &v->value.len,
                           err)) {
            return err_set(err, ERR_USER_DATA_MALFORMED,
                           "Invalid BASE64 encoding of user data.");
        }
        v->value.data = data;
        return true;
    }
    return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                   "The attribute '%s' cannot be modified with the parameter value.",
                   request->attribute);
}

/* Attribute and Value, turned into the attribute's own member. */
static bool
expand_value(struct call *call, struct ec2_modify_instance_attribute_request *request,
             struct err *err)
{
    if (str_empty(request->attribute) || !request->value) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        if (str_eq(attributes[i].name, request->attribute)) {
            const struct desc_field *f = desc_find(
                &ec2_modify_instance_attribute_request_desc, attributes[i].member);
            return f && set_member(call, f, request->value, request, err);
        }
    }
    return err_set(
        err, ERR_INVALID_PARAMETER_VALUE,
        "Value (%.80s) for parameter attribute is invalid. Unknown attribute.",
        request->attribute);
}

/* The one attribute that the request changes. */
static bool
find_attribute(const struct ec2_modify_instance_attribute_request *request,
               const struct attribute **out, struct err *err)
{
    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        const struct desc_field *f = desc_find(
            &ec2_modify_instance_attribute_request_desc, attributes[i].member);
        if (!f || !desc_present(f, request)) {
            continue;
        }
        if (*out) {
            return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                           "Fields for multiple attribute types specified: %s, %s",
                           (*out)->name, attributes[i].name);
        }
        *out = &attributes[i];
    }
    return *out ||
           err_set(err, ERR_INVALID_PARAMETER_COMBINATION, "No attributes specified.");
}

bool
instance_find_changeable(struct call *call, const char *id,
                         const struct row_instance **out,
                         enum instance_state *out_state, struct err *err)
{
    int state;
    if (!instance_find(call, id, out, err) ||
        !instance_state_load(call, *out, &state, err)) {
        return false;
    }
    *out_state = (enum instance_state)state;
    if (state == INSTANCE_TERMINATED || state == INSTANCE_SHUTTING_DOWN) {
        return err_set(
            err, ERR_INSTANCE_STATE,
            "The instance '%s' is not in a valid state for this operation: %s.", id,
            instance_state_name(*out_state));
    }
    return true;
}

bool
ec2_modify_instance_attribute(struct call *call,
                              const struct ec2_modify_instance_attribute_request *in,
                              struct err *err)
{
    struct ec2_modify_instance_attribute_request request = *in;
    struct change c = {.call = call, .in = &request};
    const struct attribute *attribute;
    if (!instance_find_changeable(call, in->instance_id, &c.inst, &c.state, err) ||
        !expand_value(call, &request, err) ||
        !find_attribute(&request, &attribute, err)) {
        return false;
    }
    c.next = *c.inst;
    return attribute->apply(&c, err) &&
           dry_run_check(in->has_dry_run && in->dry_run, err) &&
           row_put(call->txn, &row_instance_type, &c.next, err);
}

bool
ec2_modify_instance_metadata_options(
    struct call *call, const struct ec2_modify_instance_metadata_options_request *in,
    struct ec2_modify_instance_metadata_options_result *out, struct err *err)
{
    const struct row_instance *inst;
    enum instance_state state;
    if (!instance_find_changeable(call, in->instance_id, &inst, &state, err) ||
        (in->has_http_put_response_hop_limit &&
         !hop_limit_check(in->http_put_response_hop_limit, err)) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    struct row_instance next = *inst;
    next.http_tokens = in->http_tokens ? in->http_tokens : inst->http_tokens;
    next.http_endpoint = in->http_endpoint ? in->http_endpoint : inst->http_endpoint;
    next.http_tags =
        in->instance_metadata_tags ? in->instance_metadata_tags : inst->http_tags;
    next.http_protocol_ipv6 =
        in->http_protocol_ipv6 ? in->http_protocol_ipv6 : inst->http_protocol_ipv6;
    if (in->has_http_put_response_hop_limit) {
        next.http_hop_limit = in->http_put_response_hop_limit;
    }
    if (!row_put(call->txn, &row_instance_type, &next, err)) {
        return false;
    }
    out->instance_id = inst->id;
    out->instance_metadata_options = metadata_options_out(call, &next);
    out->instance_metadata_options->state = "pending";
    return true;
}

/* The type only while it is stopped: the guest learns its name as it starts. */
static bool
change_hostname(struct call *call, const struct row_instance *inst,
                enum instance_state state, struct row_instance *next, struct err *err)
{
    bool was_id = str_eq(inst->hostname_type, "resource-name");
    bool is_id = str_eq(next->hostname_type, "resource-name");
    if (state != INSTANCE_STOPPED && was_id != is_id) {
        return err_set(err, ERR_INSTANCE_STATE,
                       "The instance '%s' is not in the 'stopped' state.", inst->id);
    }
    next->private_dns = instance_private_name(call->arena, next);
    return true;
}

bool
ec2_modify_private_dns_name_options(
    struct call *call, const struct ec2_modify_private_dns_name_options_request *in,
    struct ec2_modify_private_dns_name_options_result *out, struct err *err)
{
    const struct row_instance *inst;
    const struct row_eni *eni;
    enum instance_state state;
    if (!instance_find_changeable(call, in->instance_id, &inst, &state, err)) {
        return false;
    }
    struct row_instance next = *inst;
    next.hostname_type = in->private_dns_hostname_type ? in->private_dns_hostname_type
                                                       : inst->hostname_type;
    if (in->has_enable_resource_name_dns_a_record) {
        next.dns_a = in->enable_resource_name_dns_a_record;
    }
    if (in->has_enable_resource_name_dns_aaaa_record) {
        next.dns_aaaa = in->enable_resource_name_dns_aaaa_record;
    }
    out->return_ = out->has_return_ = true;
    /* The nodes hear of it as of a change of its interface. */
    return change_hostname(call, inst, state, &next, err) &&
           dry_run_check(in->has_dry_run && in->dry_run, err) &&
           row_put(call->txn, &row_instance_type, &next, err) &&
           FIND(call, kind_eni, next.eni_ids.items[0], &eni, err) &&
           eni_put(call->txn, eni, err);
}
