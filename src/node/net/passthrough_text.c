/* passthrough_text.c - a card's rules in nftables' language: see passthrough.h. Pure.
 *
 * The netdev family's hooks stand before connection tracking. What groups have let through is
 * remembered instead: f4 and f6 hold (peer, own, protocol, peer's port, own port), e4 and e6
 * echo requests, o4 and o6 protocols without ports. A packet of a flow that is there passes
 * and keeps it for 350 s more. Fragments but the first have no ports, and do not pass. */
#include "node/net/passthrough.h"

/* When so many of one card and kind are there, no new one passes. */
#define FLOW "size 65535; flags dynamic,timeout; timeout 350s; }"
#define PORTS "meta l4proto { tcp, udp, sctp }"
#define NO_PORTS "meta l4proto != { tcp, udp, sctp, icmp, ipv6-icmp }"

void
passthrough_table(const struct port *port, char out[PASSTHROUGH_TABLE_LEN])
{
    (void)snprintf(out, PASSTHROUGH_TABLE_LEN, "netdev moln_%s", port->tap);
}

/* ---- lines ---------------------------------------------------------------------------- */

/* 'lines' go into the chain, each up to its newline; '%' stands for the port's MAC. */
static void
put_rules(const char *table, const char *chain, const char *lines, const char *mac,
          struct buf *out)
{
    for (const char *at = lines; *at; at++) {
        if (at == lines || at[-1] == '\n') {
            buf_printf(out, "add rule %s %s ", table, chain);
        }
        if (*at == '%') {
            buf_puts(out, mac);
        } else {
            buf_printf(out, "%c", *at);
        }
    }
}

static void
put_addresses4(const struct port *port, struct buf *out)
{
    char text[ADDR_IPV4_LEN];
    for (size_t i = 0; i < port->address_count; i++) {
        addr_ipv4_text(port->addresses[i], text);
        buf_printf(out, "%s%s", i > 0 ? ", " : "", text);
    }
}

/* With the link-local one. */
static void
put_addresses6(const struct port *port, bool as_numbers, struct buf *out)
{
    char text[ADDR_BLOCK_LEN];
    struct in6_addr local;
    addr_link_local(port->mac, &local);
    for (size_t i = 0; i <= port->address6_count; i++) {
        const struct in6_addr *ip = i == 0 ? &local : &port->addresses6[i - 1];
        buf_puts(out, i > 0 ? ", " : "");
        if (!as_numbers) {
            addr_ipv6_text(ip, text);
            buf_puts(out, text);
            continue;
        }
        buf_puts(out, "0x");
        for (size_t b = 0; b < sizeof ip->s6_addr; b++) {
            buf_printf(out, "%02x", ip->s6_addr[b]);
        }
    }
}

/* ---- what there is -------------------------------------------------------------------- */

static void
put_frame(const struct port *port, const char *table, struct buf *out)
{
    static const char *const chains[] = {
        "passed", "passed_out", "passed_in", "judge_out", "judge_in",   "from_arp",
        "from4",  "from6",      "to4",       "to6",       "from_guest", "to_guest"};
    buf_printf(out, "add table %s\n", table);
    buf_printf(out,
               "add set %s f4 { typeof ip saddr . ip daddr . meta l4proto . th sport . "
               "th dport; " FLOW "\n"
               "add set %s f6 { typeof ip6 saddr . ip6 daddr . meta l4proto . th sport "
               ". th dport; " FLOW "\n"
               "add set %s e4 { typeof ip saddr . ip daddr . icmp id; " FLOW "\n"
               "add set %s e6 { typeof ip6 saddr . ip6 daddr . icmpv6 id; " FLOW "\n"
               "add set %s o4 { typeof ip saddr . ip daddr . meta l4proto; " FLOW "\n"
               "add set %s o6 { typeof ip6 saddr . ip6 daddr . meta l4proto; " FLOW
               "\n",
               table, table, table, table, table, table);
    buf_printf(out,
               "add chain %s from_guest { type filter hook egress device \"%s\" "
               "priority 0; policy drop; }\n"
               "add chain %s to_guest { type filter hook ingress device \"%s\" "
               "priority 0; policy drop; }\n",
               table, port->tap, table, port->tap);
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        buf_printf(out, "add chain %s %s\nflush chain %s %s\n", table, chains[i], table,
                   chains[i]);
    }
}

/* Flows as the guest's side of them is sent, and as it is heard. */
static void
put_flows(const char *table, const char *mac, struct buf *out)
{
    put_rules(table, "passed", "ether saddr % goto passed_out\ngoto passed_in\n", mac,
              out);
    put_rules(table, "passed_out",
              PORTS
              " update @f4 { ip daddr . ip saddr . meta l4proto . th dport . th "
              "sport } accept\n" PORTS
              " update @f6 { ip6 daddr . ip6 saddr . meta l4proto . th dport . "
              "th sport } accept\n"
              "icmp type echo-request update @e4 { ip daddr . ip saddr . icmp id "
              "} accept\n"
              "icmpv6 type echo-request update @e6 { ip6 daddr . ip6 saddr . "
              "icmpv6 id } accept\n"
              "meta l4proto { icmp, ipv6-icmp } accept\n" NO_PORTS
              " update @o4 { ip daddr . ip saddr . meta l4proto } accept\n" NO_PORTS
              " update @o6 { ip6 daddr . ip6 saddr . meta l4proto } accept\n",
              mac, out);
    put_rules(table, "passed_in",
              PORTS
              " update @f4 { ip saddr . ip daddr . meta l4proto . th sport . th "
              "dport } accept\n" PORTS
              " update @f6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . "
              "th dport } accept\n"
              "icmp type echo-request update @e4 { ip saddr . ip daddr . icmp id "
              "} accept\n"
              "icmpv6 type echo-request update @e6 { ip6 saddr . ip6 daddr . "
              "icmpv6 id } accept\n"
              "meta l4proto { icmp, ipv6-icmp } accept\n" NO_PORTS
              " update @o4 { ip saddr . ip daddr . meta l4proto } accept\n" NO_PORTS
              " update @o6 { ip6 saddr . ip6 daddr . meta l4proto } accept\n",
              mac, out);
}

/* ---- what a guest says ---------------------------------------------------------------- */

static void
put_from(const struct port *port, const char *table, const char *mac, struct buf *out)
{
    put_rules(table, "from_guest",
              "ether saddr != % drop\n"
              "ether type arp goto from_arp\n"
              "ether type ip goto from4\n"
              "ether type ip6 goto from6\n",
              mac, out);
    buf_printf(out,
               "add rule %s from_arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
               "arp operation { request, reply } arp saddr ether %s arp saddr ip { ",
               table, mac);
    put_addresses4(port, out);
    buf_printf(out,
               " } accept\n"
               "add rule %s from_arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
               "arp operation request arp saddr ether %s arp saddr ip 0.0.0.0 accept\n",
               table, mac);
    put_rules(table, "from4",
              "udp sport 67 drop\n"
              "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 "
              "accept\n"
              "ip saddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } drop\n",
              mac, out);
    if (!port->borrow) {
        buf_printf(out, "add rule %s from4 ip saddr != { ", table);
        put_addresses4(port, out);
        buf_puts(out, " } drop\n");
    }
    put_rules(table, "from4",
              PORTS " ip daddr . ip saddr . meta l4proto . th dport . th sport @f4 "
                    "goto passed_out\n"
                    "icmp type echo-reply ip daddr . ip saddr . icmp id @e4 accept\n"
                    "icmp type { destination-unreachable, time-exceeded, "
                    "parameter-problem } accept\n" NO_PORTS
                    " ip daddr . ip saddr . meta l4proto @o4 goto passed_out\n"
                    "goto judge_out\n",
              mac, out);
}

static void
put_from6(const struct port *port, const char *table, const char *mac, struct buf *out)
{
    if (port->address6_count == 0) {
        return; /* Nothing of it passes. */
    }
    put_rules(table, "from6",
              "icmpv6 type { nd-router-advert, nd-redirect } drop\n"
              "udp sport 547 drop\n"
              "ip6 saddr :: ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, "
              "nd-router-solicit } accept\n"
              "ip6 saddr :: icmpv6 type mld2-listener-report accept\n",
              mac, out);
    buf_printf(out,
               "add rule %s from6 ip6 hoplimit 255 icmpv6 type nd-neighbor-advert "
               "@th,64,128 != { ",
               table);
    put_addresses6(port, true, out);
    buf_printf(out, " } drop\nadd rule %s from6 ip6 saddr ", table);
    buf_puts(out, port->borrow ? "{ ::/127, ::ffff:0:0/96, ff00::/8" : "!= { ");
    if (!port->borrow) {
        put_addresses6(port, false, out);
    }
    buf_puts(out, " } drop\n");
    put_rules(table, "from6",
              "ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-router-solicit, "
              "nd-neighbor-advert } accept\n"
              "icmpv6 type mld2-listener-report accept\n"
              "ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept\n" PORTS
              " ip6 daddr . ip6 saddr . meta l4proto . th dport . th sport @f6 "
              "goto passed_out\n"
              "icmpv6 type echo-reply ip6 daddr . ip6 saddr . icmpv6 id @e6 accept\n"
              "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, "
              "parameter-problem } accept\n" NO_PORTS
              " ip6 daddr . ip6 saddr . meta l4proto @o6 goto passed_out\n"
              "goto judge_out\n",
              mac, out);
}

/* ---- what it hears -------------------------------------------------------------------- */

static void
put_to(const struct port *port, const char *table, const char *mac, struct buf *out)
{
    put_rules(table, "to_guest",
              "ether saddr % drop\n"
              "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != % "
              "drop\n"
              "ether type arp accept\n"
              "ether type ip goto to4\n"
              "ether type ip6 goto to6\n",
              mac, out);
    put_rules(table, "to4", "udp sport 67 udp dport 68 accept\n", mac, out);
    if (!port->borrow) {
        buf_printf(out, "add rule %s to4 ip daddr != { ", table);
        put_addresses4(port, out);
        buf_puts(out, " } drop\n");
    }
    put_rules(table, "to4",
              PORTS " ip saddr . ip daddr . meta l4proto . th sport . th dport @f4 "
                    "goto passed_in\n"
                    "icmp type echo-reply ip saddr . ip daddr . icmp id @e4 accept\n"
                    "icmp type { destination-unreachable, time-exceeded, "
                    "parameter-problem } accept\n" NO_PORTS
                    " ip saddr . ip daddr . meta l4proto @o4 goto passed_in\n"
                    "goto judge_in\n",
              mac, out);
}

static void
put_to6(const struct port *port, const char *table, const char *mac, struct buf *out)
{
    if (port->address6_count == 0) {
        return;
    }
    put_rules(table, "to6",
              "ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, "
              "nd-router-advert } accept\n"
              "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept\n",
              mac, out);
    if (!port->borrow) {
        buf_printf(out, "add rule %s to6 ip6 daddr != { ", table);
        put_addresses6(port, false, out);
        buf_puts(out, " } drop\n");
    }
    put_rules(table, "to6",
              PORTS " ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport @f6 "
                    "goto passed_in\n"
                    "icmpv6 type echo-reply ip6 saddr . ip6 daddr . icmpv6 id @e6 "
                    "accept\n"
                    "icmpv6 type { destination-unreachable, packet-too-big, "
                    "time-exceeded, parameter-problem } accept\n" NO_PORTS
                    " ip6 saddr . ip6 daddr . meta l4proto @o6 goto passed_in\n"
                    "goto judge_in\n",
              mac, out);
}

/* ---- all of it ------------------------------------------------------------------------ */

/* Chains of groups, and jumps to them; what none lets through ends at the policy. */
static void
put_groups(const struct port *port, const char *table, struct buf *out)
{
    char name[ADDR_RULE_LEN];
    policy_put_groups(port->subnet->network->policy, table,
                      (const char *const *)port->group_ids, port->group_count, out);
    for (size_t i = 0; i < port->group_count; i++) {
        addr_rule_name("g", port->group_ids[i], "_out", name);
        buf_printf(out, "add rule %s judge_out jump %s\n", table, name);
        addr_rule_name("g", port->group_ids[i], "_in", name);
        buf_printf(out, "add rule %s judge_in jump %s\n", table, name);
    }
}

void
passthrough_text(const struct port *port, bool filtered, struct buf *out)
{
    char table[PASSTHROUGH_TABLE_LEN];
    const char *mac = port->info.mac;
    passthrough_table(port, table);
    put_frame(port, table, out);
    if (!filtered) {
        put_rules(table, "from_guest", "ether saddr != % drop\naccept\n", mac, out);
        put_rules(table, "to_guest", "accept\n", mac, out);
        return;
    }
    put_flows(table, mac, out);
    put_from(port, table, mac, out);
    put_from6(port, table, mac, out);
    put_to(port, table, mac, out);
    put_to6(port, table, mac, out);
    put_groups(port, table, out);
}
