/* dnsmasq_text.c - what dnsmasq is told: see dnsmasq.h. Pure. */
#include "node/net/dnsmasq.h"

#define LEASE_S 3600
#define NTP_SERVER "169.254.169.123"

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

static void
put_subnet(const struct dnsmasq_subnet *s, struct buf *out)
{
    char base[ADDR_IPV4_LEN], mask[ADDR_IPV4_LEN], router[ADDR_IPV4_LEN],
        resolver[ADDR_IPV4_LEN];
    addr_ipv4_text(s->cidr.base, base);
    addr_ipv4_text(addr_mask4(s->cidr.prefix), mask);
    addr_ipv4_text(dnsmasq_router(&s->cidr), router);
    addr_ipv4_text(dnsmasq_resolver(&s->cidr), resolver);
    buf_printf(out, "interface=%s\n", s->bridge);
    buf_printf(out, "dhcp-range=set:%s,%s,static,%s,%d\n", s->bridge, base, mask,
               LEASE_S);
    buf_printf(out, "dhcp-option=tag:%s,option:router,%s\n", s->bridge, router);
    buf_printf(out, "dhcp-option=tag:%s,option:dns-server,%s\n", s->bridge, resolver);
    if (s->cidr6.prefix >
        0) { /* Router advertisements say: ask DHCPv6 for an address. */
        char base6[ADDR_BLOCK_LEN];
        addr_ipv6_text(&s->cidr6.ipv6, base6);
        buf_printf(out, "dhcp-range=set:%s,%s,static,%d,%d\n", s->bridge, base6,
                   s->cidr6.prefix, LEASE_S);
        buf_puts(out, "enable-ra\n");
    }
}

void
dnsmasq_config_text(const char *dir, const char *user, const char *domain,
                    const struct dnsmasq_subnet *subnets, size_t count, const int *mtus,
                    size_t mtu_count, struct buf *out)
{
    buf_printf(out,
               "user=%s\n"
               "pid-file\n"
               "log-facility=/dev/null\n"
               "quiet-dhcp\n"
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
               "dhcp-hostsdir=%s/dhcp\n"
               "hostsdir=%s/dns\n"
               "local-ttl=60\n"
               "dhcp-option=option:ntp-server," NTP_SERVER "\n",
               user, dir, dir);
    if (!str_empty(domain)) {
        buf_printf(out, "domain=%s\nlocal=/%s/\n", domain, domain);
    }
    for (size_t i = 0; i < count; i++) {
        put_subnet(&subnets[i], out);
    }
    for (size_t i = 0; i < mtu_count; i++) { /* A host's file sets the tag. */
        buf_printf(out, "dhcp-option-force=tag:mtu%d,option:mtu,%d\n", mtus[i],
                   mtus[i]);
    }
}

void
dnsmasq_host_text(const struct dnsmasq_host *host, const char *domain,
                  struct buf *out_dhcp, struct buf *out_dns)
{
    char ip[ADDR_IPV4_LEN], ip6[ADDR_BLOCK_LEN];
    addr_ipv4_text(host->ipv4, ip);
    buf_puts(out_dhcp, host->mac);
    if (host->mtu != 0 && host->mtu != 1500) {
        buf_printf(out_dhcp, ",set:mtu%d", host->mtu);
    }
    if (host->ipv6) {
        addr_ipv6_text(host->ipv6, ip6);
        buf_printf(out_dhcp, ",[%s]", ip6);
    }
    buf_printf(out_dhcp, ",%s,%s\n", ip, host->hostname);
    if (str_empty(domain)) {
        buf_printf(out_dns, "%s %s\n", ip, host->hostname);
    } else {
        buf_printf(out_dns, "%s %s.%s %s\n", ip, host->hostname, domain,
                   host->hostname);
    }
    if (host->ipv6 && !str_empty(domain)) {
        buf_printf(out_dns, "%s %s.%s %s\n", ip6, host->hostname, domain,
                   host->hostname);
    } else if (host->ipv6) {
        buf_printf(out_dns, "%s %s\n", ip6, host->hostname);
    }
}
