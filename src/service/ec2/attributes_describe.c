/* attributes_describe.c - DescribeInstanceAttribute: one attribute an answer. */
#include "base/crypto.h"
#include "service/ec2/instances.h"

static struct ec2_attribute_value *
text(struct call *call, const char *value)
{
    struct ec2_attribute_value *out =
        ARENA_NEW(call->arena, struct ec2_attribute_value);
    out->value = value;
    return out;
}

static struct ec2_attribute_boolean_value *
boolean(struct call *call, bool value)
{
    struct ec2_attribute_boolean_value *out =
        ARENA_NEW(call->arena, struct ec2_attribute_boolean_value);
    out->value = value;
    out->has_value = true;
    return out;
}

typedef bool put_fn(struct call *call, const struct row_instance *inst,
                    struct ec2_instance_attribute *out, struct err *err);

static bool
put_type(struct call *call, const struct row_instance *inst,
         struct ec2_instance_attribute *out, struct err *err)
{
    out->instance_type = text(call, inst->type);
    return true;
}

/* Instances have no kernel or RAM disk of their own choosing. */
static bool
put_kernel(struct call *call, const struct row_instance *inst,
           struct ec2_instance_attribute *out, struct err *err)
{
    out->kernel_id = text(call, NULL);
    return true;
}

static bool
put_ramdisk(struct call *call, const struct row_instance *inst,
            struct ec2_instance_attribute *out, struct err *err)
{
    out->ramdisk_id = text(call, NULL);
    return true;
}

static bool
put_user_data(struct call *call, const struct row_instance *inst,
              struct ec2_instance_attribute *out, struct err *err)
{
    out->user_data = text(call, inst->user_data.len
                                    ? base64_encode(call->arena, inst->user_data.data,
                                                    inst->user_data.len)
                                    : NULL);
    return true;
}

static bool
put_no_termination(struct call *call, const struct row_instance *inst,
                   struct ec2_instance_attribute *out, struct err *err)
{
    out->disable_api_termination = boolean(call, inst->disable_api_termination);
    return true;
}

static bool
put_no_stop(struct call *call, const struct row_instance *inst,
            struct ec2_instance_attribute *out, struct err *err)
{
    out->disable_api_stop = boolean(call, inst->disable_api_stop);
    return true;
}

static bool
put_shutdown(struct call *call, const struct row_instance *inst,
             struct ec2_instance_attribute *out, struct err *err)
{
    out->instance_initiated_shutdown_behavior = text(call, inst->shutdown_behavior);
    return true;
}

static bool
put_root_device(struct call *call, const struct row_instance *inst,
                struct ec2_instance_attribute *out, struct err *err)
{
    out->root_device_name = text(call, inst->root_device);
    return true;
}

static bool
put_mapping(struct call *call, const struct row_instance *inst,
            struct ec2_instance_attribute *out, struct err *err)
{
    struct instance_view view;
    if (!instance_view_load(call, inst, VIEW_ROOT, &view, err)) {
        return false;
    }
    out->block_device_mappings.items =
        ARENA_NEW(call->arena, struct ec2_instance_block_device_mapping);
    if (view.root) {
        struct ec2_ebs_instance_block_device *ebs =
            ARENA_NEW(call->arena, struct ec2_ebs_instance_block_device);
        *ebs = (struct ec2_ebs_instance_block_device){
            .attach_time = view.root->attached_at,
            .has_attach_time = view.root->attached_at != 0,
            .delete_on_termination = view.root->delete_on_termination,
            .has_delete_on_termination = true,
            .status = "attached",
            .volume_id = view.root->id,
        };
        out->block_device_mappings.items[0].device_name = view.root->device;
        out->block_device_mappings.items[0].ebs = ebs;
        out->block_device_mappings.count = 1;
    }
    return true;
}

static bool
put_product_codes(struct call *call, const struct row_instance *inst,
                  struct ec2_instance_attribute *out, struct err *err)
{
    out->product_codes.items = ARENA_NEW(call->arena, struct ec2_product_code);
    return true;
}

static bool
put_source_check(struct call *call, const struct row_instance *inst,
                 struct ec2_instance_attribute *out, struct err *err)
{
    out->source_dest_check = boolean(call, inst->source_dest_check);
    return true;
}

static bool
put_groups(struct call *call, const struct row_instance *inst,
           struct ec2_instance_attribute *out, struct err *err)
{
    out->groups.items = groups_out(call, inst);
    out->groups.count = inst->groups.count;
    return true;
}

static bool
put_ebs_optimized(struct call *call, const struct row_instance *inst,
                  struct ec2_instance_attribute *out, struct err *err)
{
    out->ebs_optimized = boolean(call, inst->ebs_optimized);
    return true;
}

static bool
put_sriov(struct call *call, const struct row_instance *inst,
          struct ec2_instance_attribute *out, struct err *err)
{
    out->sriov_net_support = text(call, "simple");
    return true;
}

static bool
put_ena(struct call *call, const struct row_instance *inst,
        struct ec2_instance_attribute *out, struct err *err)
{
    out->ena_support = boolean(call, true);
    return true;
}

static bool
put_enclave(struct call *call, const struct row_instance *inst,
            struct ec2_instance_attribute *out, struct err *err)
{
    out->enclave_options = ARENA_NEW(call->arena, struct ec2_enclave_options);
    out->enclave_options->has_enabled = true;
    return true;
}

static const struct {
    const char *name;
    put_fn *put;
} attributes[] = {
    {"instanceType", put_type},
    {"kernel", put_kernel},
    {"ramdisk", put_ramdisk},
    {"userData", put_user_data},
    {"disableApiTermination", put_no_termination},
    {"disableApiStop", put_no_stop},
    {"instanceInitiatedShutdownBehavior", put_shutdown},
    {"rootDeviceName", put_root_device},
    {"blockDeviceMapping", put_mapping},
    {"productCodes", put_product_codes},
    {"sourceDestCheck", put_source_check},
    {"groupSet", put_groups},
    {"ebsOptimized", put_ebs_optimized},
    {"sriovNetSupport", put_sriov},
    {"enaSupport", put_ena},
    {"enclaveOptions", put_enclave},
};

bool
ec2_describe_instance_attribute(
    struct call *call, const struct ec2_describe_instance_attribute_request *in,
    struct ec2_instance_attribute *out, struct err *err)
{
    const struct row_instance *inst;
    if (!instance_find(call, in->instance_id, &inst, err) ||
        !dry_run_check(in->has_dry_run && in->dry_run, err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        if (str_eq(attributes[i].name, in->attribute)) {
            out->instance_id = inst->id;
            return attributes[i].put(call, inst, out, err);
        }
    }
    return err_set(
        err, ERR_INVALID_PARAMETER_VALUE,
        "Value (%.80s) for parameter attribute is invalid. Unknown attribute.",
        in->attribute ? in->attribute : "");
}
