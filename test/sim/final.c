/* final.c - what there is at rest, from the rows and from the hosts themselves. See run.h.
 */
#include "base/tlv.h"
#include "core/address.h"
#include "run.h"
#include "store/rows.h"

#include <dirent.h>

static const char *const kind_names[LINK_KINDS] = {
    [LINK_MACHINE] = "machine",
    [LINK_DISK] = "disk",
    [LINK_BLOB] = "blob",
    [LINK_BLOB_JOB] = "job",
    [LINK_NETWORK] = "network",
    [LINK_SUBNET] = "subnet",
    [LINK_PORT] = "port",
    [LINK_METADATA] = "metadata",
    [LINK_GROUP] = "group",
    [LINK_GROUP_MEMBER] = "member",
    [LINK_PREFIX_LIST] = "prefix-list",
    [LINK_ROUTE_TABLE] = "route-table",
    [LINK_ACL] = "acl",
    [LINK_PEERING] = "peering",
    [LINK_NAT_GATEWAY] = "nat",
    [LINK_DHCP_OPTIONS] = "dhcp",
    [LINK_FLOW_LOG] = "flow-log",
    [LINK_UPLINK] = "uplink",
    [LINK_UNDERLAY] = "underlay",
    [LINK_NEIGHBOUR] = "neighbour",
    [LINK_NAME] = "name",
    [LINK_PUBLIC] = "public",
    [LINK_ENDPOINT] = "endpoint",
};

static const char *
kind_name(int64_t kind)
{
    const char *name = kind > 0 && kind < LINK_KINDS ? kind_names[kind] : NULL;
    return name ? name : "other";
}

/* ---- hosts ----------------------------------------------------------------------- */

/* Files of a folder: 'kind', by what stands before 'end' of their names. */
static void
write_folder(const struct host *h, const char *folder, const char *kind,
             const char *end)
{
    AUTO(free) char *path = xasprintf("%s/node/%s", h->dir, folder);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char id[64];
        snprintf(id, sizeof id, "%.*s", (int)strcspn(e->d_name, end), e->d_name);
        if (id[0] && !str_eq(id, "orphans")) {
            HISTORY(MOMENT_END_HERE, .host = h->number, .kind_of = kind, .id = id);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void
write_host(const struct host *h)
{
    for (size_t i = 0; i < h->guests.count; i++) {
        const struct guest *g = h->guests.items[i];
        if (g->alive && g->behind) { /* It waits for memory. */
            HISTORY(MOMENT_END_HERE, .host = h->number, .kind_of = "half-emulator",
                    .id = g->id);
        } else if (g->alive && g->standing) { /* Wanted by nobody: not at rest. */
            HISTORY(MOMENT_END_HERE, .host = h->number, .kind_of = "emulator",
                    .id = g->id);
        } else if (g->alive) {
            HISTORY(MOMENT_END_GUEST, .host = h->number, .id = g->id);
        }
    }
    for (int kind = 0; kind < LINK_KINDS; kind++) {
        const char *id;
        void *value;
        for (size_t it = 0; map_next(h->kernel[kind], &it, &id, &value);) {
            HISTORY(MOMENT_END_HERE, .host = h->number, .kind_of = kind_name(kind),
                    .id = id);
        }
    }
    write_folder(h, "machines", "machine", ".");
    write_folder(h, "pool", "disk", "+.");
    write_folder(h, "blobs", "blob", ".");
}

/* ---- rows ------------------------------------------------------------------------ */

struct numbers {
    struct map *hosts;     /* Node id to host number. */
    struct map *underlays; /* Node id to where the others reach it. */
    struct map *shared;    /* Volumes whose file lies in the shared pool. */
};

static unsigned
host_of(const struct numbers *n, const char *node_id)
{
    return str_empty(node_id) ? 0 : (unsigned)(uintptr_t)map_get(n->hosts, node_id);
}

static bool
each(struct txn *txn, const struct row_type *type, struct numbers *n,
     void (*fn)(struct numbers *n, const void *row), struct err *err)
{
    struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        fn(n, list.rows[i]);
    }
    return true;
}

static void
of_node(struct numbers *n, const void *row)
{
    const struct row_node *node = row;
    unsigned number = 0;
    if (node->name && sscanf(node->name, "host-%u", &number) == 1) {
        map_put(n->hosts, node->id, (void *)(uintptr_t)number);
        map_put(n->underlays, node->id, xstrdup(node->underlay ? node->underlay : ""));
        if (node->draining) {
            HISTORY(MOMENT_END_DRAINS, .host = number);
        }
    }
}

static void
of_instance(struct numbers *n, const void *row)
{
    const struct row_instance *i = row;
    bool dying = str_eq(i->want_state, "terminated") && !i->terminated_at;
    HISTORY(MOMENT_END_INSTANCE, .id = i->id, .host = host_of(n, i->node_id),
            .other = i->client_token, .state = dying ? "shutting-down" : i->want_state);
    if (!i->terminated_at) {
        HISTORY(MOMENT_END_OWNED, .id = i->id);
    }
    if (i->claimed) {
        HISTORY(MOMENT_END_TAKEN, .id = i->id, .host = host_of(n, i->node_id),
                .vcpus = i->vcpus,
                .memory_bytes =
                    i->claim_memory_bytes ? i->claim_memory_bytes : i->memory_bytes);
    }
}

static void
of_volume(struct numbers *n, const void *row)
{
    const struct row_volume *v = row;
    HISTORY(MOMENT_END_OWNED, .id = v->id);
    if (map_get(n->shared, v->id)) {
        map_del(n->shared, v->id);
        HISTORY(MOMENT_END_HERE, .host = host_of(n, v->node_id), .kind_of = "disk",
                .id = v->id);
    }
    HISTORY(MOMENT_END_TAKEN, .id = v->id, .host = host_of(n, v->node_id),
            .disk_bytes = v->size_gib * (int64_t)GIB);
}

static void
of_eni(struct numbers *n UNUSED, const void *row)
{
    const struct row_eni *e = row;
    HISTORY(MOMENT_END_OWNED, .id = e->id);
    AUTO(free) char *place = xasprintf("%s %s", e->subnet_id, e->ipv4);
    HISTORY(MOMENT_END_HAS, .id = e->id, .place = place);
    for (size_t i = 0; i < e->more_ipv4.count; i++) {
        AUTO(free) char *more = xasprintf("%s %s", e->subnet_id, e->more_ipv4.items[i]);
        HISTORY(MOMENT_END_HAS, .id = e->id, .place = more);
    }
}

static void
of_address(struct numbers *n UNUSED, const void *row)
{
    const struct row_address_use *a = row;
    char text[IPV4_TEXT_LEN];
    ipv4_format((uint32_t)a->ip, text);
    AUTO(free) char *place = xasprintf("%s %s", a->subnet_id, text);
    HISTORY(MOMENT_END_ADDRESS, .place = place);
}

static void
of_claim(struct numbers *n, const void *row)
{
    const struct row_node_claim *c = row;
    HISTORY(MOMENT_END_CLAIM, .host = host_of(n, c->id), .vcpus = c->vcpus,
            .memory_bytes = c->memory_bytes, .disk_bytes = c->disk_bytes);
}

static void
of_event(struct numbers *n UNUSED, const void *row)
{
    const struct row_instance_event *e = row;
    if (!e->ended_at) {
        HISTORY(MOMENT_END_EVENT, .id = e->instance_id);
    }
}

static void
of_nat(struct numbers *n, const void *row)
{
    const struct row_nat_gateway *nat = row;
    if (str_eq(nat->state, "pending") || str_eq(nat->state, "available")) {
        HISTORY(MOMENT_END_NAT, .id = nat->id, .host = host_of(n, nat->node_id),
                .place = str_empty(nat->node_id) ? NULL
                                                 : map_get(n->underlays, nat->node_id));
    }
}

static void
of_nat_want(struct numbers *n, const struct row_node_want *w)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct link_nat_gateway record;
    struct err err = {0};
    if (!w->deleted && w->body.len > 0 &&
        tlv_decode(&link_nat_gateway_desc, w->body.data, w->body.len, arena, &record,
                   &err)) {
        HISTORY(MOMENT_END_SENDS, .id = w->id, .host = host_of(n, w->node_id),
                .place = record.node_address);
    }
}

static void
of_want(struct numbers *n, const void *row)
{
    const struct row_node_want *w = row;
    if (w->kind == LINK_NAT_GATEWAY) {
        of_nat_want(n, w);
    }
    /* A machine that never ran leaves nothing; guests are looked at by themselves. */
    bool unseen =
        w->kind == LINK_METADATA || w->kind == LINK_BLOB_JOB || w->kind == LINK_MACHINE;
    HISTORY(MOMENT_END_WANT, .host = host_of(n, w->node_id), .id = w->id,
            .kind_of = kind_name(w->kind),
            .state = w->deleted ? "deleted"
                     : unseen   ? "unseen"
                                : "");
}

static bool
write_rows(struct txn *txn, void *ctx, struct err *err)
{
    struct numbers *n = ctx;
    return each(txn, &row_node_type, n, of_node, err) &&
           each(txn, &row_instance_type, n, of_instance, err) &&
           each(txn, &row_volume_type, n, of_volume, err) &&
           each(txn, &row_eni_type, n, of_eni, err) &&
           each(txn, &row_address_use_type, n, of_address, err) &&
           each(txn, &row_node_claim_type, n, of_claim, err) &&
           each(txn, &row_instance_event_type, n, of_event, err) &&
           each(txn, &row_nat_gateway_type, n, of_nat, err) &&
           each(txn, &row_node_want_type, n, of_want, err);
}

static void
find_shared(struct numbers *n, const char *path)
{
    DIR *dir = path ? opendir(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char id[64];
        snprintf(id, sizeof id, "%.*s", (int)strcspn(e->d_name, "+."), e->d_name);
        if (str_starts(id, "vol-")) {
            map_put(n->shared, id, n);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* Whose volume is gone. Where a host was revoked nobody may be left who could erase its. */
static void
write_left_over(const struct run *run, const struct numbers *n)
{
    const char *id;
    void *value;
    for (size_t it = 0; !run->revoked && map_next(n->shared, &it, &id, &value);) {
        HISTORY(MOMENT_END_HERE, .kind_of = "disk", .id = id);
    }
}

void
final_write(struct run *run)
{
    struct numbers n = {.hosts = map_create(NULL),
                        .underlays = map_create(free),
                        .shared = map_create(NULL)};
    find_shared(&n, run->shared_dir);
    for (size_t i = 0; i < run->hosts.count; i++) {
        write_host(run->hosts.items[i]);
    }
    cloud_read(&run->cloud, write_rows, &n);
    write_left_over(run, &n);
    map_destroy(n.hosts);
    map_destroy(n.underlays);
    map_destroy(n.shared);
}
