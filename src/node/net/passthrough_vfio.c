/* passthrough_vfio.c - ports that are virtual functions: see passthrough.h.
 *
 * Which function is a port's, the interface itself tells: it has the port's MAC. So an agent
 * that starts anew finds it, and nothing is kept. The interface drops what a function sends
 * by another MAC (spoof checking); no rule of ours sees a frame of it. */
#include "node/net/links_impl.h"
#include "node/net/passthrough.h"
#include <linux/if_link.h>
#include <netlink/route/link/sriov.h>

#define SYS "/sys"
#define FUNCTIONS_MAX 256

static const uint8_t nobody[6] = {0};

/* The interface's function with this MAC; '*out' FUNCTIONS_MAX: none has it. */
static bool
number_with(struct links *links, const struct uplink *u, const uint8_t mac[6],
            uint32_t *out, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = NULL;
    int rc = rtnl_link_get_kernel(links->sock, u->index, NULL, &link);
    if (rc < 0) {
        return links_fail(err, rc, u->link);
    }
    uint32_t number = 0;
    for (bool found = false; number < FUNCTIONS_MAX && !found; number += !found) {
        struct rtnl_link_vf *vf = rtnl_link_vf_get(link, number);
        struct nl_addr *has = NULL;
        found = vf && rtnl_link_vf_get_addr(vf, &has) == 0 && has &&
                nl_addr_get_len(has) == sizeof nobody &&
                memcmp(nl_addr_get_binary_addr(has), mac, sizeof nobody) == 0;
        rtnl_link_vf_put(vf);
    }
    *out = number;
    return true;
}

/* From now on it has this MAC, and no other. */
static bool
name_function(struct links *links, const struct uplink *u, uint32_t number,
              const uint8_t mac[6], struct err *err)
{
    AUTO(rtlink) struct rtnl_link *orig = rtnl_link_alloc();
    AUTO(rtlink) struct rtnl_link *change = rtnl_link_alloc();
    AUTO(nladdr)
    struct nl_addr *addr = nl_addr_build(AF_LLC, (void *)(uintptr_t)mac, 6);
    struct rtnl_link_vf *vf = rtnl_link_vf_alloc();
    if (!orig || !change || !addr || !vf) {
        rtnl_link_vf_free(vf);
        return err_set(err, ERR_SYSTEM, "%s: out of memory", u->link);
    }
    rtnl_link_set_ifindex(orig, u->index);
    rtnl_link_vf_set_index(vf, number);
    rtnl_link_vf_set_addr(vf, addr);
    rtnl_link_vf_set_spoofchk(vf, 1);
    rtnl_link_vf_set_trust(vf, 0);
    int rc = rtnl_link_vf_add(change, vf);
    rtnl_link_vf_put(vf);
    if (rc >= 0) {
        rc = rtnl_link_change(links->sock, orig, change, 0);
    }
    return rc >= 0 || links_fail(err, rc, u->link);
}

bool
passthrough_function_open(struct net *net, const struct port *port,
                          struct vfio_function *out, struct err *err)
{
    const struct uplink *u = passthrough_uplink(net, port);
    struct vfio_function f;
    uint32_t number;
    if (!u || !u->vfio) {
        return err_set(err, ERR_NOT_FOUND,
                       "port %s: its uplink %s, of virtual functions, is not here",
                       port->info.id, port->uplink_id);
    }
    if (!number_with(net->host, u, port->mac, &number, err)) {
        return false;
    }
    bool found = number < FUNCTIONS_MAX
                     ? vfio_function_at(SYS, u->link, number, &f, err)
                     : vfio_function_free(SYS, u->link, &f, err);
    if (!found || !name_function(net->host, u, f.number, port->mac, err) ||
        !vfio_bind(SYS, &f, err)) {
        return err_wrap(err, "port %s", port->info.id);
    }
    *out = f;
    return true;
}

bool
passthrough_function_drop(struct net *net, const struct port *port, struct err *err)
{
    const struct uplink *u = passthrough_uplink(net, port);
    struct vfio_function f;
    uint32_t number;
    if (!u) {
        return true; /* It went with its uplink. */
    }
    if (!number_with(net->host, u, port->mac, &number, err)) {
        return false;
    }
    return number == FUNCTIONS_MAX ||
           (vfio_function_at(SYS, u->link, number, &f, err) &&
            vfio_unbind(SYS, &f, err) &&
            name_function(net->host, u, number, nobody, err));
}
