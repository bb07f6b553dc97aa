/* net.c - the object, its networks and subnets: see net.h. Ports: port.c. */
#include "base/file.h"
#include "link/records.h"
#include "node/net/flowlog.h"
#include "node/net/net_parts.h"
#include "node/net/netns.h"
#include "node/net/passthrough.h"
#include "node/net/rules.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <linux/netfilter.h>
#include <pwd.h>
#include <sys/stat.h>

#define SUBNET_PREFIX_MIN 16
#define SUBNET_PREFIX_MAX 28

struct net *
net_open(const struct net_config *config, struct err *err)
{
    if (!addr_id_ok(config->cloud_id)) {
        (void)err_set(err, ERR_INVALID, "'%s' is no id of a cloud",
                      config->cloud_id ? config->cloud_id : "");
        return NULL;
    }
    struct net *net = xcalloc(1, sizeof *net);
    net->config = *config;
    net->cloud_id = xstrdup(config->cloud_id);
    net->run_dir = config->run_dir ? xstrdup(config->run_dir)
                                   : xasprintf("/run/moln-%s", config->cloud_id);
    net->dnsmasq_path =
        xstrdup(config->dnsmasq_path ? config->dnsmasq_path : "/usr/sbin/dnsmasq");
    const char *user = config->dnsmasq_user;
    if (!user) {
        user = getpwnam("dnsmasq") ? "dnsmasq" : "nobody";
    }
    net->dnsmasq_user = xstrdup(user);
    net->networks = map_create(NULL);
    net->subnets = map_create(NULL);
    net->ports = map_create(NULL);
    net->callers = map_create(NULL);
    remote_open(net);
    endpoint_open(net);
    net->options = map_create(free);
    gateway_open(net);
    uplink_open(net);
    net->aside_fd = -1;
    net->found_count = dnsmasq_scan(&net->found);
    AUTO(free) char *folder = xasprintf("%s/net", net->run_dir);
    if (!dnsmasq_make_dir(net->run_dir, err) || !dnsmasq_make_dir(folder, err)) {
        net_close(net);
        return NULL;
    }
    return net;
}

void
net_close(struct net *net)
{
    if (!net) {
        return;
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        port_free(value);
    }
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        subnet_free(value);
    }
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        network_free(value);
    }
    gateway_close(net);
    uplink_close(net);
    passthrough_close(net);
    links_close(net->underlay);
    remote_close(net);
    endpoint_close(net);
    map_destroy(net->options);
    map_destroy(net->callers);
    map_destroy(net->ports);
    map_destroy(net->subnets);
    map_destroy(net->networks);
    free(net->found);
    free(net->cloud_id);
    free(net->run_dir);
    free(net->dnsmasq_path);
    free(net->dnsmasq_user);
    free(net);
}

void
net_watch(struct net *net, const struct net_watcher *watcher)
{
    net->watcher = watcher ? *watcher : (struct net_watcher){0};
    if (!watcher) {
        return;
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        watcher->network_up(watcher->ctx, id);
    }
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        watcher->port_up(watcher->ctx, &((struct port *)value)->info);
    }
}

/* ---- networks ----------------------------------------------------------------------
 */

char *
network_dir(const struct net *net, const char *ns_name)
{
    return xasprintf("%s/net/%s", net->run_dir, strrchr(ns_name, '-') + 1);
}

void
network_free(struct network *network)
{
    dnsmasq_close(network->dns);
    links_close(network->links);
    elems_close(network->elems);
    policy_destroy(network->policy);
    untracked_free(network->cuts);
    map_destroy(network->gone);
    flowlog_close(network->flowlog);
    map_destroy(network->numbers);
    if (network->ns_fd >= 0) {
        close(network->ns_fd);
    }
    free(network->id);
    free(network->domain);
    free(network->public_domain);
    free(network);
}

/* A dnsmasq that ran in the namespace before this agent; taken once. */
static pid_t
take_found(struct net *net, int ns_fd)
{
    struct stat st;
    if (fstat(ns_fd, &st) < 0) {
        return 0;
    }
    pid_t pid = 0;
    for (size_t i = 0; i < net->found_count; i++) {
        if (net->found[i].ns != st.st_ino || net->found[i].pid == 0) {
            continue;
        }
        if (pid > 0) {
            dnsmasq_kill(net->found[i].pid); /* One is enough. */
        } else {
            pid = net->found[i].pid;
        }
        net->found[i].pid = 0;
    }
    return pid;
}

static bool
network_make(struct net *net, struct network *network, struct err *err)
{
    addr_ns_name(net->cloud_id, network->id, network->ns_name);
    if (!netns_make(network->ns_name, &network->ns_fd, err) ||
        !setup_namespace(network->ns_fd, &network->links, &network->elems, err)) {
        return false;
    }
    AUTO(free) char *dir = network_dir(net, network->ns_name);
    struct dnsmasq_config config = {
        .loop = net->config.loop,
        .path = net->dnsmasq_path,
        .user = net->dnsmasq_user,
        .dir = dir,
        .ns_fd = network->ns_fd,
        .found = take_found(net, network->ns_fd),
    };
    network->dns = dnsmasq_open(&config, err);
    return network->dns != NULL;
}

/* What never leaves by a gateway, be there a subnet for it or not; whether it changed. */
static bool
network_cidrs(struct network *network, const struct link_network *want)
{
    struct addr_block cidrs[NETWORK_CIDRS_MAX] = {0};
    size_t count = 0;
    for (size_t i = 0; i < want->cidrs.count + want->cidrs6.count; i++) {
        const char *text = i < want->cidrs.count
                               ? want->cidrs.items[i]
                               : want->cidrs6.items[i - want->cidrs.count];
        if (count < NETWORK_CIDRS_MAX && addr_parse_block(text, &cidrs[count])) {
            count++;
        }
    }
    bool same = count == network->cidr_count &&
                memcmp(cidrs, network->cidrs, sizeof cidrs) == 0;
    memcpy(network->cidrs, cidrs, sizeof cidrs);
    network->cidr_count = count;
    network->routes_dirty = network->routes_dirty || !same;
    return !same;
}

/* Whether they changed. What cannot be a domain is left out. */
static bool
network_domains(struct network *network, const struct link_network *want)
{
    char list[DNSMASQ_DOMAINS_MAX][192] = {0};
    size_t count = 0;
    for (size_t i = 0; i < want->own_domains.count && count < DNSMASQ_DOMAINS_MAX;
         i++) {
        if (addr_name_ok(want->own_domains.items[i], 190)) {
            (void)snprintf(list[count++], sizeof list[0], "%s",
                           want->own_domains.items[i]);
        }
    }
    bool same = count == network->own_domain_count &&
                memcmp(list, network->own_domains, sizeof list) == 0;
    memcpy(network->own_domains, list, sizeof list);
    network->own_domain_count = count;
    return !same;
}

/* Whether what its guests are told has changed. */
static bool
network_settings(struct network *network, const struct link_network *want)
{
    const char *options =
        addr_id_ok(want->dhcp_options_id) ? want->dhcp_options_id : "";
    const char *domain = want->domain ? want->domain : "";
    const char *public_domain = want->public_domain ? want->public_domain : "";
    bool domains = network_domains(network, want);
    bool same = !domains && network->domain && str_eq(network->domain, domain) &&
                str_eq(network->public_domain, public_domain) &&
                str_eq(network->options_id, options) &&
                network->dns_off == want->dns_off &&
                network->names_off == want->names_off;
    free(network->domain);
    free(network->public_domain);
    network->domain = xstrdup(domain);
    network->public_domain = xstrdup(public_domain);
    (void)snprintf(network->options_id, sizeof network->options_id, "%.47s", options);
    network->dns_off = want->dns_off;
    network->names_off = want->names_off;
    return !same;
}

bool
net_want_network(struct net *net, const struct link_network *want, struct err *err)
{
    if (!addr_id_ok(want->id)) {
        return err_set(err, ERR_INVALID, "network: not an id");
    }
    if ((!str_empty(want->domain) && !addr_name_ok(want->domain, 190)) ||
        (!str_empty(want->public_domain) && !addr_name_ok(want->public_domain, 170))) {
        return err_set(err, ERR_INVALID, "network %s: not a domain", want->id);
    }
    struct network *network = map_get(net->networks, want->id);
    if (network) {
        bool moved = network_cidrs(network, want);
        if (network_settings(network, want) || moved) {
            network_serve(net, network);
        }
        return true;
    }
    network = xcalloc(1, sizeof *network);
    network->id = xstrdup(want->id);
    network->ns_fd = -1;
    network->policy = policy_create();
    network->numbers = map_create(NULL);
    if (!network_make(net, network, err)) {
        network_free(network);
        return err_wrap(err, "network %s", want->id);
    }
    network->elems_held = net->held;
    if (net->held) {
        elems_hold(network->elems);
    }
    map_put(net->networks, network->id, network);
    (void)network_cidrs(network, want);
    (void)network_settings(network, want);
    network_serve(net, network);
    if (net->watcher.network_up) {
        net->watcher.network_up(net->watcher.ctx, network->id);
    }
    return true;
}

bool
network_has_ports(const struct net *net, const struct network *network)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        if (((struct port *)value)->subnet->network == network) {
            return true;
        }
    }
    return false;
}

bool
net_drop_network(struct net *net, const char *id, struct err *err)
{
    if (!addr_id_ok(id)) {
        return err_set(err, ERR_INVALID, "network: not an id");
    }
    struct network *network = map_get(net->networks, id);
    if (network && network_has_ports(net, network)) {
        return err_set(err, ERR_BUSY, "network %s still has ports", id);
    }
    if (network && net->watcher.network_down) {
        net->watcher.network_down(net->watcher.ctx, id);
    }
    const char *subnet_id;
    void *value;
    for (size_t it = 0; network && map_next(net->subnets, &it, &subnet_id, &value);) {
        struct subnet *subnet = value;
        if (subnet->network == network) {
            map_del(net->subnets, subnet->id);
            subnet_free(subnet);
        }
    }
    char ns_name[ADDR_NS_LEN];
    addr_ns_name(net->cloud_id, id, ns_name);
    if (network) {
        map_del(net->networks, id);
        dnsmasq_kill_in(network->ns_fd); /* Its namespace may have lost its name. */
        network_free(network);
    }
    return sweep_namespace(net, ns_name, err);
}

/* ---- subnets -----------------------------------------------------------------------
 */

void
subnet_free(struct subnet *subnet)
{
    free(subnet->id);
    free(subnet);
}

/* Blocks that mean something else to every host. */
static bool
cidr_is_reserved(const struct cidr4 *cidr)
{
    uint32_t first = cidr->base >> 24;
    return first == 0 || first == 127 || first >= 224 || cidr->base >> 16 == 0xa9fe;
}

void
subnet_elems(const struct subnet *subnet, struct elem out[SUBNET_ELEMS])
{
    static const uint8_t families[] = {NFPROTO_BRIDGE, NFPROTO_INET};
    static const char *const acls[] = {"acl_in", "acl_out"};
    for (int i = 0; i < 2; i++) {
        out[i] = elem_in(families[i], "resolvers");
        elem_key_ipv4(&out[i], dnsmasq_resolver(&subnet->cidr));
        out[2 + i] = elem_in(NFPROTO_INET, acls[i]);
        elem_key_link(&out[2 + i], subnet->bridge);
        elem_to_chain(&out[2 + i], subnet->acl_chains[i], true);
    }
}

static uint32_t
subnet_vni(const struct link_subnet *want)
{
    return want->vni > 0 && want->vni < 1 << 24 ? (uint32_t)want->vni : 0;
}

static void
subnet_table(struct subnet *subnet, const struct link_subnet *want)
{
    const char *id = addr_id_ok(want->route_table_id) ? want->route_table_id : "";
    (void)snprintf(subnet->route_table, sizeof subnet->route_table, "%.47s", id);
    subnet->network->routes_dirty = true;
}

/* Which chains judge what crosses its edge. */
static void
subnet_acl(struct subnet *subnet, const struct link_subnet *want)
{
    for (int out = 0; out < 2; out++) {
        if (!str_empty(want->acl_id) && addr_id_ok(want->acl_id)) {
            policy_acl_chain(subnet->network->policy, want->acl_id, out,
                             subnet->acl_chains[out]);
        } else {
            (void)snprintf(subnet->acl_chains[out], ELEM_CHAIN_MAX, "%s",
                           want->acl_off ? "open" : "nothing");
        }
    }
}

static bool
subnet_ipv6(const struct net *net, const struct subnet *subnet, struct err *err)
{
    if (subnet->cidr6.prefix == 0) {
        return true;
    }
    struct in6_addr router = subnet->cidr6.ipv6, local;
    uint8_t mac[6];
    router.s6_addr[15] |= 1;
    addr_router_mac(net->cloud_id, subnet->id, mac);
    /* The kernel gives a link-local address only once a tap is up, and dnsmasq answers
     * solicitations only from one. */
    addr_link_local(mac, &local);
    return setup_ipv6(subnet->network->ns_fd, subnet->bridge, err) &&
           links_address6(subnet->network->links, subnet->bridge_index, &local, 64,
                          err) &&
           links_address6(subnet->network->links, subnet->bridge_index, &router,
                          subnet->cidr6.prefix, err);
}

static bool
subnet_make(struct net *net, struct subnet *subnet, struct err *err)
{
    struct network *network = subnet->network;
    uint8_t mac[6];
    addr_router_mac(net->cloud_id, subnet->id, mac);
    addr_link_name(net->cloud_id, RULES_BRIDGE, subnet->id, subnet->bridge);
    uint32_t resolver = dnsmasq_resolver(&subnet->cidr);
    struct elem elems[SUBNET_ELEMS];
    subnet_elems(subnet, elems);
    return elems_add(network->elems, elems, SUBNET_ELEMS, err) &&
           links_bridge(network->links, subnet->bridge, mac, &subnet->bridge_index,
                        err) &&
           links_address(network->links, subnet->bridge_index,
                         dnsmasq_router(&subnet->cidr), subnet->cidr.prefix, err) &&
           links_address(network->links, subnet->bridge_index, resolver, 32, err) &&
           subnet_ipv6(net, subnet, err);
}

bool
network_flush(struct net *net, struct network *network, struct err *err)
{
    return network->elems_held ||
           (policy_flush(network->policy, network->ns_fd, network->elems, err) &&
            untracked_flush(net, network, err) && gateway_flush(net, network, err) &&
            passthrough_refresh_all(net, network, err));
}

/* Its addresses stay; its ACL may change, and IPv6 may come. */
static bool
subnet_change(struct net *net, struct subnet *subnet, const struct link_subnet *want,
              const struct cidr4 *cidr, const struct addr_block *cidr6, struct err *err)
{
    bool same = subnet->cidr.base == cidr->base &&
                subnet->cidr.prefix == cidr->prefix &&
                str_eq(subnet->network->id, want->network_id) &&
                (subnet->cidr6.prefix == 0 ||
                 memcmp(&subnet->cidr6, cidr6, sizeof *cidr6) == 0);
    if (!same) {
        return err_set(err, ERR_INVALID, "subnet %s cannot change", want->id);
    }
    subnet->cidr6 = *cidr6;
    subnet_acl(subnet, want);
    if (!network_flush(net, subnet->network, err) || !subnet_make(net, subnet, err) ||
        !endpoint_acls(net, subnet, err)) {
        return err_wrap(err, "subnet %s", want->id);
    }
    subnet_table(subnet, want);
    subnet->vni = subnet_vni(want);
    network_serve(net, subnet->network);
    return remote_subnet(net, subnet, err) && network_flush(net, subnet->network, err);
}

bool
net_want_subnet(struct net *net, const struct link_subnet *want, struct err *err)
{
    struct cidr4 cidr;
    struct addr_block cidr6 = {0};
    if (!addr_id_ok(want->id)) {
        return err_set(err, ERR_INVALID, "subnet: not an id");
    }
    if (!addr_parse_cidr4(want->cidr, &cidr) || cidr.prefix < SUBNET_PREFIX_MIN ||
        cidr.prefix > SUBNET_PREFIX_MAX || cidr_is_reserved(&cidr)) {
        return err_set(err, ERR_INVALID, "subnet %s: not a block of addresses",
                       want->id);
    }
    struct subnet *subnet = map_get(net->subnets, want->id);
    if (!str_empty(want->cidr6) &&
        (!addr_parse_block(want->cidr6, &cidr6) || !cidr6.is6 || cidr6.prefix < 44 ||
         cidr6.prefix > 64)) {
        return err_set(err, ERR_INVALID, "subnet %s: not a block of IPv6", want->id);
    }
    if (subnet) {
        return subnet_change(net, subnet, want, &cidr, &cidr6, err);
    }
    struct network *network =
        want->network_id ? map_get(net->networks, want->network_id) : NULL;
    if (!network) {
        return err_set(err, ERR_NOT_FOUND, "subnet %s: its network is not here",
                       want->id);
    }
    subnet = xcalloc(1, sizeof *subnet);
    subnet->id = xstrdup(want->id);
    subnet->network = network;
    subnet->cidr = cidr;
    subnet->cidr6 = cidr6;
    subnet_acl(subnet, want);
    if (!network_flush(net, network, err) || !subnet_make(net, subnet, err)) {
        subnet_free(subnet);
        return err_wrap(err, "subnet %s", want->id);
    }
    map_put(net->subnets, subnet->id, subnet);
    subnet_table(subnet, want);
    subnet->vni = subnet_vni(want);
    network_serve(net, network);
    return remote_subnet(net, subnet, err) && network_flush(net, network, err);
}

static bool
subnet_has_ports(const struct net *net, const struct subnet *subnet)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        if (((struct port *)value)->subnet == subnet) {
            return true;
        }
    }
    return false;
}

/* A subnet that this agent has not been told of: its bridge may be in any network. */
static bool
drop_unknown_subnet(struct net *net, const char *id, struct err *err)
{
    char bridge[IFNAMSIZ];
    addr_link_name(net->cloud_id, RULES_BRIDGE, id, bridge);
    const char *network_id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &network_id, &value);) {
        if (!links_drop(((struct network *)value)->links, bridge, err)) {
            return err_wrap(err, "subnet %s", id);
        }
    }
    return true;
}

bool
net_drop_subnet(struct net *net, const char *id, struct err *err)
{
    if (!addr_id_ok(id)) {
        return err_set(err, ERR_INVALID, "subnet: not an id");
    }
    struct subnet *subnet = map_get(net->subnets, id);
    if (!subnet) {
        return drop_unknown_subnet(net, id, err);
    }
    if (subnet_has_ports(net, subnet)) {
        return err_set(err, ERR_BUSY, "subnet %s still has ports", id);
    }
    struct network *network = subnet->network;
    struct elem elems[SUBNET_ELEMS];
    subnet_elems(subnet, elems);
    if ((subnet->vxlan_index > 0 && !links_drop(network->links, subnet->vxlan, err)) ||
        !links_drop(network->links, subnet->bridge, err) ||
        !elems_del(network->elems, elems, SUBNET_ELEMS, err) ||
        !gateway6_drop_subnet(subnet, err)) {
        return err_wrap(err, "subnet %s", id);
    }
    map_del(net->subnets, id);
    subnet_free(subnet);
    network->routes_dirty = true;
    network_serve(net, network);
    return network_flush(net, network, err);
}
