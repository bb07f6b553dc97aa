/* address_rows.c - see network_rows.h: addresses taken and given back, and interfaces. */
#include "core/network_rows.h"

#include "core/id.h"

/* Where public addresses come from until the operator names a pool: ranges that no
 * network routes (RFC 2544). */
#define DEFAULT_POOL "198.18.0.0/15"
#define DEFAULT_POOL_BITS 16

#define GET(txn, name, out, err, ...) \
    row_get((txn), &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

static const char *
ip_text(struct txn *txn, uint32_t ip)
{
    char text[IPV4_TEXT_LEN];
    ipv4_format(ip, text);
    return arena_strdup(txn_arena(txn), text);
}

/* ---- a subnet's IPv4 ---- */

static bool
use_free(struct txn *txn, const struct row_subnet *subnet, uint32_t ip, bool *out,
         struct err *err)
{
    const struct row_address_use *use;
    if (!GET(txn, address_use, &use, err, .account = subnet->account,
             .subnet_id = subnet->id, .ip = ip)) {
        return false;
    }
    *out = !use;
    return true;
}

/* Once around the subnet, from where the last search ended. */
static bool
find_free(struct txn *txn, const struct row_subnet *subnet, const struct cidr *block,
          uint32_t *out, struct err *err)
{
    uint64_t size = cidr_size(block), host = (uint64_t)subnet->next_host % size;
    for (uint64_t tried = 0; tried < size; tried++, host = (host + 1) % size) {
        uint32_t ip = block->base + (uint32_t)host;
        bool unused = false;
        if (subnet_reserves(block, ip)) {
            continue;
        }
        if (!use_free(txn, subnet, ip, &unused, err)) {
            return false;
        }
        if (unused) {
            struct row_subnet next = *subnet;
            next.next_host = (int64_t)((host + 1) % size);
            *out = ip;
            return row_put(txn, &row_subnet_type, &next, err);
        }
    }
    return err_set(
        err, ERR_SUBNET_FULL,
        "The specified subnet does not have enough free addresses to satisfy "
        "the request.");
}

static bool
check_wanted(struct txn *txn, const struct row_subnet *subnet, const struct cidr *block,
             uint32_t ip, struct err *err)
{
    bool unused = false;
    if (!cidr_contains(block, ip)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Address %s does not fall within the subnet's address range",
                       ip_text(txn, ip));
    }
    if (subnet_reserves(block, ip)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Address %s is in subnet's reserved address range",
                       ip_text(txn, ip));
    }
    if (!use_free(txn, subnet, ip, &unused, err)) {
        return false;
    }
    return unused ||
           err_set(err, ERR_ADDRESS_IN_USE, "Address %s is in use.", ip_text(txn, ip));
}

bool
ipv4_take(struct txn *txn, const char *account, const char *subnet_id,
          const char *eni_id, uint32_t wanted, const char **out, struct err *err)
{
    const struct row_subnet *subnet;
    struct cidr block;
    uint32_t ip = wanted;
    if (!GET(txn, subnet, &subnet, err, .account = account, .id = subnet_id)) {
        return false;
    }
    if (!subnet || !cidr_parse(subnet->cidr, &block)) {
        return err_set(err, ERR_INTERNAL, "subnet %s has no block", subnet_id);
    }
    bool ok = wanted ? check_wanted(txn, subnet, &block, wanted, err)
                     : find_free(txn, subnet, &block, &ip, err);
    const struct row_address_use use = {
        .account = account, .subnet_id = subnet_id, .ip = ip, .eni_id = eni_id};
    if (!ok || !row_insert(txn, &row_address_use_type, &use, err)) {
        return false;
    }
    *out = ip_text(txn, ip);
    return true;
}

bool
ipv4_give_back(struct txn *txn, const char *account, const char *subnet_id,
               const char *ip, struct err *err)
{
    uint32_t number;
    if (!ipv4_parse(ip, &number)) {
        return true;
    }
    const struct row_address_use use = {
        .account = account, .subnet_id = subnet_id, .ip = number};
    return row_delete(txn, &row_address_use_type, &use, err);
}

/* ---- a subnet's IPv6 ---- */

static bool
use6_free(struct txn *txn, const struct row_subnet *subnet, const char *ip, bool *out,
          struct err *err)
{
    const struct row_address6_use *use;
    if (!GET(txn, address6_use, &use, err, .account = subnet->account,
             .subnet_id = subnet->id, .ip = ip)) {
        return false;
    }
    *out = !use;
    return true;
}

bool
ipv6_take(struct txn *txn, const struct rng *rng, const struct row_subnet *subnet,
          const char *eni_id, const char *wanted, const char **out, struct err *err)
{
    struct cidr6 block;
    uint8_t ip[16];
    char text[IPV6_TEXT_LEN];
    bool unused = false;
    if (!cidr6_parse(subnet->block6, &block)) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "The subnet '%s' does not have an IPv6 CIDR block.", subnet->id);
    }
    if (wanted && (!ipv6_parse(wanted, ip) || !cidr6_contains(&block, ip) ||
                   subnet6_reserves(&block, ip))) {
        return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                       "Address %.60s does not fall within the subnet's IPv6 address "
                       "range",
                       wanted);
    }
    do {
        if (!wanted) {
            cidr6_random(&block, rng, ip);
        }
        ipv6_format(ip, text);
        if (!use6_free(txn, subnet, text, &unused, err)) {
            return false;
        }
    } while (!unused && !wanted);
    if (!unused) {
        return err_set(err, ERR_ADDRESS_IN_USE, "Address %s is in use.", text);
    }
    const struct row_address6_use use = {.account = subnet->account,
                                         .subnet_id = subnet->id,
                                         .ip = arena_strdup(txn_arena(txn), text),
                                         .eni_id = eni_id};
    *out = use.ip;
    return row_insert(txn, &row_address6_use_type, &use, err);
}

bool
ipv6_give_back(struct txn *txn, const char *account, const char *subnet_id,
               const char *ip, struct err *err)
{
    const struct row_address6_use use = {
        .account = account, .subnet_id = subnet_id, .ip = ip};
    return str_empty(ip) || row_delete(txn, &row_address6_use_type, &use, err);
}

/* ---- public addresses ---- */

/* A region's first pool, while the operator has named none: the part of DEFAULT_POOL
 * that no other region has. */
static bool
default_pool(struct txn *txn, const char *region, int64_t now_ns,
             struct row_list *pools, struct err *err)
{
    struct row_list all;
    struct cidr whole, part;
    char text[CIDR_TEXT_LEN];
    if (!row_list(txn, &row_address_pool_type, &(struct row_query){0}, &all, err)) {
        return false;
    }
    if (!cidr_parse(DEFAULT_POOL, &whole) ||
        !cidr_child(&whole, DEFAULT_POOL_BITS, (uint32_t)all.count, &part)) {
        return true;
    }
    cidr_format(&part, text);
    struct arena *arena = txn_arena(txn);
    struct row_address_pool *pool = ARENA_NEW(arena, struct row_address_pool);
    *pool = (struct row_address_pool){.id = arena_printf(arena, "default-%s", region),
                                      .region = region,
                                      .cidr = arena_strdup(arena, text),
                                      .created_at = now_ns};
    pools->rows = ARENA_ARRAY(arena, 1, const void *);
    pools->rows[0] = pool;
    pools->count = 1;
    return row_insert(txn, &row_address_pool_type, pool, err);
}

static bool
pools_load(struct txn *txn, const char *region, int64_t now_ns, struct row_list *out,
           struct err *err)
{
    const struct row_address_pool prefix = {.region = region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 1};
    struct row_list all;
    if (!row_list(txn, &row_address_pool_type, &query, &all, err)) {
        return false;
    }
    *out =
        (struct row_list){.rows = ARENA_ARRAY(txn_arena(txn), all.count, const void *)};
    for (size_t i = 0; i < all.count; i++) {
        const struct row_address_pool *pool = all.rows[i];
        struct cidr block;
        if (cidr_parse(pool->cidr, &block)) { /* Others are of IPv6. */
            out->rows[out->count++] = pool;
        }
    }
    return out->count || default_pool(txn, region, now_ns, out, err);
}

static bool
public_free(struct txn *txn, const char *region, uint32_t ip, bool *out,
            struct err *err)
{
    const struct row_public_use *use;
    if (!GET(txn, public_use, &use, err, .region = region, .ip = ip)) {
        return false;
    }
    *out = !use;
    return true;
}

/* The next free address of a pool; '*out' 0: there is none. The first and the last of a
 * block are nobody's. */
static bool
pool_next(struct txn *txn, const struct row_address_pool *pool, uint32_t *out,
          struct err *err)
{
    struct cidr block;
    *out = 0;
    if (pool->closed || !cidr_parse(pool->cidr, &block)) {
        return true;
    }
    uint64_t size = cidr_size(&block), host = (uint64_t)pool->next_host % size;
    for (uint64_t tried = 0; tried < size; tried++, host = (host + 1) % size) {
        bool unused = false;
        if (size > 2 && (host == 0 || host == size - 1)) {
            continue;
        }
        uint32_t ip = block.base + (uint32_t)host;
        if (!public_free(txn, pool->region, ip, &unused, err)) {
            return false;
        }
        if (unused) {
            struct row_address_pool next = *pool;
            next.next_host = (int64_t)((host + 1) % size);
            *out = ip;
            return row_put(txn, &row_address_pool_type, &next, err);
        }
    }
    return true;
}

static bool
pool_has(struct txn *txn, const struct row_list *pools, const char *wanted,
         uint32_t *out, struct err *err)
{
    bool unused = false;
    uint32_t ip;
    for (size_t i = 0; ipv4_parse(wanted, &ip) && i < pools->count; i++) {
        const struct row_address_pool *pool = pools->rows[i];
        struct cidr block;
        if (cidr_parse(pool->cidr, &block) && cidr_contains(&block, ip)) {
            if (!public_free(txn, pool->region, ip, &unused, err)) {
                return false;
            }
            *out = ip;
            break;
        }
    }
    return unused ||
           err_set(err, ERR_ADDRESS_NOT_FOUND, "Address '%.40s' not found.", wanted);
}

bool
public_take(struct txn *txn, const struct row_public_use *owner, const char *wanted,
            int64_t now_ns, const char **out, struct err *err)
{
    struct row_list pools;
    struct row_public_use use = *owner;
    uint32_t ip = 0;
    if (!pools_load(txn, owner->region, now_ns, &pools, err) ||
        (wanted && !pool_has(txn, &pools, wanted, &ip, err))) {
        return false;
    }
    for (size_t i = 0; i < pools.count && !ip; i++) {
        if (!pool_next(txn, pools.rows[i], &ip, err)) {
            return false;
        }
    }
    if (!ip) {
        return err_set(err, ERR_ADDRESS_CAPACITY,
                       "There are no public addresses left in this region.");
    }
    use.ip = ip;
    *out = ip_text(txn, ip);
    return row_insert(txn, &row_public_use_type, &use, err);
}

bool
public_give_back(struct txn *txn, const char *region, const char *ip, struct err *err)
{
    struct row_public_use use = {.region = region};
    uint32_t number;
    if (!ipv4_parse(ip, &number)) {
        return true;
    }
    use.ip = number;
    return row_delete(txn, &row_public_use_type, &use, err);
}

bool
address_join(struct txn *txn, const struct rng *rng, const struct row_address *address,
             const struct row_eni *eni, const char *private_ip,
             const struct row_address **out, struct err *err)
{
    struct arena *arena = txn_arena(txn);
    struct row_address *next = ARENA_NEW(arena, struct row_address);
    *next = *address;
    next->eni_id = eni->id;
    next->private_ip = private_ip;
    next->association_id = id_new(arena, rng, "eipassoc");
    struct row_eni seen = *eni;
    if (str_eq(private_ip, eni->ipv4) && !str_empty(eni->public_ip)) {
        if (!public_give_back(txn, eni->region, eni->public_ip, err)) {
            return false;
        }
        seen.public_ip = NULL;
    }
    *out = next;
    return row_put(txn, &row_address_type, next, err) && eni_put(txn, &seen, err);
}

bool
address_part(struct txn *txn, const struct row_address *address, struct err *err)
{
    struct row_address next = *address;
    const struct row_eni *eni = NULL;
    next.eni_id = next.private_ip = next.association_id = next.nat_id = NULL;
    if (!row_put(txn, &row_address_type, &next, err) ||
        !GET(txn, eni, &eni, err, .account = address->account, .id = address->eni_id)) {
        return false;
    }
    return !eni || eni_put(txn, eni, err);
}

bool
address_of(struct txn *txn, const struct row_eni *eni, const char *private_ip,
           const struct row_address **out, struct err *err)
{
    const struct row_address prefix = {.account = eni->account, .eni_id = eni->id};
    const struct row_query query = {
        .index = "by_eni", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    *out = NULL;
    if (!row_list(txn, &row_address_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_address *address = list.rows[i];
        if (str_eq(address->private_ip, private_ip)) {
            *out = address;
        }
    }
    return true;
}

/* ---- interfaces ---- */

bool
eni_put(struct txn *txn, const struct row_eni *eni, struct err *err)
{
    struct row_eni next = *eni;
    next.generation++;
    return row_put(txn, &row_eni_type, &next, err);
}

bool
eni_public_start(struct txn *txn, const struct row_eni *eni, int64_t now_ns,
                 struct err *err)
{
    const struct row_address *elastic;
    if (!eni->auto_public || !str_empty(eni->public_ip)) {
        return true;
    }
    if (!address_of(txn, eni, eni->ipv4, &elastic, err)) {
        return false;
    }
    struct row_eni next = *eni;
    const struct row_public_use owner = {
        .region = eni->region, .account = eni->account, .eni_id = eni->id};
    return elastic || (public_take(txn, &owner, NULL, now_ns, &next.public_ip, err) &&
                       eni_put(txn, &next, err));
}

bool
eni_public_stop(struct txn *txn, const struct row_eni *eni, struct err *err)
{
    if (str_empty(eni->public_ip)) {
        return true;
    }
    struct row_eni next = *eni;
    next.public_ip = NULL;
    return public_give_back(txn, eni->region, eni->public_ip, err) &&
           eni_put(txn, &next, err);
}

bool
enis_public(struct txn *txn, const struct row_instance *inst, bool start,
            int64_t now_ns, struct err *err)
{
    const struct row_eni prefix = {.account = inst->account, .instance_id = inst->id};
    const struct row_query query = {
        .index = "by_instance", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(txn, &row_eni_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!(start ? eni_public_start(txn, list.rows[i], now_ns, err)
                    : eni_public_stop(txn, list.rows[i], err))) {
            return false;
        }
    }
    return true;
}

bool
eni_detach(struct txn *txn, const struct row_eni *eni, struct err *err)
{
    struct row_eni next = *eni;
    if (!public_give_back(txn, eni->region, eni->public_ip, err)) {
        return false;
    }
    next.instance_id = next.attachment_id = next.public_ip = NULL;
    next.attached_at = next.device_index = 0;
    next.delete_on_termination = next.auto_public = false;
    return eni_put(txn, &next, err);
}

static bool
part_all(struct txn *txn, const struct row_eni *eni, struct err *err)
{
    const struct row_address prefix = {.account = eni->account, .eni_id = eni->id};
    const struct row_query query = {
        .index = "by_eni", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(txn, &row_address_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (!address_part(txn, list.rows[i], err)) {
            return false;
        }
    }
    return true;
}

bool
eni_remove(struct txn *txn, const struct row_eni *eni, struct err *err)
{
    if (!part_all(txn, eni, err) ||
        !public_give_back(txn, eni->region, eni->public_ip, err) ||
        !ipv4_give_back(txn, eni->account, eni->subnet_id, eni->ipv4, err)) {
        return false;
    }
    for (size_t i = 0; i < eni->more_ipv4.count; i++) {
        if (!ipv4_give_back(txn, eni->account, eni->subnet_id, eni->more_ipv4.items[i],
                            err)) {
            return false;
        }
    }
    for (size_t i = 0; i < eni->ipv6.count; i++) {
        if (!ipv6_give_back(txn, eni->account, eni->subnet_id, eni->ipv6.items[i],
                            err)) {
            return false;
        }
    }
    const struct row_eni_gone gone = {
        .account = eni->account, .id = eni->id, .vpc_id = eni->vpc_id};
    return resource_tags_drop(txn, eni->account, eni->region, eni->id, err) &&
           row_delete(txn, &row_eni_type, eni, err) &&
           row_put(txn, &row_eni_gone_type, &gone, err);
}
