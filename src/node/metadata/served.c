/* served.c - ports by id and by address: see served.h. */
#include "node/metadata/served.h"
#include "base/map.h"
#include "base/tlv.h"
#include "link/records.h"
#include "node/metadata/metadata.h"
#include <errno.h>
#include <sys/stat.h>

#define RECORD_MAX (METADATA_TREE_BYTES_MAX + 64 * KIB)

struct port {
    struct arena *arena; /* Holds all of it. */
    struct imds_port imds;
    const char *network;
    uint32_t addresses[CHILD_ADDRESSES];
    size_t address_count;
};

struct served {
    struct map *ports;   /* By id; owns them. */
    struct map *callers; /* "NETWORK/ADDRESS". */
};

static void
port_destroy(void *value)
{
    arena_destroy(((struct port *)value)->arena);
}

struct served *
served_create(void)
{
    struct served *served = xcalloc(1, sizeof *served);
    served->ports = map_create(port_destroy);
    served->callers = map_create(NULL);
    return served;
}

void
served_destroy(struct served *served)
{
    if (served) {
        map_destroy(served->callers);
        map_destroy(served->ports);
        free(served);
    }
}

static void
caller_key(const char *network, uint32_t ipv4, char out[CHILD_ID_LEN + 16])
{
    (void)snprintf(out, CHILD_ID_LEN + 16, "%s/%08x", network, ipv4);
}

static bool
read_record(int fd, struct arena *arena, struct link_metadata *out, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size > RECORD_MAX) {
        return err_set(err, ERR_TOO_LARGE, "documents of no sensible length");
    }
    size_t len = (size_t)st.st_size;
    AUTO(free) char *data = xmalloc(len + 1);
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(fd, data + at, len - at, (off_t)at);
        if (n <= 0) {
            return err_sys(err, n < 0 ? errno : EIO, "read documents");
        }
        at += (size_t)n;
    }
    return tlv_decode(&link_metadata_desc, data, len, arena, out, err);
}

bool
served_put(struct served *served, const struct child_message *message, int fd,
           struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct link_metadata *want = ARENA_NEW(arena, struct link_metadata);
    if (!read_record(fd, arena, want, err)) {
        return false;
    }
    struct tree *tree = tree_create(arena, want, err);
    if (!tree) {
        return false;
    }
    struct port *port = ARENA_NEW(arena, struct port);
    port->network = arena_strdup(arena, message->network);
    port->imds = (struct imds_port){
        .name = arena_printf(arena, "%s/%s", message->network, message->port),
        .tree = tree,
        .enabled = want->enabled,
        .token_required = want->token_required,
        .hop_limit = (int)MIN(MAX(want->hop_limit, 1), 64),
    };
    port->address_count = message->address_count;
    memcpy(port->addresses, message->addresses, sizeof port->addresses);
    served_drop(served, message->port);
    port->arena = take_arena(&arena);
    map_put(served->ports, message->port, port);
    for (size_t i = 0; i < port->address_count; i++) {
        char key[CHILD_ID_LEN + 16];
        caller_key(port->network, port->addresses[i], key);
        map_put(served->callers, key, port);
    }
    return true;
}

void
served_drop(struct served *served, const char *id)
{
    struct port *port = map_get(served->ports, id);
    for (size_t i = 0; port && i < port->address_count; i++) {
        char key[CHILD_ID_LEN + 16];
        caller_key(port->network, port->addresses[i], key);
        if (map_get(served->callers, key) == port) {
            map_del(served->callers, key);
        }
    }
    map_del(served->ports, id);
}

const struct imds_port *
served_find(const struct served *served, const char *network, uint32_t ipv4)
{
    char key[CHILD_ID_LEN + 16];
    caller_key(network, ipv4, key);
    const struct port *port = map_get(served->callers, key);
    return port ? &port->imds : NULL;
}
