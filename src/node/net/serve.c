/* serve.c - what a network's dnsmasq serves: its subnets, its names, and its set of DHCP
 * options. See net.h. */
#include "link/records.h"
#include "node/net/net_parts.h"

/* ---- sets of DHCP options -------------------------------------------------------------
 */

/* One domain, or several between spaces. */
static bool
domains_ok(const char *text)
{
    struct dnsmasq_options o;
    AUTO(free) char *copy = xstrdup(text);
    char *rest = NULL;
    bool good = strlen(text) < sizeof o.domain;
    for (char *word = strtok_r(copy, " ", &rest); word && good;
         word = strtok_r(NULL, " ", &rest)) {
        good = addr_name_ok(word, 190);
    }
    return good;
}

static bool
read_servers(const char *const *items, size_t count, bool of_names,
             struct dnsmasq_servers *out)
{
    if (count > DNSMASQ_SERVERS_MAX) {
        return false;
    }
    for (out->count = 0; out->count < count; out->count++) {
        int len = snprintf(out->items[out->count], sizeof out->items[0], "%s",
                           items[out->count]);
        if (len < 0 || (size_t)len >= sizeof out->items[0]) {
            return false;
        }
    }
    return dnsmasq_servers_ok(out, of_names);
}

static bool
read_options(const struct link_dhcp_options *want, struct dnsmasq_options *out)
{
    bool good = addr_id_ok(want->id) &&
                (str_empty(want->domain) || domains_ok(want->domain)) &&
                read_servers(want->name_servers.items, want->name_servers.count, true,
                             &out->names) &&
                read_servers(want->ntp_servers.items, want->ntp_servers.count, false,
                             &out->time) &&
                read_servers(want->netbios_servers.items, want->netbios_servers.count,
                             false, &out->netbios) &&
                want->netbios_node_type >= 0 && want->netbios_node_type <= 255;
    if (good) {
        (void)snprintf(out->domain, sizeof out->domain, "%s",
                       want->domain ? want->domain : "");
        out->netbios_node_type = (int)want->netbios_node_type;
    }
    return good;
}

static void
serve_users(struct net *net, const char *options_id)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        struct network *network = value;
        if (str_eq(network->options_id, options_id)) {
            network_serve(net, network);
        }
    }
}

bool
serve_want_options(struct net *net, const void *record, struct err *err)
{
    const struct link_dhcp_options *want = record;
    struct dnsmasq_options options = {0};
    if (!read_options(want, &options)) {
        return err_set(err, ERR_INVALID,
                       "DHCP options %s: a domain or server cannot be",
                       addr_id_ok(want->id) ? want->id : "");
    }
    struct dnsmasq_options *kept = xmalloc(sizeof *kept);
    *kept = options;
    map_put(net->options, want->id, kept);
    serve_users(net, want->id);
    return true;
}

bool
serve_drop_options(struct net *net, int kind UNUSED, const char *id,
                   struct err *err UNUSED)
{
    map_del(net->options, id);
    serve_users(net, id);
    return true;
}

/* ---- a network ------------------------------------------------------------------------
 */

static void
add_name_block(struct dnsmasq_plan *plan, uint32_t base, int prefix)
{
    for (size_t i = 0; i < plan->block_count; i++) {
        const struct cidr4 *b = &plan->blocks[i];
        if (prefix >= b->prefix && addr_in_cidr4(base, b)) {
            return;
        }
    }
    if (plan->block_count < DNSMASQ_BLOCKS_MAX) {
        plan->blocks[plan->block_count++] =
            (struct cidr4){.base = base, .prefix = prefix};
    }
}

/* Names for the VPC's blocks; for its subnets' where nobody said those. */
static void
plan_names(const struct network *network, const struct dnsmasq_subnet *subnets,
           size_t count, struct dnsmasq_plan *plan)
{
    if (network->names_off) {
        return;
    }
    (void)snprintf(plan->domain, sizeof plan->domain, "%s", network->domain);
    memcpy(plan->own_domains, network->own_domains, sizeof plan->own_domains);
    plan->own_domain_count = network->own_domain_count;
    (void)snprintf(plan->public_domain, sizeof plan->public_domain, "%s",
                   network->public_domain);
    for (size_t i = 0; i < network->cidr_count; i++) {
        if (!network->cidrs[i].is6) {
            add_name_block(plan, network->cidrs[i].ipv4, network->cidrs[i].prefix);
        }
    }
    for (size_t i = 0; i < count; i++) {
        add_name_block(plan, subnets[i].cidr.base, subnets[i].cidr.prefix);
    }
}

void
network_serve(struct net *net, struct network *network)
{
    VEC(struct dnsmasq_subnet) list = {0};
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        const struct subnet *subnet = value;
        if (subnet->network == network) {
            struct dnsmasq_subnet one = {.cidr = subnet->cidr, .cidr6 = subnet->cidr6};
            memcpy(one.bridge, subnet->bridge, sizeof one.bridge);
            VEC_PUSH(&list, one);
        }
    }
    struct dnsmasq_plan plan = {.dns_off = network->dns_off};
    const struct dnsmasq_options *options = map_get(net->options, network->options_id);
    if (options) {
        plan.options = *options;
    }
    if (str_empty(plan.options.domain)) {
        (void)snprintf(plan.options.domain, sizeof plan.options.domain, "%s",
                       network->domain);
    }
    plan_names(network, list.items, list.count, &plan);
    dnsmasq_serve(network->dns, &plan, list.items, list.count);
    VEC_FREE(&list);
}
