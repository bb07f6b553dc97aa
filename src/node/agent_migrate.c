/* agent_migrate.c - what migrations ask of the rest of the node. */
#include "node/agent_impl.h"
#include "node/net/conntrack.h"

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

struct migration_host
agent_migration_host(struct agent *a)
{
    return (struct migration_host){
        .self = host_self,
        .address = host_address,
        .connections_get = host_connections_get,
        .connections_put = host_connections_put,
        .changed = agent_wake,
        .urgent = agent_report_migrations,
        .event = agent_event,
        .ctx = a,
    };
}
