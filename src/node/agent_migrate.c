/* agent_migrate.c - what migrations ask of the rest of the node. */
#include "node/agent_impl.h"
#include "node/net/conntrack.h"

#include <errno.h>
#include <fcntl.h>

static bool
host_self(void *ctx, struct arena *arena, struct courier_self *out, struct err *err)
{
    struct agent *a = ctx;
    *out = (struct courier_self){.loop = a->config.loop, .clock = a->config.clock};
    if (!identity_read_pem(a, "ca.pem", arena, &out->ca_pem, err) ||
        !identity_read_pem(a, "cert.pem", arena, &out->cert_pem, err) ||
        !identity_read_pem(a, "key.pem", arena, &out->key_pem, err)) {
        return false;
    }
    return (out->ca_pem && out->cert_pem && out->key_pem) ||
           err_set(err, ERR_UNSUPPORTED,
                   "this node has no certificate with which another would know it");
}

static const char *
host_address(void *ctx)
{
    const struct agent *a = ctx;
    return str_empty(a->identity.underlay) ? NULL : a->identity.underlay;
}

static bool
host_connections_get(void *ctx, const char *port_id, struct blob known, struct buf *out,
                     struct err *err)
{
    struct conntrack_count count;
    return conntrack_export(((struct agent *)ctx)->net, port_id, known, out, &count,
                            err);
}

static bool
host_connections_put(void *ctx, const char *port_id, struct blob in, size_t *out_left,
                     struct err *err)
{
    struct conntrack_count count;
    if (!conntrack_import(((struct agent *)ctx)->net, port_id, in.data, in.len, &count,
                          err)) {
        return false;
    }
    *out_left = count.left;
    return true;
}

/* Nobody writes it meanwhile: its machine is wanted off, and is. */
static bool
host_disk_give(void *ctx, const char *disk_id, int *out_fd, struct err *err)
{
    const struct agent *a = ctx;
    const char *path, *base;
    if (machines_use_disk(a->machines, disk_id)) {
        return err_set(err, ERR_BUSY, "disk %s is in use by its machine", disk_id);
    }
    if (!disk_find(a->disks, disk_id, &path, &base, err)) {
        return false;
    }
    *out_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *out_fd >= 0 || err_sys(err, errno, "open %s", path);
}

static enum disk_arrival
host_disk_arrival(void *ctx, const char *disk_id)
{
    return disk_arrival(((struct agent *)ctx)->disks, disk_id);
}

static bool
host_disk_arrive(void *ctx, const char *disk_id, int *out_fd, struct err *err)
{
    return disk_arrive(((struct agent *)ctx)->disks, disk_id, out_fd, err);
}

static void
host_disk_arrived(void *ctx, const char *disk_id, bool whole)
{
    disk_arrived(((struct agent *)ctx)->disks, disk_id, whole);
}

struct migration_host
agent_migration_host(struct agent *a)
{
    return (struct migration_host){
        .self = host_self,
        .address = host_address,
        .connections_get = host_connections_get,
        .connections_put = host_connections_put,
        .disk_give = host_disk_give,
        .disk_arrival = host_disk_arrival,
        .disk_arrive = host_disk_arrive,
        .disk_arrived = host_disk_arrived,
        .changed = agent_wake,
        .urgent = agent_report_migrations,
        .event = agent_event,
        .ctx = a,
    };
}
