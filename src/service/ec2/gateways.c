/* gateways.c - internet gateways, and egress-only ones. */
#include "service/ec2/network.h"

/* ---- internet gateways: shown ---- */

static void
attachment_out(struct call *call, const char *vpc_id, const char *state,
               struct ec2_internet_gateway_attachment **out, size_t *out_count)
{
    *out = ARENA_NEW(call->arena, struct ec2_internet_gateway_attachment);
    *out_count = !str_empty(vpc_id);
    (*out)->vpc_id = vpc_id;
    (*out)->state = state;
}

static struct ec2_internet_gateway
gateway_out(struct call *call, const struct row_internet_gateway *row,
            struct tag_set tags)
{
    struct ec2_internet_gateway out = {
        .internet_gateway_id = row->id,
        .owner_id = row->account,
        .tags = {tags_out(call, tags), tags.count},
    };
    attachment_out(call, row->vpc_id, "available", &out.attachments.items,
                   &out.attachments.count);
    return out;
}

FILTER_TEXT(gateway_id, struct ec2_internet_gateway, internet_gateway_id)
FILTER_TEXT(gateway_owner, struct ec2_internet_gateway, owner_id)
FILTER_EACH(gateway_state, struct ec2_internet_gateway, attachments, state)
FILTER_EACH(gateway_vpc, struct ec2_internet_gateway, attachments, vpc_id)

static const struct filter_def gateway_filters[] = {
    {"attachment.state", gateway_state_values},
    {"attachment.vpc-id", gateway_vpc_values},
    {"internet-gateway-id", gateway_id_values},
    {"owner-id", gateway_owner_values},
};

bool
ec2_describe_internet_gateways(struct call *call,
                               const struct ec2_describe_internet_gateways_request *in,
                               struct ec2_describe_internet_gateways_result *out,
                               struct err *err)
{
    const struct row_internet_gateway prefix = {.account = call->account,
                                                .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, internet_gateway_ids, filters, "internetGatewayIds",
                    kind_internet_gateway, gateway_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_internet_gateway *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_internet_gateway);
    out->internet_gateways.items = items;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_internet_gateway *row = listing.rows.rows[i];
        struct ec2_internet_gateway *item = &items[out->internet_gateways.count];
        *item = gateway_out(call, row, tags_of(&listing.tags, row->id));
        out->internet_gateways.count += listing_accepts(&listing, row->id, item);
    }
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- internet gateways: made, attached, detached, deleted ---- */

bool
ec2_create_internet_gateway(struct call *call,
                            const struct ec2_create_internet_gateway_request *in,
                            struct ec2_create_internet_gateway_result *out,
                            struct err *err)
{
    const struct row_internet_gateway row = {.account = call->account,
                                             .id =
                                                 id_new(call->arena, call->rng, "igw"),
                                             .region = call->region,
                                             .created_at = call->now_ns};
    struct tag_set tags;
    if (!new_tags_check(&kind_internet_gateway, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !room_for_one(call, &row_internet_gateway_type, "by_region", GATEWAYS_MAX,
                      ERR_GATEWAY_LIMIT, "internet gateways", err) ||
        !dry_run_check(in->dry_run, err) ||
        !row_insert(call->txn, &row_internet_gateway_type, &row, err) ||
        !new_tags_put(call, &kind_internet_gateway, in->tag_specifications.items,
                      in->tag_specifications.count, row.id, err) ||
        !tags_shown(call, row.id, &tags, err)) {
        return false;
    }
    out->internet_gateway = ARENA_NEW(call->arena, struct ec2_internet_gateway);
    *out->internet_gateway = gateway_out(call, &row, tags);
    return true;
}

bool
ec2_attach_internet_gateway(struct call *call,
                            const struct ec2_attach_internet_gateway_request *in,
                            struct err *err)
{
    const struct row_internet_gateway *gateway;
    const struct row_vpc *vpc;
    struct row_list list;
    if (!FIND(call, kind_internet_gateway, in->internet_gateway_id, &gateway, err) ||
        !FIND(call, kind_vpc, in->vpc_id, &vpc, err)) {
        return false;
    }
    struct row_internet_gateway next = *gateway;
    next.vpc_id = vpc->id;
    if (!str_empty(gateway->vpc_id)) {
        return err_set(err, ERR_GATEWAY_ATTACHED,
                       "resource %s is already attached to network %s", gateway->id,
                       gateway->vpc_id);
    }
    if (!rows_by(call, &row_internet_gateway_type, "by_vpc", 2, &next, &list, err)) {
        return false;
    }
    if (list.count) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Network %s already has an internet gateway attached", vpc->id);
    }
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_internet_gateway_type, &next, err) &&
           vpc_touch(call, vpc->id, err);
}

/* No interface of the VPC may have a public address: AWS's rule. */
static bool
check_no_public(struct call *call, const char *vpc_id, struct err *err)
{
    const struct row_eni of = {.account = call->account, .vpc_id = vpc_id};
    struct row_list enis, addresses;
    if (!enis_in(call, "by_vpc", &of, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < enis.count; i++) {
        const struct row_eni *eni = enis.rows[i];
        const struct row_address held = {.account = call->account, .eni_id = eni->id};
        if (!rows_by(call, &row_address_type, "by_eni", 2, &held, &addresses, err)) {
            return false;
        }
        if (addresses.count || !str_empty(eni->public_ip)) {
            return err_set(
                err, ERR_DEPENDENCY,
                "Network %s has some mapped public address(es). Please unmap "
                "those public address(es) before detaching the gateway.",
                vpc_id);
        }
    }
    return true;
}

bool
ec2_detach_internet_gateway(struct call *call,
                            const struct ec2_detach_internet_gateway_request *in,
                            struct err *err)
{
    const struct row_internet_gateway *gateway;
    const struct row_vpc *vpc;
    if (!FIND(call, kind_internet_gateway, in->internet_gateway_id, &gateway, err) ||
        !FIND(call, kind_vpc, in->vpc_id, &vpc, err)) {
        return false;
    }
    if (!str_eq(gateway->vpc_id, vpc->id)) {
        return err_set(err, ERR_GATEWAY_NOT_ATTACHED,
                       "resource %s is not attached to network %s", gateway->id,
                       vpc->id);
    }
    struct row_internet_gateway next = *gateway;
    next.vpc_id = NULL;
    return check_no_public(call, vpc->id, err) && dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_internet_gateway_type, &next, err) &&
           vpc_touch(call, vpc->id, err);
}

bool
ec2_delete_internet_gateway(struct call *call,
                            const struct ec2_delete_internet_gateway_request *in,
                            struct err *err)
{
    const struct row_internet_gateway *gateway;
    if (!FIND(call, kind_internet_gateway, in->internet_gateway_id, &gateway, err)) {
        return false;
    }
    if (!str_empty(gateway->vpc_id)) {
        return err_depends(err, "internetGateway", gateway->id);
    }
    return dry_run_check(in->dry_run, err) &&
           object_delete(call, &kind_internet_gateway, gateway, err);
}

/* ---- egress-only internet gateways ---- */

static struct ec2_egress_only_internet_gateway
egress_out(struct call *call, const struct row_egress_gateway *row, struct tag_set tags)
{
    struct ec2_egress_only_internet_gateway out = {
        .egress_only_internet_gateway_id = row->id,
        .tags = {tags_out(call, tags), tags.count},
    };
    attachment_out(call, row->vpc_id, "attached", &out.attachments.items,
                   &out.attachments.count);
    return out;
}

static const struct filter_def egress_filters[] = {
    {"egress-only-internet-gateway-id", NULL},
};

bool
ec2_describe_egress_only_internet_gateways(
    struct call *call,
    const struct ec2_describe_egress_only_internet_gateways_request *in,
    struct ec2_describe_egress_only_internet_gateways_result *out, struct err *err)
{
    const struct row_egress_gateway prefix = {.account = call->account,
                                              .region = call->region};
    const struct listing_ask ask = LISTING_ASK(
        in, egress_only_internet_gateway_ids, filters, "egressOnlyInternetGatewayId",
        kind_egress_gateway, egress_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_egress_only_internet_gateway *items = ARENA_ARRAY(
        call->arena, listing.rows.count, struct ec2_egress_only_internet_gateway);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_egress_gateway *row = listing.rows.rows[i];
        items[count] = egress_out(call, row, tags_of(&listing.tags, row->id));
        count += listing_accepts(&listing, row->id, &items[count]);
    }
    out->egress_only_internet_gateways.items = items;
    out->egress_only_internet_gateways.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

bool
ec2_create_egress_only_internet_gateway(
    struct call *call, const struct ec2_create_egress_only_internet_gateway_request *in,
    struct ec2_create_egress_only_internet_gateway_result *out, struct err *err)
{
    const char *digest =
        request_digest(call, &ec2_create_egress_only_internet_gateway_request_desc, in);
    const char *before;
    const struct row_vpc *vpc;
    const struct row_egress_gateway *made;
    struct row_egress_gateway row = {.account = call->account,
                                     .id = id_new(call->arena, call->rng, "eigw"),
                                     .region = call->region,
                                     .vpc_id = in->vpc_id,
                                     .created_at = call->now_ns};
    struct tag_set tags;
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        !new_tags_check(&kind_egress_gateway, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !token_get(call, in->client_token, digest, &before, err) ||
        (!before &&
         !room_for_one(call, &row_egress_gateway_type, "by_region", GATEWAYS_MAX,
                       ERR_RESOURCE_LIMIT, "egress-only internet gateways", err)) ||
        !dry_run_check(in->dry_run, err)) {
        return false;
    }
    if (!before &&
        (!row_insert(call->txn, &row_egress_gateway_type, &row, err) ||
         !new_tags_put(call, &kind_egress_gateway, in->tag_specifications.items,
                       in->tag_specifications.count, row.id, err) ||
         !token_put(call, in->client_token, digest, row.id, err) ||
         !vpc_touch(call, vpc->id, err))) {
        return false;
    }
    const char *id = before ? before : row.id;
    if (!FIND(call, kind_egress_gateway, id, &made, err) ||
        !tags_shown(call, id, &tags, err)) {
        return false;
    }
    out->client_token = in->client_token;
    out->egress_only_internet_gateway =
        ARENA_NEW(call->arena, struct ec2_egress_only_internet_gateway);
    *out->egress_only_internet_gateway = egress_out(call, made, tags);
    return true;
}

bool
ec2_delete_egress_only_internet_gateway(
    struct call *call, const struct ec2_delete_egress_only_internet_gateway_request *in,
    struct ec2_delete_egress_only_internet_gateway_result *out, struct err *err)
{
    const struct row_egress_gateway *gateway;
    out->return_code = out->has_return_code = true;
    return FIND(call, kind_egress_gateway, in->egress_only_internet_gateway_id,
                &gateway, err) &&
           dry_run_check(in->dry_run, err) &&
           object_delete(call, &kind_egress_gateway, gateway, err) &&
           vpc_touch(call, gateway->vpc_id, err);
}
