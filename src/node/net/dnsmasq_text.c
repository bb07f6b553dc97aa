/* dnsmasq_text.c - what dnsmasq is told: see dnsmasq.h. Pure. */
#include "node/net/dnsmasq.h"

#define LEASE_S 3600
#define TIME_SERVER "169.254.169.123"

uint32_t
dnsmasq_router(const struct cidr4 *subnet)
{
    return subnet->base + 1;
}

uint32_t
dnsmasq_resolver(const struct cidr4 *subnet)
{
    return subnet->base + 2;
}

bool
dnsmasq_servers_ok(const struct dnsmasq_servers *servers, bool of_names)
{
    for (size_t i = 0; i < servers->count; i++) {
        const char *text = servers->items[i];
        struct in6_addr ipv6;
        uint32_t ipv4;
        if (!addr_parse_ipv4(text, &ipv4) && !addr_parse_ipv6(text, &ipv6) &&
            !(of_names && str_eq(text, DNSMASQ_OWN))) {
            return false;
        }
    }
    return true;
}

/* ---- options --------------------------------------------------------------------------
 */

/* The servers of one family, each behind a comma; 'own' (NULL: none) for DNSMASQ_OWN. */
static bool
put_servers(const struct dnsmasq_servers *list, bool is6, const char *own,
            struct buf *out)
{
    bool any = false;
    for (size_t i = 0; i < list->count; i++) {
        const char *text = list->items[i];
        bool its_own = str_eq(text, DNSMASQ_OWN);
        if (its_own ? !own : (strchr(text, ':') != NULL) != is6) {
            continue;
        }
        buf_printf(out, is6 ? ",[%s]" : ",%s", its_own ? own : text);
        any = true;
    }
    return any;
}

/* One line, where there is a server to name in it. */
static void
put_option(const char *option, const struct dnsmasq_servers *list, bool is6,
           struct buf *out)
{
    AUTO(buf) struct buf servers = {0};
    if (put_servers(list, is6, NULL, &servers)) {
        buf_printf(out, "dhcp-option=%s%s\n", option, buf_str(&servers));
    }
}

/* The name servers of one subnet's guests. An option without a value is not sent; else
 * dnsmasq would name itself, at addresses where it must not answer. */
static void
put_resolvers(const struct dnsmasq_subnet *s, const struct dnsmasq_plan *plan,
              struct buf *out)
{
    const struct dnsmasq_servers *names = &plan->options.names;
    char own[ADDR_IPV4_LEN];
    addr_ipv4_text(dnsmasq_resolver(&s->cidr), own);
    buf_printf(out, "dhcp-option=tag:%s,option:dns-server", s->bridge);
    if (names->count == 0 && !plan->dns_off) {
        buf_printf(out, ",%s", own);
    } else {
        (void)put_servers(names, false, plan->dns_off ? NULL : own, out);
    }
    buf_puts(out, "\n");
}

static void
put_options(const struct dnsmasq_plan *plan, struct buf *out)
{
    const struct dnsmasq_options *o = &plan->options;
    if (o->time.count == 0) {
        buf_puts(out, "dhcp-option=option:ntp-server," TIME_SERVER "\n");
    }
    put_option("option:ntp-server", &o->time, false, out);
    put_option("option6:ntp-server", &o->time, true, out);
    put_option("option:netbios-ns", &o->netbios, false, out);
    if (o->netbios_node_type > 0) {
        buf_printf(out, "dhcp-option=option:netbios-nodetype,%d\n",
                   o->netbios_node_type);
    }
    if (!str_empty(o->domain)) {
        AUTO(free) char *list = xstrdup(o->domain);
        for (char *p = list; (p = strchr(p, ' ')) != NULL;) {
            *p = ','; /* Which DHCPv6 has for several. */
        }
        buf_printf(out,
                   "dhcp-option=option:domain-name,%s\n"
                   "dhcp-option=option6:domain-search,%s\n",
                   o->domain, list);
    }
    AUTO(buf) struct buf servers6 = {0};
    (void)put_servers(&o->names, true, NULL, &servers6);
    buf_printf(out, "dhcp-option=option6:dns-server%s\n", buf_str(&servers6));
}

/* ---- the whole ------------------------------------------------------------------------
 */

/* Every address of the VPC has its name, whichever node its port is on, both ways. */
/* What is nobody's private address: others keep no public name. */
static const struct {
    const char *first, *last;
} public_ranges[] = {
    {"1.0.0.0", "9.255.255.255"},       {"11.0.0.0", "100.63.255.255"},
    {"100.128.0.0", "126.255.255.255"}, {"128.0.0.0", "169.253.255.255"},
    {"169.255.0.0", "172.15.255.255"},  {"172.32.0.0", "192.167.255.255"},
    {"192.169.0.0", "223.255.255.255"},
};

static void
put_public_names(const struct dnsmasq_plan *plan, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(public_ranges); i++) {
        buf_printf(out, "synth-domain=%s,%s,%s,ec2-\n", plan->public_domain,
                   public_ranges[i].first, public_ranges[i].last);
    }
}

static void
put_names(const struct dnsmasq_plan *plan, struct buf *out)
{
    char base[ADDR_IPV4_LEN];
    if (str_empty(plan->domain)) {
        return;
    }
    buf_printf(out, "domain=%s\nlocal=/%s/\n", plan->domain, plan->domain);
    for (size_t i = 0; i < plan->block_count; i++) {
        addr_ipv4_text(plan->blocks[i].base, base);
        buf_printf(out, "synth-domain=%s,%s/%d,ip-\n", plan->domain, base,
                   plan->blocks[i].prefix);
    }
    for (size_t i = 0; i < plan->own_domain_count; i++) {
        buf_printf(out, "local=/%s/\n", plan->own_domains[i]);
    }
    if (!str_empty(plan->public_domain)) {
        put_public_names(plan, out);
    }
}

static void
put_subnet(const struct dnsmasq_subnet *s, const struct dnsmasq_plan *plan,
           struct buf *out)
{
    char base[ADDR_IPV4_LEN], mask[ADDR_IPV4_LEN], router[ADDR_IPV4_LEN];
    addr_ipv4_text(s->cidr.base, base);
    addr_ipv4_text(addr_mask4(s->cidr.prefix), mask);
    addr_ipv4_text(dnsmasq_router(&s->cidr), router);
    buf_printf(out, "interface=%s\n", s->bridge);
    buf_printf(out, "dhcp-range=set:%s,%s,static,%s,%d\n", s->bridge, base, mask,
               LEASE_S);
    buf_printf(out, "dhcp-option=tag:%s,option:router,%s\n", s->bridge, router);
    put_resolvers(s, plan, out);
    if (s->cidr6.prefix > 0) {
        /* Router advertisements say: ask DHCPv6 for an address. */
        char base6[ADDR_BLOCK_LEN];
        addr_ipv6_text(&s->cidr6.ipv6, base6);
        buf_printf(out, "dhcp-range=set:%s,%s,static,%d,%d\n", s->bridge, base6,
                   s->cidr6.prefix, LEASE_S);
        buf_puts(out, "enable-ra\n");
    }
}

void
dnsmasq_config_text(const struct dnsmasq_text *text, struct buf *out)
{
    buf_printf(out,
               "user=%s\n"
               "pid-file\n"
               "log-facility=/dev/null\n"
               "quiet-dhcp\n"
               "quiet-dhcp6\n"
               "quiet-ra\n"
               "bind-dynamic\n"
               "interface=lo\n"
               "no-resolv\n"
               "no-poll\n"
               "no-hosts\n"
               "no-ping\n"
               "no-negcache\n"
               "leasefile-ro\n"
               "dhcp-authoritative\n"
               "dhcp-lease-max=65536\n"
               "dhcp-ignore=tag:!known\n"
               "dhcp-ignore-names\n"
               "dhcp-hostsfile=%s/hosts\n"
               "addn-hosts=%s/names\n"
               "local-ttl=60\n",
               text->user, text->dir, text->dir);
    buf_puts(out, text->plan->dns_off ? "port=0\n" : "");
    put_names(text->plan, out);
    put_options(text->plan, out);
    for (size_t i = 0; i < text->subnet_count; i++) {
        put_subnet(&text->subnets[i], text->plan, out);
    }
    for (size_t i = 0; i < text->mtu_count; i++) { /* A host's line sets the tag. */
        buf_printf(out, "dhcp-option-force=tag:mtu%d,option:mtu,%d\n", text->mtus[i],
                   text->mtus[i]);
    }
}

/* A line for each family: a name belongs to IPv4 alone. */
void
dnsmasq_host_text(const struct dnsmasq_host *host, struct buf *out)
{
    char ip[ADDR_IPV4_LEN], ip6[ADDR_BLOCK_LEN];
    addr_ipv4_text(host->ipv4, ip);
    buf_puts(out, host->mac);
    if (host->mtu != 0 && host->mtu != 1500) {
        buf_printf(out, ",set:mtu%d", host->mtu);
    }
    buf_printf(out, ",%s,%s\n", ip, host->hostname);
    if (host->ipv6) {
        addr_ipv6_text(host->ipv6, ip6);
        buf_printf(out, "%s,[%s]\n", host->mac, ip6);
    }
}

/* ---- names ------------------------------------------------------------------------------
 */

static void
put_name4(uint32_t ipv4, const char *name, struct buf *out)
{
    char text[ADDR_IPV4_LEN];
    addr_ipv4_text(ipv4, text);
    buf_printf(out, "%s %s\n", text, name);
}

static void
put_name_lines(const struct dnsmasq_name *n, const struct dnsmasq_plan *plan,
               struct buf *out)
{
    for (size_t i = 0; i < n->ipv4_count; i++) {
        uint32_t ip = n->ipv4[i];
        if (!n->reverse && !str_empty(plan->domain)) {
            AUTO(free)
            char *own = xasprintf("ip-%u-%u-%u-%u.%s", ip >> 24, ip >> 16 & 255,
                                  ip >> 8 & 255, ip & 255, plan->domain);
            put_name4(ip, own, out);
        }
        put_name4(ip, n->name, out);
    }
    for (size_t i = 0; i < n->ipv6_count; i++) {
        char text[ADDR_BLOCK_LEN];
        addr_ipv6_text(&n->ipv6[i], text);
        buf_printf(out, "%s %s\n", text, n->name);
    }
}

/* Of an address's lines the first is what it is called. */
void
dnsmasq_names_text(const struct dnsmasq_name *const *names, size_t count,
                   const struct dnsmasq_plan *plan, struct buf *out)
{
    for (int others = 0; others < 2; others++) {
        for (size_t i = 0; i < count; i++) {
            bool known = !names[i]->public || !str_empty(plan->public_domain);
            if (known && names[i]->reverse != others) {
                put_name_lines(names[i], plan, out);
            }
        }
    }
}
