/* peerings.c - VPC peering: two accounts see one row, which is the requester's. */
#include "core/lifecycle.h"
#include "service/ec2/network.h"

#define EXPIRES_NS (7 * 24 * 3600 * NS_PER_S)

/* ---- which there are ---- */

/* Those that the account asked for, and those asked of it. */
static bool
peerings_load(struct call *call, struct row_list *out, struct err *err)
{
    const struct row_vpc_peering mine = {.account = call->account,
                                         .region = call->region};
    const struct row_vpc_peering theirs = {.peer_account = call->account,
                                           .peer_region = call->region};
    struct row_list asked, offered;
    if (!rows_by(call, &row_vpc_peering_type, "by_region", 2, &mine, &asked, err) ||
        !rows_by(call, &row_vpc_peering_type, "by_peer", 2, &theirs, &offered, err)) {
        return false;
    }
    out->rows = ARENA_ARRAY(call->arena, asked.count + offered.count, const void *);
    out->count = 0;
    for (size_t i = 0; i < asked.count; i++) {
        out->rows[out->count++] = asked.rows[i];
    }
    for (size_t i = 0; i < offered.count; i++) {
        const struct row_vpc_peering *row = offered.rows[i];
        if (!str_eq(row->account, call->account)) {
            out->rows[out->count++] = row;
        }
    }
    return true;
}

static bool
visible(const struct call *call, const struct row_vpc_peering *row)
{
    return !row->ended_at || call->now_ns < row->ended_at + PEERING_VISIBLE_NS;
}

/* What time alone has made of it. */
static const char *
state_of(const struct call *call, const struct row_vpc_peering *row)
{
    return str_eq(row->state, "pending-acceptance") && call->now_ns >= row->expires_at
               ? "expired"
               : row->state;
}

bool
peering_get(struct call *call, const char *id, const struct row_vpc_peering **out,
            struct err *err)
{
    struct row_list list;
    *out = NULL;
    if (!ids_check("pcx", &id, 1, ERR_PEERING_MALFORMED, err) ||
        !peerings_load(call, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        *out = str_eq(row->id, id) && visible(call, row) ? row : *out;
    }
    return true;
}

static bool
peering_find(struct call *call, const char *id, const struct row_vpc_peering **out,
             struct err *err)
{
    return peering_get(call, id, out, err) &&
           (*out ||
            err_no_such(err, ERR_PEERING_NOT_FOUND, "vpcPeeringConnection ID", id));
}

bool
peering_between(struct call *call, const char *vpc_id, const char *other_id,
                const struct row_vpc_peering **out, struct err *err)
{
    struct row_list list;
    *out = NULL;
    if (!peerings_load(call, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        bool joins =
            (str_eq(row->vpc_id, vpc_id) && str_eq(row->peer_vpc_id, other_id)) ||
            (str_eq(row->vpc_id, other_id) && str_eq(row->peer_vpc_id, vpc_id));
        *out = joins && str_eq(row->state, "active") ? row : *out;
    }
    return true;
}

bool
vpcs_peered(struct call *call, const char *vpc_id, const char *other_id, bool *out,
            struct err *err)
{
    const struct row_vpc_peering *row;
    if (!peering_between(call, vpc_id, other_id, &row, err)) {
        return false;
    }
    *out = row != NULL;
    return true;
}

/* ---- shown ---- */

static bool
side_out(struct call *call, const struct row_vpc_peering *row, bool accepter,
         struct ec2_vpc_peering_connection_vpc_info **out, struct err *err)
{
    const struct row_vpc key = {.account = accepter ? row->peer_account : row->account,
                                .id = accepter ? row->peer_vpc_id : row->vpc_id};
    const void *found;
    if (!row_get(call->txn, &row_vpc_type, &key, &found, err)) {
        return false;
    }
    struct ec2_vpc_peering_connection_vpc_info *side =
        ARENA_NEW(call->arena, struct ec2_vpc_peering_connection_vpc_info);
    *side = (struct ec2_vpc_peering_connection_vpc_info){
        .owner_id = key.account,
        .vpc_id = key.id,
        .region = accepter ? row->peer_region : row->region,
    };
    side->peering_options =
        ARENA_NEW(call->arena, struct ec2_vpc_peering_connection_options_description);
    *side->peering_options = (struct ec2_vpc_peering_connection_options_description){
        HAS(allow_dns_resolution_from_remote_vpc,
            accepter ? row->accepter_dns : row->requester_dns),
        HAS(allow_egress_from_local_classic_link_to_remote_vpc, false),
        HAS(allow_egress_from_local_vpc_to_remote_classic_link, false),
    };
    /* The accepter's blocks are shown to others once it has accepted. */
    bool known = str_eq(row->state, "active") || str_eq(key.account, call->account);
    const struct row_vpc *vpc = known ? found : NULL;
    if (vpc) {
        const char **blocks;
        size_t count = vpc_blocks(call, vpc, &blocks);
        side->cidr_block = vpc->cidr;
        side->cidr_block_set.items =
            ARENA_ARRAY(call->arena, count, struct ec2_cidr_block);
        side->cidr_block_set.count = count;
        for (size_t i = 0; i < count; i++) {
            side->cidr_block_set.items[i].cidr_block = blocks[i];
        }
        side->ipv6_cidr_block_set.items =
            ARENA_ARRAY(call->arena, vpc->blocks6.count, struct ec2_ipv6_cidr_block);
        side->ipv6_cidr_block_set.count = vpc->blocks6.count;
        for (size_t i = 0; i < vpc->blocks6.count; i++) {
            side->ipv6_cidr_block_set.items[i].ipv6_cidr_block =
                vpc->blocks6.items[i].cidr;
        }
    }
    *out = side;
    return true;
}

static const char *
message_of(struct call *call, const struct row_vpc_peering *row, const char *state)
{
    return str_eq(state, "active")     ? "Active"
           : str_eq(state, "deleted")  ? "Deleted by the user"
           : str_eq(state, "rejected") ? "Inactive"
           : str_eq(state, "expired")  ? "Expired"
           : str_empty(row->message)
               ? arena_printf(call->arena, "Pending Acceptance by %s",
                              row->peer_account)
               : row->message;
}

static bool
peering_out(struct call *call, const struct row_vpc_peering *row, struct tag_set tags,
            struct ec2_vpc_peering_connection *out, struct err *err)
{
    const char *state = state_of(call, row);
    bool pending = str_eq(state, "pending-acceptance");
    *out = (struct ec2_vpc_peering_connection){
        .vpc_peering_connection_id = row->id,
        .expiration_time = row->expires_at,
        .has_expiration_time = pending,
        .status =
            ARENA_NEW(call->arena, struct ec2_vpc_peering_connection_state_reason),
        .tags = {tags_out(call, tags), tags.count},
    };
    out->status->code = state;
    out->status->message = message_of(call, row, state);
    return side_out(call, row, false, &out->requester_vpc_info, err) &&
           side_out(call, row, true, &out->accepter_vpc_info, err);
}

#define PEERING struct ec2_vpc_peering_connection

FILTER_TEXT(id, PEERING, vpc_peering_connection_id)
FILTER_TEXT(accepter_owner, PEERING, accepter_vpc_info->owner_id)
FILTER_TEXT(accepter_vpc, PEERING, accepter_vpc_info->vpc_id)
FILTER_TEXT(accepter_cidr, PEERING, accepter_vpc_info->cidr_block)
FILTER_TEXT(requester_owner, PEERING, requester_vpc_info->owner_id)
FILTER_TEXT(requester_vpc, PEERING, requester_vpc_info->vpc_id)
FILTER_TEXT(requester_cidr, PEERING, requester_vpc_info->cidr_block)
FILTER_TEXT(status_code, PEERING, status->code)
FILTER_TEXT(status_message, PEERING, status->message)

static const struct filter_def peering_filters[] = {
    {"accepter-vpc-info.cidr-block", accepter_cidr_values},
    {"accepter-vpc-info.owner-id", accepter_owner_values},
    {"accepter-vpc-info.vpc-id", accepter_vpc_values},
    {"expiration-time", NULL},
    {"requester-vpc-info.cidr-block", requester_cidr_values},
    {"requester-vpc-info.owner-id", requester_owner_values},
    {"requester-vpc-info.vpc-id", requester_vpc_values},
    {"status-code", status_code_values},
    {"status-message", status_message_values},
    {"vpc-peering-connection-id", id_values},
};

/* Ids that are not there are an error; those that have ended long ago are not there. */
static bool
peerings_show(struct call *call, const struct filters *filters, struct page *page,
              struct pick *ids, struct ec2_describe_vpc_peering_connections_result *out,
              struct err *err)
{
    struct row_list list;
    struct tags tags;
    if (!peerings_load(call, &list, err) || !tags_load_all(call, &tags, err)) {
        return false;
    }
    struct ec2_vpc_peering_connection *items =
        ARENA_ARRAY(call->arena, list.count, struct ec2_vpc_peering_connection);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        struct tag_set set = tags_of(&tags, row->id);
        if (!visible(call, row) || !pick_take(ids, row->id)) {
            continue;
        }
        if (!peering_out(call, row, set, &items[count], err)) {
            return false;
        }
        count += filters_match(filters, &items[count], set) && page_take(page, row->id);
    }
    out->vpc_peering_connections.items = items;
    out->vpc_peering_connections.count = count;
    return true;
}

bool
ec2_describe_vpc_peering_connections(
    struct call *call, const struct ec2_describe_vpc_peering_connections_request *in,
    struct ec2_describe_vpc_peering_connections_result *out, struct err *err)
{
    const struct page_ask ask = {.has_max = in->has_max_results,
                                 .max_results = in->max_results,
                                 .min = 5,
                                 .max = 1000,
                                 .next_token = in->next_token,
                                 .ids = in->vpc_peering_connection_ids.count,
                                 .ids_name = "vpcPeeringConnectionIds"};
    struct filters filters;
    struct page page;
    struct pick ids;
    pick_init(call, in->vpc_peering_connection_ids.items,
              in->vpc_peering_connection_ids.count, &ids);
    if (!filters_init(call, peering_filters, ARRAY_LEN(peering_filters),
                      in->filters.items, in->filters.count, &filters, err) ||
        !ids_check("pcx", ids.ids, ids.count, ERR_PEERING_MALFORMED, err) ||
        !page_init(call, &ask, &filters, &page, err) ||
        !dry_run_check(in->dry_run, err) ||
        !peerings_show(call, &filters, &page, &ids, out, err)) {
        return false;
    }
    out->next_token = page_next_token(call, &page);
    return pick_check(call, &ids, ERR_PEERING_NOT_FOUND, "vpcPeeringConnection ID",
                      err);
}

/* ---- asked, accepted, rejected, ended ---- */

static bool
answer(struct call *call, const struct row_vpc_peering *row,
       struct ec2_vpc_peering_connection **out, struct err *err)
{
    struct tag_set tags;
    *out = ARENA_NEW(call->arena, struct ec2_vpc_peering_connection);
    return tags_shown(call, row->id, &tags, err) &&
           peering_out(call, row, tags, *out, err);
}

static bool
blocks_overlap(struct call *call, const struct row_vpc *a, const struct row_vpc *b)
{
    const char **x, **y;
    size_t count = vpc_blocks(call, a, &x), other = vpc_blocks(call, b, &y);
    struct cidr p, q;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < other; k++) {
            if (cidr_parse(x[i], &p) && cidr_parse(y[k], &q) && cidr_overlaps(&p, &q)) {
                return true;
            }
        }
    }
    return false;
}

/* AWS makes the row, as failed, when the other side is wrong; a caller is served as well
 * by an error at once. */
static bool
check_peer(struct call *call, const struct row_vpc_peering *peering,
           const struct row_vpc *vpc, struct err *err)
{
    const struct row_vpc key = {.account = peering->peer_account,
                                .id = peering->peer_vpc_id};
    const struct row_vpc_peering *old;
    const void *row;
    if (!row_get(call->txn, &row_vpc_type, &key, &row, err) ||
        !peering_between(call, vpc->id, key.id, &old, err)) {
        return false;
    }
    const struct row_vpc *peer = row;
    if (!peer || !str_eq(peer->region, peering->peer_region) ||
        str_eq(peer->id, vpc->id)) {
        return err_no_such(err, ERR_VPC_NOT_FOUND, kind_vpc.what, key.id);
    }
    if (blocks_overlap(call, vpc, peer)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The CIDR blocks of the VPCs '%s' and '%s' overlap.", vpc->id,
                       peer->id);
    }
    return !old ||
           err_set(err, ERR_PEERING_EXISTS,
                   "A VPC peering connection '%s' already joins these VPCs.", old->id);
}

/* Of a VPC's peerings, on whichever side it is. */
static bool
check_peering_limit(struct call *call, const char *vpc_id, const char *state,
                    size_t max, enum err_code code, struct err *err)
{
    struct row_list list;
    size_t count = 0;
    if (!peerings_load(call, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        count += str_eq(state_of(call, row), state) &&
                 (str_eq(row->vpc_id, vpc_id) || str_eq(row->peer_vpc_id, vpc_id));
    }
    return count < max ||
           err_set(
               err, code,
               "The VPC '%s' has %zu peering connections that are %s, as many as it "
               "may have.",
               vpc_id, count, state);
}

bool
ec2_create_vpc_peering_connection(
    struct call *call, const struct ec2_create_vpc_peering_connection_request *in,
    struct ec2_create_vpc_peering_connection_result *out, struct err *err)
{
    static const char *const types[] = {"vpc-peering-connection", NULL};
    const struct row_vpc *vpc;
    const struct row_vpc_peering row = {
        .account = call->account,
        .id = id_new(call->arena, call->rng, "pcx"),
        .region = call->region,
        .vpc_id = in->vpc_id,
        .peer_account = in->peer_owner_id ? in->peer_owner_id : call->account,
        .peer_region = in->peer_region ? in->peer_region : call->region,
        .peer_vpc_id = in->peer_vpc_id,
        .state = "pending-acceptance",
        .created_at = call->now_ns,
        .expires_at = call->now_ns + EXPIRES_NS,
    };
    if (!str_eq(row.peer_region, call->region)) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "VPCs of different regions cannot be peered in this cloud.");
    }
    return FIND(call, kind_vpc, in->vpc_id, &vpc, err) &&
           need(in->peer_vpc_id, "peerVpcId", err) &&
           check_peer(call, &row, vpc, err) &&
           check_peering_limit(call, vpc->id, row.state, PEERINGS_ASKED_MAX,
                               ERR_PEERINGS_ASKED, err) &&
           tag_specs_check(in->tag_specifications.items, in->tag_specifications.count,
                           types, err) &&
           dry_run_check(in->dry_run, err) &&
           row_insert(call->txn, &row_vpc_peering_type, &row, err) &&
           tag_specs_put(call, in->tag_specifications.items,
                         in->tag_specifications.count, types[0], row.id, err) &&
           answer(call, &row, &out->vpc_peering_connection, err);
}

/* Both VPCs' nodes hear of it. */
static bool
peering_put(struct call *call, const struct row_vpc_peering *row, struct err *err)
{
    const struct row_vpc keys[] = {
        {.account = row->account, .id = row->vpc_id},
        {.account = row->peer_account, .id = row->peer_vpc_id}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const void *vpc;
        if (!row_get(call->txn, &row_vpc_type, &keys[i], &vpc, err)) {
            return false;
        }
        if (vpc) {
            struct row_vpc next = *(const struct row_vpc *)vpc;
            next.generation++;
            if (!row_put(call->txn, &row_vpc_type, &next, err)) {
                return false;
            }
        }
    }
    return row_put(call->txn, &row_vpc_peering_type, row, err);
}

static bool
err_state(struct err *err, const struct row_vpc_peering *row, const char *state)
{
    return err_set(err, ERR_PEERING_STATE,
                   "Invalid state transition for %s: it is '%s'.", row->id, state);
}

bool
ec2_accept_vpc_peering_connection(
    struct call *call, const struct ec2_accept_vpc_peering_connection_request *in,
    struct ec2_accept_vpc_peering_connection_result *out, struct err *err)
{
    const struct row_vpc_peering *row;
    if (!peering_find(call, in->vpc_peering_connection_id, &row, err)) {
        return false;
    }
    const char *state = state_of(call, row);
    struct row_vpc_peering next = *row;
    next.state = "active";
    if (!str_eq(row->peer_account, call->account)) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "User %s cannot accept peering %s", call->account, row->id);
    }
    if (!str_eq(state, "pending-acceptance") && !str_eq(state, "active")) {
        return err_state(err, row, state);
    }
    return (str_eq(state, "active") ||
            check_peering_limit(call, row->peer_vpc_id, next.state, PEERINGS_MAX,
                                ERR_PEERINGS_ACTIVE, err)) &&
           dry_run_check(in->dry_run, err) && peering_put(call, &next, err) &&
           answer(call, &next, &out->vpc_peering_connection, err);
}

bool
ec2_reject_vpc_peering_connection(
    struct call *call, const struct ec2_reject_vpc_peering_connection_request *in,
    struct ec2_reject_vpc_peering_connection_result *out, struct err *err)
{
    const struct row_vpc_peering *row;
    if (!peering_find(call, in->vpc_peering_connection_id, &row, err)) {
        return false;
    }
    const char *state = state_of(call, row);
    struct row_vpc_peering next = *row;
    next.state = "rejected";
    next.ended_at = call->now_ns;
    if (!str_eq(row->peer_account, call->account)) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "User %s cannot reject peering %s", call->account, row->id);
    }
    if (!str_eq(state, "pending-acceptance")) {
        return err_state(err, row, state);
    }
    out->return_ = out->has_return_ = true;
    return dry_run_check(in->dry_run, err) && peering_put(call, &next, err);
}

static bool
end(struct call *call, const struct row_vpc_peering *row, struct err *err)
{
    struct row_vpc_peering next = *row;
    next.state = "deleted";
    next.ended_at = call->now_ns;
    return peering_put(call, &next, err);
}

bool
ec2_delete_vpc_peering_connection(
    struct call *call, const struct ec2_delete_vpc_peering_connection_request *in,
    struct ec2_delete_vpc_peering_connection_result *out, struct err *err)
{
    const struct row_vpc_peering *row;
    if (!peering_find(call, in->vpc_peering_connection_id, &row, err)) {
        return false;
    }
    const char *state = state_of(call, row);
    bool asked_away =
        str_eq(state, "pending-acceptance") && str_eq(row->account, call->account);
    if (!asked_away && !str_eq(state, "active")) {
        return err_state(err, row, state);
    }
    out->return_ = out->has_return_ = true;
    return dry_run_check(in->dry_run, err) && end(call, row, err);
}

bool
peerings_end(struct call *call, const struct row_vpc *vpc, struct err *err)
{
    struct row_list list;
    if (!peerings_load(call, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_vpc_peering *row = list.rows[i];
        bool ours = str_eq(row->vpc_id, vpc->id) || str_eq(row->peer_vpc_id, vpc->id);
        if (ours && !row->ended_at && !end(call, row, err)) {
            return false;
        }
    }
    return true;
}

/* ---- options ---- */

static bool
set_option(struct call *call,
           const struct ec2_peering_connection_options_request *asked,
           const char *owner, bool *flag, struct ec2_peering_connection_options **out,
           struct err *err)
{
    if (!asked) {
        return true;
    }
    if (!str_eq(owner, call->account)) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "User %s cannot modify the options of the other side",
                       call->account);
    }
    *flag = asked->allow_dns_resolution_from_remote_vpc;
    *out = ARENA_NEW(call->arena, struct ec2_peering_connection_options);
    **out = (struct ec2_peering_connection_options){
        HAS(allow_dns_resolution_from_remote_vpc, *flag)};
    return true;
}

bool
ec2_modify_vpc_peering_connection_options(
    struct call *call,
    const struct ec2_modify_vpc_peering_connection_options_request *in,
    struct ec2_modify_vpc_peering_connection_options_result *out, struct err *err)
{
    const struct row_vpc_peering *row;
    if (!peering_find(call, in->vpc_peering_connection_id, &row, err)) {
        return false;
    }
    struct row_vpc_peering next = *row;
    if (!str_eq(row->state, "active")) {
        return err_set(err, ERR_OPERATION_NOT_PERMITTED,
                       "Peering %s is not active. Peering options can be added only to "
                       "active peerings.",
                       row->id);
    }
    return set_option(call, in->requester_peering_connection_options, row->account,
                      &next.requester_dns, &out->requester_peering_connection_options,
                      err) &&
           set_option(call, in->accepter_peering_connection_options, row->peer_account,
                      &next.accepter_dns, &out->accepter_peering_connection_options,
                      err) &&
           dry_run_check(in->dry_run, err) && peering_put(call, &next, err);
}
