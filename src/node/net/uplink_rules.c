/* uplink_rules.c - which addresses pass by an uplink, and the rules that say so: see uplink.h.
 *
 * IPv4: the public addresses of this node's ports and NAT gateways. IPv6: the ports' own,
 * where their subnet's routes lead to a gateway, on an uplink that has an address of
 * its own of that family. Addresses that nobody routes (fc00::/7) stay inside. */
#include "node/net/passthrough.h"
#include "node/net/uplink.h"

/* IPv4 first, rising; so that one text says one state. */
static int
by_number(const void *a, const void *b)
{
    const struct addr_block *x = a, *y = b;
    if (x->is6 != y->is6) {
        return x->is6 - y->is6;
    }
    return x->is6 ? memcmp(&x->ipv6, &y->ipv6, sizeof x->ipv6)
                  : (x->ipv4 > y->ipv4) - (x->ipv4 < y->ipv4);
}

static void
add_public(void *ctx, uint32_t ipv4)
{
    struct uplink_publics *p = ctx;
    struct addr_block one = {.ipv4 = ipv4, .prefix = 32};
    VEC_PUSH(&p->list, one);
}

static void
add_port6(const struct net *net, const struct port *port, struct uplink_publics *p)
{
    if (port->standby || passthrough_is(port) ||
        !gateway6_leads_out(gateway_table(net, port->subnet->route_table))) {
        return;
    }
    for (size_t i = 0; i < port->address6_count; i++) {
        struct addr_block one = {
            .ipv6 = port->addresses6[i], .prefix = 128, .is6 = true};
        if ((one.ipv6.s6_addr[0] & 0xfe) != 0xfc) {
            VEC_PUSH(&p->list, one);
        }
    }
}

void
uplink_publics_of(const struct net *net, const struct uplink *u,
                  struct uplink_publics *out)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        for (size_t i = 0; i < port->public_count; i++) {
            add_public(out, port->publics[i].public);
        }
        if (u->prefix6 > 0) {
            add_port6(net, port, out);
        }
    }
    gateway_each_public(net, add_public, out);
    if (out->list.count > 0) {
        qsort(out->list.items, out->list.count, sizeof *out->list.items, by_number);
    }
}

static void
put_set(const struct uplink_publics *p, bool is6, struct buf *out)
{
    const char *set = is6 ? "publics6" : "publics", *before = "{";
    char text[ADDR_BLOCK_LEN];
    for (size_t i = 0; i < p->list.count; i++) {
        const struct addr_block *one = &p->list.items[i];
        if (one->is6 != is6) {
            continue;
        }
        if (is6) {
            addr_ipv6_text(&one->ipv6, text);
        } else {
            addr_ipv4_text(one->ipv4, text);
        }
        if (*before == '{') {
            buf_printf(out, "add element inet moln %s ", set);
        }
        buf_printf(out, "%s %s", before, text);
        before = ",";
    }
    buf_puts(out, *before == ',' ? " }\n" : "");
}

/* The external namespace's rules. Between networks all may pass, as ever: each network
 * judges for itself. By the uplink nothing does but the public addresses. */
void
uplink_rules(const struct net *net, const struct uplink *u,
             const struct uplink_publics *p, struct buf *out)
{
    char leg[IFNAMSIZ];
    uplink_leg_name(net, leg);
    buf_printf(out, "table inet moln {\n"
                    "    set publics { type ipv4_addr; }\n"
                    "    set publics6 { type ipv6_addr; }\n"
                    "    chain input { type filter hook input priority 0; }\n"
                    "    chain forward { type filter hook forward priority 0; }\n"
                    "    chain nat_out { type nat hook postrouting priority 100; }\n"
                    "}\n"
                    "flush chain inet moln input\n"
                    "flush chain inet moln forward\n"
                    "flush chain inet moln nat_out\n"
                    "flush set inet moln publics\n"
                    "flush set inet moln publics6\n");
    put_set(p, false, out);
    put_set(p, true, out);
    buf_printf(out,
               "table inet moln {\n"
               "    chain input {\n"
               "        iifname \"%s\" ct state established,related accept\n"
               "        iifname \"%s\" icmp type echo-request accept\n"
               "        iifname \"%s\" ip6 hoplimit 255 icmpv6 type { "
               "nd-neighbor-solicit, nd-neighbor-advert } accept\n"
               "        iifname \"%s\" drop\n"
               "    }\n"
               "    chain forward {\n"
               "        iifname \"%s\" oifname != \"mx*\" drop\n"
               "        iifname \"%s\" ip daddr != @publics drop\n"
               "        oifname \"%s\" iifname != \"mx*\" drop\n"
               "        oifname \"%s\" ip saddr != @publics drop\n"
               "        iifname \"%s\" ip6 daddr != @publics6 drop\n"
               "        oifname \"%s\" ip6 saddr != @publics6 drop\n",
               leg, leg, leg, leg, leg, leg, leg, leg, leg, leg);
    if (u->mode == UPLINK_NAT) {
        buf_printf(out, "        iifname \"%s\" ct state new,invalid drop\n", leg);
    }
    buf_puts(out, "    }\n    chain nat_out {\n");
    if (u->mode == UPLINK_NAT) {
        buf_printf(out, "        oifname \"%s\" masquerade\n", leg);
    }
    buf_puts(out, "    }\n}\n");
}
