/* image_attributes.c - Describe-, Modify- and ResetImageAttribute. */
#include "service/ec2/images.h"

#define SHARES_MAX 1000

/* ---- DescribeImageAttribute ---- */

static struct ec2_attribute_value *
value_out(struct call *call, const char *value)
{
    struct ec2_attribute_value *out =
        ARENA_NEW(call->arena, struct ec2_attribute_value);
    out->value = str_empty(value) ? NULL : value;
    return out;
}

static void
permissions_out(struct call *call, const struct row_image *image,
                struct ec2_image_attribute *out)
{
    size_t count = image->launch_accounts.count + image->public, n = 0;
    struct ec2_launch_permission *items =
        ARENA_ARRAY(call->arena, count, struct ec2_launch_permission);
    if (image->public) {
        items[n++].group = "all";
    }
    for (size_t i = 0; i < image->launch_accounts.count; i++) {
        items[n++].user_id = image->launch_accounts.items[i];
    }
    out->launch_permissions.items = items;
    out->launch_permissions.count = n;
}

bool
ec2_describe_image_attribute(struct call *call,
                             const struct ec2_describe_image_attribute_request *in,
                             struct ec2_image_attribute *out, struct err *err)
{
    const struct row_image *image;
    const char *name = in->attribute;
    if (!image_owned(call, in->image_id, &image, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    const struct ec2_image shown = image_out(call, image, (struct tag_set){0});
    out->image_id = image->id;
    if (str_eq(name, "description")) {
        out->description = value_out(call, image->description);
    } else if (str_eq(name, "launchPermission")) {
        permissions_out(call, image, out);
    } else if (str_eq(name, "blockDeviceMapping")) {
        out->block_device_mappings.items = shown.block_device_mappings.items;
        out->block_device_mappings.count = shown.block_device_mappings.count;
    } else if (str_eq(name, "kernel")) {
        out->kernel_id = value_out(call, shown.kernel_id);
    } else if (str_eq(name, "ramdisk")) {
        out->ramdisk_id = value_out(call, shown.ramdisk_id);
    } else if (str_eq(name, "bootMode")) {
        out->boot_mode = value_out(call, shown.boot_mode);
    } else if (str_eq(name, "imdsSupport")) {
        out->imds_support = value_out(call, shown.imds_support);
    } else if (str_eq(name, "sriovNetSupport")) {
        out->sriov_net_support = value_out(call, NULL);
    } else if (str_eq(name, "tpmSupport")) {
        out->tpm_support = value_out(call, NULL);
    } else if (str_eq(name, "uefiData")) {
        out->uefi_data = value_out(call, NULL);
    } else if (str_eq(name, "lastLaunchedTime")) {
        out->last_launched_time = value_out(call, NULL);
    } else if (!str_eq(name, "productCodes")) {
        return err_set(
            err, ERR_INVALID_PARAMETER_VALUE,
            "Value (%.80s) for parameter attribute is invalid. Unknown image "
            "attribute.",
            name);
    }
    return true;
}

/* ---- launch permissions ---- */

/* The permissions of an image while they are changed. */
struct shares {
    bool public;
    const char **accounts;
    size_t count;
};

static bool
group_change(struct shares *shares, const char *group, bool add, struct err *err)
{
    if (!str_eq(group, "all")) {
        return err_set(err, ERR_IMAGE_ATTRIBUTE_ITEM,
                       "Invalid attribute item value \"%.80s\" for group item type.",
                       group);
    }
    shares->public = add;
    return true;
}

static bool
account_change(struct shares *shares, const char *account, bool add, struct err *err)
{
    if (strlen(account) != 12 || strspn(account, "0123456789") != 12) {
        return err_set(err, ERR_IMAGE_ATTRIBUTE_ITEM,
                       "Invalid attribute item value \"%.80s\" for userId item type.",
                       account);
    }
    size_t at = 0;
    while (at < shares->count && !str_eq(shares->accounts[at], account)) {
        at++;
    }
    if (add && at == shares->count) {
        if (shares->count == SHARES_MAX) {
            return err_set(err, ERR_LIMIT_EXCEEDED,
                           "An image can be shared with at most %d accounts",
                           SHARES_MAX);
        }
        shares->accounts[shares->count++] = account;
    } else if (!add && at < shares->count) {
        shares->accounts[at] = shares->accounts[--shares->count];
    }
    return true;
}

static bool
permissions_change(struct shares *shares, const struct ec2_launch_permission *items,
                   size_t count, bool add, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct ec2_launch_permission *p = &items[i];
        if (p->organization_arn || p->organizational_unit_arn) {
            return err_set(err, ERR_UNSUPPORTED_OPERATION,
                           "Images cannot be shared with organizations");
        }
        if (!p->group && !p->user_id) {
            return err_set(err, ERR_MISSING_PARAMETER,
                           "The request must contain the parameter UserId or Group");
        }
        if ((p->group && !group_change(shares, p->group, add, err)) ||
            (p->user_id && !account_change(shares, p->user_id, add, err))) {
            return false;
        }
    }
    return true;
}

/* The older form: Attribute=launchPermission, OperationType, UserIds and UserGroups. */
static bool
listed_change(struct shares *shares,
              const struct ec2_modify_image_attribute_request *in, struct err *err)
{
    bool add = str_eq(in->operation_type, "add");
    if (!add && !str_eq(in->operation_type, "remove")) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter operationType");
    }
    for (size_t i = 0; i < in->user_groups.count; i++) {
        if (!group_change(shares, in->user_groups.items[i], add, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < in->user_ids.count; i++) {
        if (!account_change(shares, in->user_ids.items[i], add, err)) {
            return false;
        }
    }
    return true;
}

static bool
shares_change(struct call *call, const struct row_image *image,
              const struct ec2_modify_image_attribute_request *in, struct shares *out,
              struct err *err)
{
    const struct ec2_launch_permission_modifications *change = in->launch_permission;
    size_t room = image->launch_accounts.count + in->user_ids.count +
                  (change ? change->add.count : 0);
    *out = (struct shares){.public = image->public,
                           .accounts = ARENA_ARRAY(call->arena, room, const char *)};
    for (size_t i = 0; i < image->launch_accounts.count; i++) {
        out->accounts[out->count++] = image->launch_accounts.items[i];
    }
    if (change) {
        return permissions_change(out, change->add.items, change->add.count, true,
                                  err) &&
               permissions_change(out, change->remove.items, change->remove.count,
                                  false, err);
    }
    return !in->operation_type && !in->user_ids.count && !in->user_groups.count
               ? true
               : listed_change(out, in, err);
}

/* ---- ModifyImageAttribute, ResetImageAttribute ---- */

bool
ec2_modify_image_attribute(struct call *call,
                           const struct ec2_modify_image_attribute_request *in,
                           struct err *err)
{
    const struct row_image *image;
    struct shares shares;
    bool describes = in->description || str_eq(in->attribute, "description");
    bool shares_it = in->launch_permission || in->operation_type ||
                     in->user_ids.count || in->user_groups.count;
    if (!image_owned(call, in->image_id, &image, err)) {
        return false;
    }
    if (in->product_codes.count || in->organization_arns.count ||
        in->organizational_unit_arns.count) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "Product codes and organizations are not supported");
    }
    if (in->attribute && !str_eq(in->attribute, "description") &&
        !str_eq(in->attribute, "launchPermission")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.80s) for parameter attribute is invalid. Unknown or "
                       "read-only image attribute.",
                       in->attribute);
    }
    if (describes == shares_it) {
        return err_set(err, ERR_INVALID_PARAMETER_COMBINATION,
                       "One attribute must be given, and no more than one");
    }
    if (!shares_change(call, image, in, &shares, err) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_image changed = *image;
    changed.public = shares.public;
    changed.launch_accounts.items = shares.accounts;
    changed.launch_accounts.count = shares.count;
    if (describes) {
        changed.description = in->description ? in->description->value : in->value;
    }
    return row_put(call->txn, &row_image_type, &changed, err);
}

bool
ec2_reset_image_attribute(struct call *call,
                          const struct ec2_reset_image_attribute_request *in,
                          struct err *err)
{
    const struct row_image *image;
    if (!image_owned(call, in->image_id, &image, err)) {
        return false;
    }
    if (!str_eq(in->attribute, "launchPermission")) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.80s) for parameter attribute is invalid.",
                       in->attribute);
    }
    if (!dry_run_check(in->dry_run, err)) {
        return false;
    }
    struct row_image changed = *image;
    changed.public = false;
    changed.launch_accounts.items = NULL;
    changed.launch_accounts.count = 0;
    return row_put(call->txn, &row_image_type, &changed, err);
}
