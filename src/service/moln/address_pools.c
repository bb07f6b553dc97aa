/* address_pools.c - the public addresses that regions give out. */
#include "core/address.h"
#include "core/address6.h"
#include "core/network_rows.h"
#include "service/moln/operators.h"

#define BITS_MIN 16
#define BITS6_MIN 24

/* ---- what is answered ----------------------------------------------------------------- */

static struct moln_address_pool
pool_shown(const struct row_address_pool *row, int64_t taken, int64_t size)
{
    return (struct moln_address_pool){
        .pool_id = row->id,
        .region = row->region,
        .cidr = row->cidr,
        HAS(closed, row->closed),
        HAS(addresses_taken, taken),
        HAS(addresses, size),
        HAS_TIME(created_at, row->created_at),
    };
}

/* Of IPv6: the blocks that VPCs have of it. */
static bool
pool6_out(struct call *call, const struct row_address_pool *row,
          const struct cidr6 *block, struct moln_address_pool *out, struct err *err)
{
    struct row_list vpcs;
    int64_t taken = 0;
    if (!row_all(call, &row_vpc_type, &vpcs, err)) {
        return false;
    }
    for (size_t i = 0; i < vpcs.count; i++) {
        const struct row_vpc *vpc = vpcs.rows[i];
        for (size_t b = 0; b < vpc->blocks6.count; b++) {
            struct cidr6 part;
            taken += cidr6_parse(vpc->blocks6.items[b].cidr, &part) &&
                     cidr6_within(block, &part);
        }
    }
    *out = pool_shown(row, taken, cidr6_children(block, VPC_BLOCK6_BITS));
    return true;
}

static bool
pool_out(struct call *call, const struct row_address_pool *row,
         struct moln_address_pool *out, struct err *err)
{
    struct cidr6 block6;
    if (cidr6_parse(row->cidr, &block6)) {
        return pool6_out(call, row, &block6, out, err);
    }
    const struct row_public_use prefix = {.region = row->region};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list uses;
    struct cidr block;
    int64_t taken = 0;
    if (!cidr_parse(row->cidr, &block) ||
        !row_list(call->txn, &row_public_use_type, &query, &uses, err)) {
        return false;
    }
    for (size_t i = 0; i < uses.count; i++) {
        const struct row_public_use *use = uses.rows[i];
        taken += cidr_contains(&block, (uint32_t)use->ip);
    }
    uint64_t size = cidr_size(&block);
    *out = pool_shown(row, taken, (int64_t)(size > 2 ? size - 2 : size));
    return true;
}

static bool
pool_out_one(struct call *call, const struct row_address_pool *row,
             struct moln_address_pool **out, struct err *err)
{
    *out = ARENA_NEW(call->arena, struct moln_address_pool);
    return pool_out(call, row, *out, err);
}

/* ---- CreateAddressPool ---------------------------------------------------------------- */

static bool
block_read(const char *text, struct cidr *out, struct err *err)
{
    struct cidr block;
    if (!cidr_parse(text, &block) || block.bits < BITS_MIN || block.base >> 24 == 0 ||
        block.base >> 24 == 127 || block.base >> 28 >= 14 ||
        block.base >> 16 == 0xa9fe) {
        return err_set(
            err, ERR_VALIDATION,
            "'%.40s' is no block of addresses that hosts may have, of /%d to /32", text,
            BITS_MIN);
    }
    *out = block;
    return true;
}

/* No address is in two pools; and the region's first one, of addresses that nobody has, ends
 * when there are real ones. */
static bool
make_room(struct call *call, const struct cidr *block, struct err *err)
{
    struct row_list list;
    if (!row_all(call, &row_address_pool_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_address_pool *old = list.rows[i];
        struct cidr other;
        if (cidr_parse(old->cidr, &other) && cidr_overlaps(block, &other)) {
            return err_set(err, ERR_RESOURCE_IN_USE, "Pool %s has %s already", old->id,
                           old->cidr);
        }
        if (str_starts(old->id, "default-") && str_eq(old->region, call->region)) {
            struct row_address_pool closed = *old;
            closed.closed = true;
            if (!row_put(call->txn, &row_address_pool_type, &closed, err)) {
                return false;
            }
        }
    }
    return true;
}

/* Global addresses that are no special ones; a block overlaps no other. */
static bool
block6_read(struct call *call, const char *text, struct cidr6 *out, struct err *err)
{
    struct row_list list;
    struct cidr6 block, other;
    if (!cidr6_parse(text, &block) || block.bits < BITS6_MIN ||
        block.bits > VPC_BLOCK6_BITS || block.base[0] >> 5 != 1) {
        return err_set(err, ERR_VALIDATION,
                       "'%.50s' is no block of global IPv6 addresses, of /%d to /%d",
                       text, BITS6_MIN, VPC_BLOCK6_BITS);
    }
    if (!row_all(call, &row_address_pool_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_address_pool *old = list.rows[i];
        if (cidr6_parse(old->cidr, &other) && cidr6_overlaps(&block, &other)) {
            return err_set(err, ERR_RESOURCE_IN_USE, "Pool %s has %s already", old->id,
                           old->cidr);
        }
    }
    *out = block;
    return true;
}

bool
moln_create_address_pool(struct call *call,
                         const struct moln_create_address_pool_request *in,
                         struct moln_create_address_pool_response *out, struct err *err)
{
    struct cidr block;
    struct cidr6 block6;
    char text[CIDR6_TEXT_LEN];
    bool is6 = strchr(in->cidr, ':') != NULL;
    if (is6 ? !block6_read(call, in->cidr, &block6, err)
            : !block_read(in->cidr, &block, err) || !make_room(call, &block, err)) {
        return false;
    }
    if (is6) {
        cidr6_format(&block6, text);
    } else {
        cidr_format(&block, text);
    }
    const struct row_address_pool row = {
        .id = id_new(call->arena, call->rng, is6 ? "ipv6pool-ec2" : "ipv4pool-ec2"),
        .region = call->region,
        .cidr = arena_strdup(call->arena, text),
        .created_at = call->now_ns,
    };
    return row_insert(call->txn, &row_address_pool_type, &row, err) &&
           pool_out_one(call, &row, &out->address_pool, err);
}

/* ---- ListAddressPools, CloseAddressPool ----------------------------------------------- */

bool
moln_list_address_pools(struct call *call,
                        const struct moln_list_address_pools_request *in,
                        struct moln_list_address_pools_response *out, struct err *err)
{
    struct listing listing;
    struct row_list list;
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token, NULL,
                      &listing, err) ||
        !row_all(call, &row_address_pool_type, &list, err)) {
        return false;
    }
    struct moln_address_pool *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_address_pool);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_address_pool *row = list.rows[i];
        if (listing_take(&listing, row->id) &&
            !pool_out(call, row, &items[count++], err)) {
            return false;
        }
    }
    out->address_pools.items = items;
    out->address_pools.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

bool
moln_close_address_pool(struct call *call,
                        const struct moln_close_address_pool_request *in,
                        struct moln_close_address_pool_response *out, struct err *err)
{
    const struct row_address_pool key = {.id = in->pool_id};
    const struct row_address_pool *row;
    if (!row_get(call->txn, &row_address_pool_type, &key, (const void **)&row, err)) {
        return false;
    }
    if (!row) {
        return err_no(err, "address pool", in->pool_id);
    }
    struct row_address_pool closed = *row;
    closed.closed = true;
    return row_put(call->txn, &row_address_pool_type, &closed, err) &&
           pool_out_one(call, &closed, &out->address_pool, err);
}
