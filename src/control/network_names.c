/* network_names.c - see network_names.h. */
#include "control/network_names.h"

#include "control/network_records.h"
#include "core/endpoint_names.h"
#include "core/network_rows.h"

#define GET(pass, name, out, err, ...) \
    row_get((pass)->txn, &row_##name##_type, &(const struct row_##name){__VA_ARGS__}, \
            (const void **)(out), (err))

/* ---- of an interface ------------------------------------------------------------------------ */

static void
add_resource_name(struct arena *arena, const struct row_eni *eni,
                  const struct row_instance *machine, struct name_list *out)
{
    char domain[96];
    const char **addresses = ARENA_ARRAY(arena, 2, const char *);
    size_t count = 0;
    if (machine->dns_a) {
        addresses[count++] = eni->ipv4;
    }
    if (machine->dns_aaaa && eni->ipv6.count > 0) {
        addresses[count++] = eni->ipv6.items[0];
    }
    if (count == 0) {
        return;
    }
    private_domain(machine->region, domain, sizeof domain);
    out->items[out->count++] = (struct link_name){
        .id = arena_printf(arena, "%s.resource", eni->id),
        .network_id = eni->vpc_id,
        .name = arena_printf(arena, "%s.%s", machine->id, domain),
        .addresses = {addresses, count},
        .reverse = str_eq(machine->hostname_type, "resource-name"),
        .generation = 1,
    };
}

static bool
add_public_names(const struct pass *pass, const struct row_eni *eni,
                 struct name_list *out, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    struct link_port port = {0};
    if (!port_publics(pass->txn, eni, &port, err)) {
        return false;
    }
    for (size_t i = 0; i < port.publics.count; i++) {
        const struct link_port_public *p = &port.publics.items[i];
        char name[PUBLIC_NAME_LEN];
        uint32_t ip;
        if (!ipv4_parse(p->public, &ip)) {
            continue;
        }
        const char **address = ARENA_NEW(arena, const char *);
        *address = p->private;
        public_name(eni->region, ip, name);
        out->items[out->count++] = (struct link_name){
            .id = arena_printf(arena, "%s.%s", eni->id, p->public),
            .network_id = eni->vpc_id,
            .name = arena_strdup(arena, name),
            .addresses = {address, 1},
            .generation = 1,
            .public = true,
        };
    }
    return true;
}

bool
names_of_eni(const struct pass *pass, const struct row_eni *eni, struct name_list *out,
             struct err *err)
{
    const struct row_instance *machine;
    struct arena *arena = txn_arena(pass->txn);
    *out = (struct name_list){
        .items = ARENA_ARRAY(arena, eni->more_ipv4.count + 2, struct link_name)};
    if (str_empty(eni->instance_id)) {
        return true;
    }
    if (!GET(pass, instance, &machine, err, .account = eni->account,
             .id = eni->instance_id)) {
        return false;
    }
    if (!machine || machine->terminated_at) {
        return true;
    }
    if (eni->device_index == 0) {
        add_resource_name(arena, eni, machine, out);
    }
    return add_public_names(pass, eni, out, err);
}

/* ---- of a peer --------------------------------------------------------------------------- */

static bool
add_peer_names(const struct pass *pass, const struct row_vpc_peering *peering,
               const char *vpc_id, const struct row_eni *eni, struct name_list *out,
               struct err *err)
{
    struct name_list names;
    if (!names_of_eni(pass, eni, &names, err)) {
        return false;
    }
    for (size_t i = 0; i < names.count; i++) {
        struct link_name *name = &names.items[i];
        if (name->public) {
            name->id =
                arena_printf(txn_arena(pass->txn), "%s.%s", peering->id, name->id);
            name->network_id = vpc_id;
            out->items[out->count++] = *name;
        }
    }
    return true;
}

bool
names_of_peer(const struct pass *pass, const struct row_vpc_peering *peering,
              const char *vpc_id, struct name_list *out, struct err *err)
{
    bool asked = str_eq(peering->vpc_id, vpc_id); /* The names are the accepter's. */
    const struct row_eni prefix = {
        .account = asked ? peering->peer_account : peering->account,
        .vpc_id = asked ? peering->peer_vpc_id : peering->vpc_id};
    const struct row_query query = {
        .index = "by_vpc", .prefix = &prefix, .prefix_fields = 2};
    struct row_list enis;
    size_t room = 0;
    *out = (struct name_list){0};
    if (!(asked ? peering->accepter_dns : peering->requester_dns)) {
        return true;
    }
    if (!row_list(pass->txn, &row_eni_type, &query, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < enis.count; i++) {
        room += ((const struct row_eni *)enis.rows[i])->more_ipv4.count + 2;
    }
    out->items = ARENA_ARRAY(txn_arena(pass->txn), room, struct link_name);
    for (size_t i = 0; i < enis.count; i++) {
        if (!add_peer_names(pass, peering, vpc_id, enis.rows[i], out, err)) {
            return false;
        }
    }
    return true;
}

/* ---- of an endpoint ------------------------------------------------------------------------- */

/* Addresses of the endpoint's interfaces; of one zone, unless NULL. */
static bool
endpoint_addresses(const struct pass *pass, const struct row_vpc_endpoint *endpoint,
                   const char *zone, struct link_name *out, struct err *err)
{
    const char **list =
        ARENA_ARRAY(txn_arena(pass->txn), endpoint->eni_ids.count, const char *);
    out->addresses.items = list;
    for (size_t i = 0; i < endpoint->eni_ids.count; i++) {
        const struct row_eni *eni;
        if (!GET(pass, eni, &eni, err, .account = endpoint->account,
                 .id = endpoint->eni_ids.items[i])) {
            return false;
        }
        if (eni && (!zone || str_eq(eni->zone, zone))) {
            list[out->addresses.count++] = eni->ipv4;
        }
    }
    return true;
}

bool
names_of_endpoint(const struct pass *pass, const struct row_vpc_endpoint *endpoint,
                  struct name_list *out, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    struct endpoint_names names;
    if (!endpoint_names(pass->txn, endpoint, &names, err)) {
        return false;
    }
    *out =
        (struct name_list){.items = ARENA_ARRAY(arena, names.count, struct link_name)};
    for (size_t i = 0; i < names.count; i++) {
        struct link_name *name = &out->items[out->count++];
        *name = (struct link_name){
            .id = arena_printf(arena, "%s.%zu", endpoint->id, i),
            .network_id = endpoint->vpc_id,
            .name = names.items[i].name,
            .generation = 1,
        };
        if (!endpoint_addresses(pass, endpoint, names.items[i].zone, name, err)) {
            return false;
        }
    }
    return true;
}
