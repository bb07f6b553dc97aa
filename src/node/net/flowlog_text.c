/* flowlog_text.c - how the kernel counts flows, in nftables' language: see flowlog.h. Pure. */
#include "node/net/flowlog.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>

#define ROOM_ACCEPTED 16384 /* Flows at a time, of one way and family, with ports... */
#define ROOM_OTHER 4096     /* ...and of the others. */
#define KEEP_S 190          /* A silent one is read three times before it goes. */

static const char *const ways[FLOW_WAYS] = {"flow_out", "flow_in", "flow_out_refused",
                                            "flow_in_refused", "flow_acl"};

const struct flow_set flow_sets[FLOW_SETS] = {
    {false, IPPROTO_TCP, "4_tcp"}, {false, IPPROTO_UDP, "4_udp"}, {false, 0, "4"},
    {true, IPPROTO_TCP, "6_tcp"},  {true, IPPROTO_UDP, "6_udp"},  {true, 0, "6"},
};

void
flow_set_name(enum flow_way way, const struct flow_set *set, char out[ELEM_SET_MAX])
{
    (void)snprintf(out, ELEM_SET_MAX, "%s%s", ways[way], set->name);
}

static void
put_sets(enum flow_way way, struct buf *out)
{
    char name[ELEM_SET_MAX];
    for (int i = 0; i < FLOW_SETS; i++) {
        const struct flow_set *set = &flow_sets[i];
        int family = set->is6 ? 6 : 4;
        bool large = set->protocol && (way == FLOW_OUT || way == FLOW_IN);
        flow_set_name(way, set, name);
        buf_printf(
            out,
            "    set %s { type mark%s . ipv%d_addr . ipv%d_addr%s; size %d; flags "
            "dynamic,timeout; timeout %ds; }\n",
            name, set->protocol ? "" : " . inet_proto", family, family,
            set->protocol ? " . inet_service . inet_service" : "",
            large ? ROOM_ACCEPTED : ROOM_OTHER, KEEP_S);
    }
    buf_printf(out, "    chain count_%s { }\n", ways[way]);
}

static void
put_rule(enum flow_way way, const struct flow_set *set, struct buf *out)
{
    char name[ELEM_SET_MAX];
    const char *ip = set->is6 ? "ip6" : "ip";
    flow_set_name(way, set, name);
    buf_printf(out, "        meta nfproto ipv%d ", set->is6 ? 6 : 4);
    if (set->protocol) {
        buf_printf(
            out,
            "meta l4proto %d update @%s { meta mark . %s saddr . %s daddr . th sport "
            ". th dport counter } return\n",
            set->protocol, name, ip, ip);
    } else {
        buf_printf(
            out,
            "meta l4proto != { tcp, udp } update @%s { meta mark . meta l4proto . "
            "%s saddr . %s daddr counter } return\n",
            name, ip, ip);
    }
}

/* What finds no place falls through to the counter. */
static void
put_chain(enum flow_way way, struct buf *out)
{
    buf_printf(out, "    chain count_%s {\n", ways[way]);
    for (int i = 0; i < FLOW_SETS; i++) {
        put_rule(way, &flow_sets[i], out);
    }
    buf_puts(out, "        counter name \"" FLOW_LOST "\"\n    }\n");
}

void
flow_rules_text(struct buf *out)
{
    static const char *const chains[] = {"flow_leaving", "flow_arriving", "refuse_log",
                                         "refuse_acl_log"};
    buf_puts(out, "table inet moln {\n"
                  "    set " FLOW_LOGGED " { type mark; }\n"
                  "    counter " FLOW_LOST " { }\n");
    for (int w = 0; w < FLOW_WAYS; w++) {
        put_sets((enum flow_way)w, out);
    }
    buf_puts(out,
             "    chain flow_leaving { type filter hook prerouting priority -149; }\n"
             "    chain flow_arriving { type filter hook forward priority 1; }\n"
             "}\n");
    for (int w = 0; w < FLOW_WAYS; w++) {
        buf_printf(out, "flush chain inet moln count_%s\n", ways[w]);
    }
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        buf_printf(out, "flush chain inet moln %s\n", chains[i]);
    }
    buf_puts(out, "table inet moln {\n");
    for (int w = 0; w < FLOW_WAYS; w++) {
        put_chain((enum flow_way)w, out);
    }
    buf_puts(out,
             "    chain flow_leaving {\n"
             "        iifname != \"mb*\" return\n"
             "        meta mark != @" FLOW_LOGGED " return\n"
             "        fib daddr type { local, broadcast } return\n"
             "        ip daddr { 169.254.0.0/16, 255.255.255.255 } return\n"
             "        ip6 daddr ff02::/16 return\n"
             "        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return\n"
             "        jump count_flow_out\n"
             "    }\n"
             "    chain flow_arriving {\n"
             "        meta mark != @" FLOW_LOGGED " return\n"
             "        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return\n"
             "        oifname \"mb*\" jump count_flow_in\n"
             "    }\n"
             /* Before a route is found there is no oifname. */
             "    chain refuse_log {\n"
             "        oifname \"mb*\" meta mark @" FLOW_LOGGED
             " goto count_flow_in_refused\n"
             "        iifname \"mb*\" meta mark @" FLOW_LOGGED
             " goto count_flow_out_refused\n"
             "    }\n"
             "    chain refuse_acl_log {\n"
             "        meta mark @" FLOW_LOGGED " goto count_flow_acl\n"
             "    }\n"
             "}\n");
}

void
flow_no_rules_text(struct buf *out)
{
    char name[ELEM_SET_MAX];
    buf_puts(out, "flush chain inet moln refuse_log\n"
                  "flush chain inet moln refuse_acl_log\n"
                  "delete chain inet moln flow_leaving\n"
                  "delete chain inet moln flow_arriving\n");
    for (int w = 0; w < FLOW_WAYS; w++) {
        buf_printf(out, "delete chain inet moln count_%s\n", ways[w]);
        for (int i = 0; i < FLOW_SETS; i++) {
            flow_set_name((enum flow_way)w, &flow_sets[i], name);
            buf_printf(out, "delete set inet moln %s\n", name);
        }
    }
    buf_puts(out, "delete set inet moln " FLOW_LOGGED "\n"
                  "delete counter inet moln " FLOW_LOST "\n");
}

static uint16_t
port_at(const uint8_t *at)
{
    uint16_t be;
    memcpy(&be, at, sizeof be);
    return ntohs(be);
}

/* Each part of a key takes a multiple of four bytes. */
bool
flow_key_read(const struct elem *e, const struct flow_set *set, struct flow_key *out)
{
    size_t ip = set->is6 ? sizeof out->from : sizeof(uint32_t);
    size_t head = set->protocol ? 4 : 8;
    const uint8_t *rest = e->key + head + 2 * ip;
    *out = (struct flow_key){.is6 = set->is6,
                             .protocol = set->protocol ? set->protocol : e->key[4]};
    if (e->key_len != head + 2 * ip + (set->protocol ? 8 : 0)) {
        return false;
    }
    memcpy(&out->mark, e->key, sizeof out->mark);
    memcpy(&out->from, e->key + head, ip);
    memcpy(&out->to, e->key + head + ip, ip);
    if (set->protocol) {
        out->from_port = port_at(rest);
        out->to_port = port_at(rest + 4);
    }
    return true;
}
