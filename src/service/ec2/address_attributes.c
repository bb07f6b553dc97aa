/* address_attributes.c - the reverse names of Elastic IPs. */
#include "service/ec2/network.h"

#define DOMAIN_NAME "domain-name" /* AWS's only attribute. */

static struct ec2_address_attribute
attribute_out(const struct row_address *row)
{
    return (struct ec2_address_attribute){
        .public_ip = row->public_ip,
        .allocation_id = row->id,
        .ptr_record = str_empty(row->domain_name) ? NULL : row->domain_name,
    };
}

bool
ec2_describe_addresses_attribute(
    struct call *call, const struct ec2_describe_addresses_attribute_request *in,
    struct ec2_describe_addresses_attribute_result *out, struct err *err)
{
    const struct row_address prefix = {.account = call->account,
                                       .region = call->region};
    const struct listing_ask ask = {.kind = &kind_address,
                                    .prefix = &prefix,
                                    .ids = in->allocation_ids.items,
                                    .page = {.has_max = in->has_max_results,
                                             .max_results = in->max_results,
                                             .min = 1,
                                             .max = 1000,
                                             .next_token = in->next_token,
                                             .ids_name = "allocationIds",
                                             .ids = in->allocation_ids.count},
                                    .dry_run = in->dry_run};
    struct listing listing;
    if (in->attribute && !str_eq(in->attribute, DOMAIN_NAME)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.60s) for parameter attribute is invalid.",
                       in->attribute);
    }
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    out->addresses.items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_address_attribute);
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_address *row = listing.rows.rows[i];
        /* Without ids, only addresses that have the attribute are shown. */
        bool shown = in->allocation_ids.count || !str_empty(row->domain_name);
        if (shown && listing_accepts(&listing, row->id, row)) {
            out->addresses.items[out->addresses.count++] = attribute_out(row);
        }
    }
    return listing_close(call, &listing, &out->next_token, err);
}

static bool
set_name(struct call *call, const char *allocation_id, const char *name, bool dry_run,
         struct ec2_address_attribute **out, struct err *err)
{
    const struct row_address *row;
    if (!FIND(call, kind_address, allocation_id, &row, err)) {
        return false;
    }
    struct row_address next = *row;
    next.domain_name = name;
    *out = ARENA_NEW(call->arena, struct ec2_address_attribute);
    **out = attribute_out(&next);
    return dry_run_check(dry_run, err) &&
           row_put(call->txn, &row_address_type, &next, err);
}

bool
ec2_modify_address_attribute(struct call *call,
                             const struct ec2_modify_address_attribute_request *in,
                             struct ec2_modify_address_attribute_result *out,
                             struct err *err)
{
    return need(in->domain_name, "domainName", err) &&
           set_name(call, in->allocation_id, in->domain_name, in->dry_run,
                    &out->address, err);
}

bool
ec2_reset_address_attribute(struct call *call,
                            const struct ec2_reset_address_attribute_request *in,
                            struct ec2_reset_address_attribute_result *out,
                            struct err *err)
{
    if (!str_eq(in->attribute, DOMAIN_NAME)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Value (%.60s) for parameter attribute is invalid.",
                       text_or_empty(in->attribute));
    }
    return set_name(call, in->allocation_id, NULL, in->dry_run, &out->address, err);
}
