/* overlay.c - see overlay.h. */
#include "node/net/overlay.h"
#include "base/buf.h"
#include "node/net/addr.h"
#include "node/net/links_impl.h"
#include "node/net/rules.h"
#include <netlink/route/link/vxlan.h>

static bool
set_up(struct rtnl_link *link, const struct overlay_link *device,
       const struct overlay *overlay, int ns_fd)
{
    AUTO(nladdr) struct nl_addr *local = links_addr4(overlay->local, 32);
    AUTO(nladdr)
    struct nl_addr *mac =
        device->mac ? nl_addr_build(AF_LLC, (void *)(uintptr_t)device->mac, 6) : NULL;
    if (!local || (device->mac && !mac)) {
        return false;
    }
    if (mac) {
        rtnl_link_set_addr(link, mac);
    }
    rtnl_link_set_name(link, device->name);
    rtnl_link_set_ns_fd(link, ns_fd);
    rtnl_link_set_mtu(link, (unsigned)overlay->mtu);
    return rtnl_link_vxlan_set_id(link, device->vni) == 0 &&
           rtnl_link_vxlan_set_local(link, local) == 0 &&
           rtnl_link_vxlan_set_port(link, (uint16_t)overlay->udp_port) == 0 &&
           rtnl_link_vxlan_set_learning(link, 0) == 0 &&
           rtnl_link_vxlan_enable_proxy(link) == 0;
}

bool
overlay_device(struct links *underlay, int vpc_ns_fd, const struct overlay_link *device,
               const struct overlay *overlay, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_vxlan_alloc();
    if (!link || !set_up(link, device, overlay, vpc_ns_fd)) {
        return err_set(err, ERR_SYSTEM, "VXLAN %s: out of memory", device->name);
    }
    int rc = rtnl_link_add(underlay->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    return rc < 0 && rc != -NLE_EXIST ? links_fail(err, rc, device->name) : true;
}

static bool
same_device(struct rtnl_link *link, const struct overlay_link *device,
            const struct overlay *overlay)
{
    AUTO(nladdr) struct nl_addr *wanted = links_addr4(overlay->local, 32);
    struct nl_addr *address = NULL;
    uint32_t id = 0, port = 0;
    if (!rtnl_link_is_vxlan(link) || rtnl_link_vxlan_get_local(link, &address) < 0) {
        return false;
    }
    AUTO(nladdr) struct nl_addr *local = address;
    struct nl_addr *mac = rtnl_link_get_addr(link);
    bool same_mac =
        !device->mac || (mac && nl_addr_get_len(mac) == 6 &&
                         memcmp(nl_addr_get_binary_addr(mac), device->mac, 6) == 0);
    return wanted && same_mac && rtnl_link_vxlan_get_id(link, &id) == 0 &&
           id == device->vni && rtnl_link_vxlan_get_port(link, &port) == 0 &&
           port == (uint32_t)overlay->udp_port && nl_addr_cmp(local, wanted) == 0;
}

bool
overlay_drop_stale(struct links *links, const struct overlay_link *device,
                   const struct overlay *overlay, struct err *err)
{
    struct rtnl_link *got = NULL;
    int rc = rtnl_link_get_kernel(links->sock, 0, device->name, &got);
    AUTO(rtlink) struct rtnl_link *link = got;
    if (rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV) {
        return true;
    }
    if (rc < 0) {
        return links_fail(err, rc, device->name);
    }
    return same_device(link, device, overlay) || links_drop(links, device->name, err);
}

/* An entry of the device itself, not of its bridge. */
static struct rtnl_neigh *
entry_of(int index, const uint8_t mac[6], struct nl_addr *dst)
{
    struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    AUTO(nladdr)
    struct nl_addr *lladdr = nl_addr_build(AF_LLC, (void *)(uintptr_t)mac, 6);
    if (!neigh || !lladdr) {
        rtnl_neigh_put(neigh);
        return NULL;
    }
    if (dst) {
        (void)rtnl_neigh_set_dst(neigh, dst); /* Makes the family the address's... */
    }
    rtnl_neigh_set_family(neigh, AF_BRIDGE); /* ...which it is not. */
    rtnl_neigh_set_ifindex(neigh, index);
    rtnl_neigh_set_lladdr(neigh, lladdr);
    rtnl_neigh_set_flags(neigh, NTF_SELF);
    rtnl_neigh_set_state(neigh, NUD_PERMANENT | NUD_NOARP);
    return neigh;
}

bool
overlay_forward(struct links *links, int index, const uint8_t mac[6], uint32_t node,
                struct err *err)
{
    AUTO(nladdr) struct nl_addr *dst = links_addr4(node, 32);
    AUTO(rtneigh) struct rtnl_neigh *neigh = dst ? entry_of(index, mac, dst) : NULL;
    if (!neigh) {
        return err_set(err, ERR_SYSTEM, "forwarding entry: out of memory");
    }
    int rc = rtnl_neigh_add(links->sock, neigh, NLM_F_CREATE | NLM_F_REPLACE);
    return rc < 0 ? links_fail(err, rc, "add forwarding entry") : true;
}

bool
overlay_drop_forward(struct links *links, int index, const uint8_t mac[6],
                     struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = entry_of(index, mac, NULL);
    if (!neigh) {
        return err_set(err, ERR_SYSTEM, "forwarding entry: out of memory");
    }
    int rc = rtnl_neigh_delete(links->sock, neigh, 0);
    bool gone = rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV;
    return rc < 0 && !gone ? links_fail(err, rc, "drop forwarding entry") : true;
}

static void
table_name(const char *cloud_id, char out[ADDR_RULE_LEN])
{
    addr_rule_name("moln", cloud_id, "", out);
}

bool
overlay_guard(const uint32_t *peers, size_t count, const struct overlay *overlay,
              const char *cloud_id, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    char table[ADDR_RULE_LEN], ip[ADDR_IPV4_LEN];
    table_name(cloud_id, table);
    buf_printf(&text,
               "table inet %s {\n"
               "    set peers { type ipv4_addr; }\n"
               "    chain underlay { type filter hook input priority -300; }\n"
               "}\n"
               "flush chain inet %s underlay\n"
               "flush set inet %s peers\n",
               table, table, table);
    for (size_t i = 0; i < count; i++) {
        addr_ipv4_text(peers[i], ip);
        buf_printf(&text, "add element inet %s peers { %s }\n", table, ip);
    }
    addr_ipv4_text(overlay->local, ip);
    buf_printf(&text,
               "add rule inet %s underlay udp dport %d ip daddr %s ip saddr @peers "
               "accept\n"
               "add rule inet %s underlay udp dport %d drop\n",
               table, overlay->udp_port, ip, table, overlay->udp_port);
    return rules_run(buf_str(&text), err);
}

bool
overlay_unguard(const char *cloud_id, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    char table[ADDR_RULE_LEN];
    table_name(cloud_id, table);
    buf_printf(&text, "add table inet %s\ndelete table inet %s\n", table, table);
    return rules_run(buf_str(&text), err);
}
