/* endpoint_names.c - see endpoint_names.h. */
#include "core/endpoint_names.h"
#include "base/crypto.h"

#define HASH_BYTES 4

/* "ec2" of "com.amazonaws.us-east-1.ec2". */
static const char *
short_name(const char *service)
{
    const char *dot = service ? strrchr(service, '.') : NULL;
    return dot ? dot + 1 : "";
}

const char *
endpoint_private_name(struct arena *arena, const char *service, const char *region)
{
    return arena_printf(arena, "%s.%s.amazonaws.com", short_name(service), region);
}

static void
add_name(struct arena *arena, const struct row_vpc_endpoint *endpoint, const char *zone,
         struct endpoint_names *out)
{
    uint8_t digest[SHA256_LEN];
    char hash[2 * HASH_BYTES + 1];
    sha256(endpoint->id, strlen(endpoint->id), digest);
    hex_encode(digest, HASH_BYTES, hash);
    out->items[out->count++] = (struct endpoint_name){
        .name = arena_printf(arena, "%s-%s%s%s.%s.%s.vpce.amazonaws.com", endpoint->id,
                             hash, zone ? "-" : "", zone ? zone : "",
                             short_name(endpoint->service), endpoint->region),
        .zone = zone,
    };
}

static bool
has_zone(const struct endpoint_names *names, const char *zone)
{
    for (size_t i = 0; i < names->count; i++) {
        if (names->items[i].zone && str_eq(names->items[i].zone, zone)) {
            return true;
        }
    }
    return false;
}

bool
endpoint_names(struct txn *txn, const struct row_vpc_endpoint *endpoint,
               struct endpoint_names *out, struct err *err)
{
    struct arena *arena = txn_arena(txn);
    *out = (struct endpoint_names){0};
    if (endpoint->eni_ids.count == 0) {
        return true;
    }
    out->items = ARENA_ARRAY(arena, endpoint->eni_ids.count + 2, struct endpoint_name);
    add_name(arena, endpoint, NULL, out);
    for (size_t i = 0; i < endpoint->eni_ids.count; i++) {
        const struct row_eni *eni;
        const struct row_eni key = {.account = endpoint->account,
                                    .id = endpoint->eni_ids.items[i]};
        if (!row_get(txn, &row_eni_type, &key, (const void **)&eni, err)) {
            return false;
        }
        if (eni && !has_zone(out, eni->zone)) {
            add_name(arena, endpoint, eni->zone, out);
        }
    }
    if (endpoint->private_dns) {
        out->items[out->count++] = (struct endpoint_name){
            .name = endpoint_private_name(arena, endpoint->service, endpoint->region)};
    }
    return true;
}
