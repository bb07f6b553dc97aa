/* rules.c - the constant ruleset, and its way into the kernel: see rules.h. */
#include "node/net/rules.h"
#include "base/buf.h"
#include "node/net/elems.h"
#include "node/net/netns.h"
#include <nftables/libnftables.h>

/* Sets of the bridge family, keyed by tap: macs (which MAC it may send from), from4 (its
 * number, by its MAC and address), to4 (its number, by its address), bind6 (which address,
 * with which MAC), nd6 (which neighbour it may say it is), borrow (source check off),
 * port_src and port_dst (its number, whatever the address), resolvers (name servers).
 *
 * A frame between two ports' own IPv4 addresses is most of what there is: one look-up each
 * way says that it is one, and whose. Numbers of ports with both checks off have their
 * highest bit set (RULES_LENT), so that no look-up tells them from others. What is sent to a
 * MAC that begins as guests' do goes to no service of the router's, whose MACs begin otherwise.
 *
 * Sets of inet: owns4/6 (port and address: destination check), nexthops4/6 (bridge and next
 * hop: port), leaving_of and arriving_at (port: chain of
 * its groups), acl_out and acl_in (bridge: chain of its ACL), hops (connections that a port
 * with checks off has let through: such a port sees one connection on several ways),
 * endpoints4 (addresses behind which this node serves: their numbers),
 * endpoint_acl_in and _out (the ACLs of their subnets), endpoint_near (their own bridges),
 * endpoint_rate (who calls those), here4/6 (addresses of this node's ports), homes (next hops
 * of the NAT gateways that this node does), open6 (bridges that the outside reaches by IPv6 unasked),
 * eip_in, eip_out, eip_sources (1:1 NAT), nats (next hop of a NAT gateway: its address).
 *
 * Every frame from a tap passes: bridge prerouting (may it say so?), inet prerouting
 * 'leaving' (do its port's groups let it out?), then bridge forward (whose tap next?) or
 * the router (ACLs, next hop), and inet forward (do that port's groups let it in?).
 * Packets that connection tracking finds invalid are judged by the groups as new ones: an
 * appliance sees half of a connection, and AWS lets through what a rule allows. */
const char rules_text[] =
    "table bridge moln {\n"
    "    set macs { type ifname . ether_addr; }\n"
    "    map from4 { type ifname . ether_addr . ipv4_addr : mark; }\n"
    "    map to4 { type ifname . ipv4_addr : mark; }\n"
    "    set bind6 { type ifname . ether_addr . ipv6_addr; }\n"
    "    set nd6 { typeof iifname . @th,64,128; }\n"
    "    set borrow { type ifname; }\n"
    "    set resolvers { type ipv4_addr; }\n"
    "    map port_src { type ifname : mark; }\n"
    "    map port_dst { type ifname : mark; }\n"
    "    set service_rate { type ifname; size 65535; flags dynamic; }\n"
    "    chain prerouting { type filter hook prerouting priority -300; policy drop; }\n"
    "    chain from_arp { }\n"
    "    chain from_own4 { }\n"
    "    chain to_remote { }\n"
    "    chain from_ip4 { }\n"
    "    chain from_ip6 { }\n"
    "    chain limited { }\n"
    "    chain input { type filter hook input priority -300; policy accept; }\n"
    "    chain forward { type filter hook forward priority -10; policy drop; }\n"
    "}\n"
    "table inet moln {\n"
    "    set resolvers { type ipv4_addr; }\n"
    "    set owns4 { type mark . ipv4_addr; }\n"
    "    set owns6 { type mark . ipv6_addr; }\n"
    "    set hops { typeof ct id . meta mark; size 262144; flags dynamic,timeout; "
    "timeout 10m; }\n"
    "    map nexthops4 { type ifname . ipv4_addr : mark; }\n"
    "    map nexthops6 { type ifname . ipv6_addr : mark; }\n"
    "    set here4 { type ipv4_addr; }\n"
    "    set here6 { type ipv6_addr; }\n"
    "    map leaving_of { type mark : verdict; }\n"
    "    map arriving_at { type mark : verdict; }\n"
    "    set open6 { type ifname; }\n"
    "    map endpoints4 { type ipv4_addr : mark; }\n"
    "    set endpoint_near { type ifname . ipv4_addr; }\n"
    "    map endpoint_acl_in { type ipv4_addr : verdict; }\n"
    "    map endpoint_acl_out { type ipv4_addr : verdict; }\n"
    "    set endpoint_rate { type ipv4_addr; size 65535; flags dynamic,timeout; "
    "timeout 1m; }\n"
    "    map acl_out { type ifname : verdict; }\n"
    "    map acl_in { type ifname : verdict; }\n"
    "    set eip_sources { type ipv4_addr; }\n"
    "    map eip_in { type ipv4_addr : ipv4_addr; }\n"
    "    map eip_out { type ipv4_addr : ipv4_addr; }\n"
    "    map nats { type ipv4_addr : ipv4_addr; }\n"
    "    set homes { type ipv4_addr; }\n"
    "    ct timeout nat_tcp { protocol tcp; l3proto ip; policy = { established : 350 "
    "}; "
    "}\n"
    "    ct timeout nat_udp { protocol udp; l3proto ip; "
    "policy = { unreplied : 350, replied : 350 }; }\n"
    "    chain leaving { type filter hook prerouting priority -150; policy drop; }\n"
    "    chain input { type filter hook input priority 0; policy drop; }\n"
    "    chain forward { type filter hook forward priority 0; policy drop; }\n"
    "    chain output { type filter hook output priority 0; policy drop; }\n"
    "    chain nat_in { type nat hook prerouting priority -100; policy accept; }\n"
    "    chain nat_out { type nat hook postrouting priority 100; policy accept; }\n"
    "    chain routed { }\n"
    "    chain arriving { }\n"
    "    chain from_elsewhere { }\n"
    "    chain endpoint { }\n"
    "    chain endpoint_entry { }\n"
    "    chain endpoint_exit { }\n"
    "    chain pass { }\n"
    "    chain nat_gateway { }\n"
    "    chain refuse_log { }\n"
    "    chain refuse_acl_log { }\n"
    "    chain passed { }\n"
    "    chain refuse { }\n"
    "    chain refuse_leaving { }\n"
    "    chain refuse_entering { }\n"
    "    chain nothing { }\n"
    "    chain open { }\n"
    "}\n"
    "flush chain bridge moln prerouting\n"
    "flush chain bridge moln from_arp\n"
    "flush chain bridge moln from_own4\n"
    "flush chain bridge moln to_remote\n"
    "flush chain bridge moln from_ip4\n"
    "flush chain bridge moln from_ip6\n"
    "flush chain bridge moln limited\n"
    "flush chain bridge moln input\n"
    "flush chain bridge moln forward\n"
    "flush chain inet moln leaving\n"
    "flush chain inet moln input\n"
    "flush chain inet moln forward\n"
    "flush chain inet moln output\n"
    "flush chain inet moln nat_in\n"
    "flush chain inet moln nat_out\n"
    "flush chain inet moln routed\n"
    "flush chain inet moln arriving\n"
    "flush chain inet moln from_elsewhere\n"
    "flush chain inet moln endpoint\n"
    "flush chain inet moln endpoint_entry\n"
    "flush chain inet moln endpoint_exit\n"
    "flush chain inet moln pass\n"
    "flush chain inet moln passed\n"
    "flush chain inet moln refuse\n"
    "flush chain inet moln nat_gateway\n"
    "flush chain inet moln refuse_leaving\n"
    "flush chain inet moln refuse_entering\n"
    "flush chain inet moln nothing\n"
    "flush chain inet moln open\n"
    "table bridge moln {\n"
    "    chain prerouting {\n"
    "        iifname \"mv*\" meta mark set 1 accept\n"
    "        meta mark set 0\n"
    "        meta mark set iifname . ether saddr . ip saddr map @from4 goto from_own4\n"
    "        meta mark set iifname map @port_src\n"
    "        iifname != \"mt*\" drop\n"
    "        iifname . ether saddr != @macs drop\n"
    "        ether type arp goto from_arp\n"
    "        ether type ip goto from_ip4\n"
    "        ether type ip6 goto from_ip6\n"
    "    }\n"
    "    chain from_arp {\n"
    "        arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
    "arp operation { request, reply } "
    "meta mark set iifname . arp saddr ether . arp saddr ip map @from4 accept\n"
    "        arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
    "arp operation request "
    "iifname . arp saddr ether @macs arp saddr ip 0.0.0.0 accept\n"
    "        drop\n"
    "    }\n"
    "    chain from_own4 {\n"
    "        udp sport 67 drop\n"
    "        @ll,0,8 0x02 accept\n"
    "        ip daddr 169.254.0.0/16 goto limited\n"
    "        ip daddr @resolvers goto limited\n"
    "        accept\n"
    "    }\n"
    "    chain to_remote {\n"
    "        ether type ip6 udp dport 546-547 drop\n"
    "        iifname \"mv*\" drop\n"
    "        meta mark set 1 meta priority set " RULES_BRIDGED " accept\n"
    "    }\n"
    "    chain from_ip4 {\n"
    "        udp sport 67 drop\n"
    "        ip daddr 169.254.0.0/16 drop\n"
    "        ip daddr @resolvers drop\n"
    "        ip saddr 0.0.0.0 ip daddr 255.255.255.255 "
    "udp sport 68 udp dport 67 goto limited\n"
    "        ip saddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } drop\n"
    "        iifname @borrow accept\n"
    "        drop\n"
    "    }\n"
    "    chain limited {\n"
    "        update @service_rate { iifname limit rate over 1024/second "
    "burst 1024 packets } drop\n"
    "        accept\n"
    "    }\n"
    /* A tap's own MAC, which the kernel made up, may begin so too: nobody is there. */
    "    chain input {\n"
    "        iifname \"mt*\" @ll,0,8 0x02 drop\n"
    "    }\n"
    "    chain from_ip6 {\n"
    "        icmpv6 type { nd-router-advert, nd-redirect } drop\n"
    "        udp sport 547 drop\n"
    "        ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-router-solicit } "
    "ip6 saddr :: accept\n"
    "        ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-router-solicit } "
    "iifname . ether saddr . ip6 saddr @bind6 accept\n"
    "        ip6 hoplimit 255 icmpv6 type nd-neighbor-advert "
    "iifname . ether saddr . ip6 saddr @bind6 iifname . @th,64,128 @nd6 accept\n"
    "        icmpv6 type { nd-neighbor-solicit, nd-router-solicit, nd-neighbor-advert "
    "} "
    "drop\n"
    "        ip6 daddr ff02::1:2 udp sport 546 udp dport 547 "
    "iifname . ether saddr . ip6 saddr @bind6 goto limited\n"
    "        ip6 saddr { ::/127, ::ffff:0:0/96, fe80::/10, ff00::/8 } drop\n"
    "        ip6 daddr { fe80::/10, ff00::/8 } drop\n"
    "        iifname . ether saddr . ip6 saddr @bind6 accept\n"
    "        iifname @borrow accept\n"
    "        drop\n"
    "    }\n"
    "    chain forward {\n"
    "        ether type ip udp dport 67-68 drop\n"
    "        oifname \"mv*\" goto to_remote\n"
    "        meta mark set oifname . ip daddr map @to4 meta priority set " RULES_OWN
    " accept\n"
    "        ether type ip6 udp dport 546-547 drop\n"
    "        meta mark set oifname map @port_dst meta priority set " RULES_BRIDGED
    " accept\n"
    "    }\n"
    "}\n"
    "table inet moln {\n"
    "    chain leaving {\n"
    "        ct state established,related meta mark & " RULES_LENT_TEXT
    " == 0 ct mark & 1 == 0 accept\n"
    "        iifname != \"mb*\" goto from_elsewhere\n"
    "        meta mark 1 goto from_elsewhere\n"
    "        ip daddr 169.254.0.0/16 accept\n"
    "        ip daddr @resolvers accept\n"
    "        ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept\n"
    "        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, "
    "nd-router-solicit } accept\n"
    "        ip6 daddr ff02::1:2 udp dport 547 accept\n"
    "        ct state established,related ct id . meta mark @hops goto pass\n"
    "        ct state new ct status ! confirmed meta mark & " RULES_LENT_TEXT
    " != 0 ct mark set ct mark | 1\n"
    "        meta mark vmap @leaving_of\n"
    "    }\n"
    /* What begins in the name of a port that is here, and does not come from it: its answers
     * would pass that port's groups. What had begun at it goes on. */
    "    chain from_elsewhere {\n"
    "        ct state new ct status ! confirmed ip saddr @here4 ct mark set ct mark | "
    "1\n"
    "        ct state new ct status ! confirmed ip6 saddr @here6 ct mark set ct mark | "
    "1\n"
    "        accept\n"
    "    }\n"
    "    chain pass {\n"
    "        meta mark & " RULES_LENT_TEXT " != 0 update @hops { ct id . meta mark }\n"
    "        ct mark & 1 != 0 update @hops { ct id . meta mark }\n"
    "        accept\n"
    "    }\n"
    "    chain passed {\n"
    "        goto pass\n"
    "    }\n"
    "    chain refuse {\n"
    "        jump refuse_log\n"
    "        drop\n"
    "    }\n"
    /* By an ACL: the mark is the sender's still... */
    "    chain refuse_leaving {\n"
    "        jump refuse_acl_log\n"
    "        drop\n"
    "    }\n"
    /* ...or the receiver's already. */
    "    chain refuse_entering {\n"
    "        jump refuse_log\n"
    "        drop\n"
    "    }\n"
    "    chain open {\n"
    "        return\n"
    "    }\n"
    "    chain nothing {\n"
    "        goto refuse\n"
    "    }\n"
    "    chain input {\n"
    "        iifname { \"mb*\", \"mp*\" } tcp dport { 80, 443 } "
    "meta mark set ip daddr map @endpoints4 jump endpoint_entry\n"
    "        ct state established,related accept\n"
    "        ct state invalid drop\n"
    "        iifname { \"mb*\", \"mp*\" } tcp dport { 80, 443 } "
    "meta mark set ip daddr map @endpoints4 goto endpoint\n"
    "        iifname != \"mb*\" drop\n"
    "        udp sport 68 udp dport 67 accept\n"
    "        ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, "
    "nd-router-solicit } accept\n"
    "        ip6 daddr ff02::1:2 udp sport 546 udp dport 547 accept\n"
    "        ip daddr 169.254.169.254 tcp dport 80 accept\n"
    "        ip daddr 169.254.169.123 udp dport 123 accept\n"
    "        ip daddr 169.254.169.253 meta l4proto { tcp, udp } th dport 53 accept\n"
    "        ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept\n"
    "    }\n"
    "    chain forward {\n"
    "        meta priority " RULES_OWN " goto arriving\n"
    "        meta priority != " RULES_BRIDGED " jump routed\n"
    "        meta mark 1 accept\n"
    "        meta mark 2 accept\n"
    "        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
    "        meta mark . ip daddr @owns4 goto arriving\n"
    "        meta mark . ip6 daddr @owns6 goto arriving\n"
    "        meta mark & " RULES_LENT_TEXT " != 0 goto arriving\n"
    "    }\n"
    "    chain routed {\n"
    "        ip saddr 169.254.0.0/16 drop\n"
    "        ip daddr 169.254.0.0/16 drop\n"
    "        iifname \"mb*\" iifname vmap @acl_out\n"
    "        meta mark set 0\n"
    "        ip version 4 meta mark set oifname . rt ip nexthop map @nexthops4\n"
    "        ip6 version 6 meta mark set oifname . rt ip6 nexthop map @nexthops6\n"
    "        oifname \"mb*\" oifname vmap @acl_in\n"
    "        iifname \"mu*\" oifname != \"mb*\" drop\n"
    "        iifname \"mp*\" oifname != \"mb*\" drop\n"
    "        iifname \"mn*\" oifname != \"mu*\" drop\n"
    "        iifname \"mu*\" ip6 version 6 ct state != { established, related } "
    "oifname != @open6 drop\n"
    "        oifname { \"mu*\", \"mn*\" } ct state invalid drop\n"
    "        oifname \"mu*\" rt ip nexthop " RULES_GATEWAY4 " ip saddr != @eip_sources "
    "drop\n"
    "        oifname \"mu*\" ip6 version 6 fib saddr oifname != \"mb*\" drop\n"
    "        oifname \"mu*\" rt ip nexthop != " RULES_GATEWAY4 " jump nat_gateway\n"
    "        oifname { \"mu*\", \"mp*\", \"mn*\" } meta mark set 2 return\n"
    "        meta mark 0 drop\n"
    "    }\n"
    /* A NAT gateway, where it is at home, as AWS's: a connection is forgotten after 350 s of silence, and what goes
     * on after that is told so. */
    "    chain nat_gateway {\n"
    "        rt ip nexthop != @homes drop\n"
    "        ct state established,related return\n"
    "        tcp flags & (syn | ack) != syn reject with tcp reset\n"
    "        meta l4proto tcp ct timeout set \"nat_tcp\"\n"
    "        meta l4proto udp ct timeout set \"nat_udp\"\n"
    "    }\n"
    "    chain arriving {\n"
    "        ct state established,related meta mark & " RULES_LENT_TEXT
    " == 0 ct mark & 1 == 0 accept\n"
    "        ip saddr 169.254.0.0/16 drop\n"
    "        ip daddr 169.254.0.0/16 drop\n"
    "        ct state established,related ct id . meta mark @hops goto pass\n"
    "        meta mark vmap @arriving_at\n"
    "    }\n"
    /* ACLs know no connections, and are not asked within a subnet. */
    "    chain endpoint_entry {\n"
    "        iifname . ip daddr @endpoint_near return\n"
    "        iifname \"mb*\" iifname vmap @acl_out\n"
    "        ip daddr vmap @endpoint_acl_in\n"
    "    }\n"
    "    chain endpoint_exit {\n"
    "        oifname . ip saddr @endpoint_near return\n"
    "        ip saddr vmap @endpoint_acl_out\n"
    "        oifname \"mb*\" oifname vmap @acl_in\n"
    "    }\n"
    /* The endpoint's own groups judge, whoever comes; peers among them. */
    "    chain endpoint {\n"
    "        update @endpoint_rate { ip saddr limit rate over 64/second "
    "burst 256 packets } drop\n"
    "        goto arriving\n"
    "    }\n"
    "    chain nat_in {\n"
    "        iifname \"mu*\" dnat ip to ip daddr map @eip_in\n"
    "    }\n"
    "    chain nat_out {\n"
    "        oifname \"mu*\" rt ip nexthop " RULES_GATEWAY4
    " snat ip to ip saddr map @eip_out\n"
    "        oifname \"mu*\" snat ip to rt ip nexthop map @nats\n"
    "    }\n"
    "    chain output {\n"
    "        oifname \"lo\" accept\n"
    "        oifname { \"mb*\", \"mp*\" } tcp sport { 80, 443 } "
    "meta mark set ip saddr map @endpoints4 jump endpoint_exit\n"
    "        ct state established,related accept\n"
    "        oifname \"mb*\" udp sport 67 udp dport 68 accept\n"
    "        oifname \"mb*\" udp sport 547 udp dport 546 accept\n"
    "        oifname \"mb*\" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, "
    "nd-router-advert } accept\n"
    "        oifname \"mb*\" meta skuid 0 meta l4proto tcp ct state new accept\n"
    "    }\n"
    "}\n";

AUTO_DEFINE(nftctx, struct nft_ctx *, nft_ctx_free)

static struct nft_ctx *
context(struct err *err)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    if (ctx && nft_ctx_buffer_error(ctx) == 0 && nft_ctx_buffer_output(ctx) == 0) {
        return ctx;
    }
    nft_ctx_free(ctx);
    (void)err_set(err, ERR_SYSTEM, "start libnftables");
    return NULL;
}

bool
rules_run(const char *text, struct err *err)
{
    AUTO(nftctx) struct nft_ctx *ctx = context(err);
    if (!ctx) {
        return false;
    }
    if (nft_run_cmd_from_buffer(ctx, text) != 0) {
        return err_set(err, ERR_SYSTEM, "set packet rules: %.300s",
                       nft_ctx_get_error_buffer(ctx));
    }
    return true;
}

static bool
run_here(void *ctx, struct err *err)
{
    return rules_run(ctx, err);
}

bool
rules_run_in(int ns_fd, const char *text, struct err *err)
{
    return netns_run(ns_fd, run_here, (void *)(uintptr_t)text, err);
}

/* The text's rules one by one, after its tables: to name a chain a second time, as a block
 * does, is a change of it, which the kernel frees only after a grace period of RCU, and
 * everybody who ends a conversation with netfilter waits for that. */
static void
one_by_one(const char *text, struct buf *out)
{
    AUTO(buf) struct buf rules = {0};
    AUTO(free) char *copy = xstrdup(text);
    char family[16] = "", chain[ELEM_CHAIN_MAX] = "", *rest = NULL;
    for (char *line = strtok_r(copy, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        bool block = line[strlen(line) - 1] == '{';
        if (sscanf(line, "    chain %63s {", chain) == 1 && block) {
            continue; /* Its rules follow, to its closing brace. */
        }
        if (chain[0] != '\0' && str_starts(line, "        ")) {
            buf_printf(&rules, "add rule %s " RULES_TABLE " %s %s\n", family, chain,
                       line + 8);
            continue;
        }
        if (chain[0] != '\0' && str_eq(line, "    }")) {
            chain[0] = '\0';
            continue;
        }
        chain[0] = '\0';
        (void)sscanf(line, "table %15s " RULES_TABLE " {", family);
        buf_printf(out, "%s\n", line);
    }
    buf_puts(out, buf_str(&rules));
}

bool
rules_apply(struct err *err)
{
    AUTO(buf) struct buf text = {0};
    one_by_one(rules_text, &text);
    return rules_run(buf_str(&text), err);
}

static char *
ask(const char *command, unsigned flags, struct err *err)
{
    AUTO(nftctx) struct nft_ctx *ctx = context(err);
    if (!ctx) {
        return NULL;
    }
    nft_ctx_output_set_flags(ctx, flags);
    if (nft_run_cmd_from_buffer(ctx, command) != 0) {
        (void)err_set(err, ERR_SYSTEM, "read packet rules: %.300s",
                      nft_ctx_get_error_buffer(ctx));
        return NULL;
    }
    return xstrdup(nft_ctx_get_output_buffer(ctx));
}

char *
rules_ask(const char *command, struct err *err)
{
    return ask(command, NFT_CTX_OUTPUT_STATELESS, err);
}

char *
rules_show(const char *command, struct err *err)
{
    return ask(command, NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_TERSE, err);
}

char *
rules_list(struct err *err)
{
    return rules_show("list ruleset", err);
}
