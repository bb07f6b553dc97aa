/* uplink_nat.c - an uplink by translation: see uplink.h.
 *
 * The external namespace speaks as one address of a pair of links, and hides public ones
 * behind it; the agent's namespace hides that one behind the interface's. So the host gets no
 * route to any guest. Forwarding is switched on for the two links alone; where the
 * interface did not forward before, a rule keeps it from forwarding anything else. */
#include "node/net/routes.h"
#include "node/net/rules.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <errno.h>
#include <fcntl.h>

#define PAIR_BASE 0x64600000u /* 100.96.0.0/11: a block of four for each cloud. */
#define PAIR_MASK 0x0007ffffu

static uint32_t
pair_base(const struct net *net)
{
    return PAIR_BASE + (addr_number(net->cloud_id) & PAIR_MASK) * 4;
}

static void
table_name(const struct net *net, char out[ADDR_RULE_LEN])
{
    addr_rule_name("moln", net->cloud_id, "_uplink", out);
}

/* ---- forwarding -----------------------------------------------------------------------
 */

static bool
forwards(const char *link)
{
    char path[128], text[8] = {0};
    (void)snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/%s/forwarding", link);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, text, sizeof text - 1) > 0 && text[0] == '1';
}

/* An interface that has gone forwards no more. */
static bool
forward_put(const char *link, bool on, struct err *err)
{
    return setup_put(-1, on ? "1" : "0", err, "ipv4/conf/%s/forwarding", link) ||
           (!on && err->code == ERR_NOT_FOUND);
}

/* ---- the agent's namespace ------------------------------------------------------------
 */

char *
uplink_nat_rules(const struct net *net)
{
    AUTO(buf) struct buf command = {0};
    char table[ADDR_RULE_LEN];
    struct err ignored = {0};
    table_name(net, table);
    buf_printf(&command, "list table inet %s", table);
    return rules_ask(buf_str(&command), &ignored);
}

/* The interface that our rules guard, since it forwards for us alone; empty: none. */
static void
guarded(const struct net *net, char out[IFNAMSIZ])
{
    AUTO(free) char *text = uplink_nat_rules(net);
    const char *chain = text ? strstr(text, "chain guard {") : NULL;
    out[0] = '\0';
    if (chain) {
        (void)sscanf(chain, "chain guard { iifname \"%15[^\"]", out);
    }
}

/* One transaction. 'guard': whether the interface forwards for us alone. */
static bool
host_rules(const struct net *net, const char *link, bool guard, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    char t[ADDR_RULE_LEN], pair[IFNAMSIZ], inner[ADDR_IPV4_LEN];
    table_name(net, t);
    uplink_host_name(net, pair);
    addr_ipv4_text(pair_base(net) + 2, inner);
    buf_printf(&text,
               "add table inet %s\ndelete table inet %s\n"
               "table inet %s {\n"
               "    chain guard {\n",
               t, t, t);
    if (guard) {
        buf_printf(&text, "        iifname \"%s\" drop\n", link);
    }
    buf_printf(&text,
               "    }\n"
               "    chain forward {\n"
               "        type filter hook forward priority -5;\n"
               "        iifname \"%s\" oifname != \"%s\" drop\n"
               "        iifname \"%s\" ip saddr != %s drop\n"
               "        iifname \"%s\" meta nfproto != ipv4 drop\n"
               "        oifname \"%s\" iifname != \"%s\" drop\n"
               "        oifname \"%s\" ct state != { established, related } drop\n"
               "        iifname { \"%s\", \"%s\" } oifname { \"%s\", \"%s\" } accept\n"
               "        jump guard\n"
               "    }\n"
               "    chain input {\n"
               "        type filter hook input priority -5;\n"
               "        iifname \"%s\" drop\n"
               "    }\n"
               "    chain nat_out {\n"
               "        type nat hook postrouting priority 100;\n"
               "        ip saddr %s oifname \"%s\" masquerade\n"
               "    }\n"
               "}\n",
               pair, link, pair, inner, pair, pair, link, pair, pair, link, pair, link,
               pair, inner, link);
    return rules_run(buf_str(&text), err);
}

/* The host's end: with its address, and speaking no IPv6. */
static bool
host_end(struct net *net, const char *pair, struct err *err)
{
    int index;
    return links_find(net->host, pair, &index, err) &&
           setup_put(-1, "1", err, "ipv6/conf/%s/disable_ipv6", pair) &&
           setup_put(-1, "0", err, "ipv4/conf/%s/accept_redirects", pair) &&
           setup_put(-1, "0", err, "ipv4/conf/%s/send_redirects", pair) &&
           setup_put(-1, "0", err, "ipv4/conf/%s/rp_filter", pair) &&
           links_address(net->host, index, pair_base(net) + 1, 30, err) &&
           links_up(net->host, index, err) && forward_put(pair, true, err);
}

/* The external namespace's end, and its default route. */
static bool
outside_end(struct net *net, const char *leg, struct err *err)
{
    int index;
    struct route_entry entry = {.kind = ROUTE_VIA,
                                .via = {.ipv4 = pair_base(net) + 1, .prefix = 32}};
    if (!links_find(net->outside, leg, &index, err) ||
        !setup_put(net->outside_fd, "1", err, "ipv6/conf/%s/disable_ipv6", leg) ||
        !links_address(net->outside, index, pair_base(net) + 2, 30, err) ||
        !links_up(net->outside, index, err)) {
        return false;
    }
    entry.index = index;
    return routes_put(net->outside, ROUTES_MAIN, &entry, err);
}

/* A link of that name that is no pair's end is of another mode's time. */
static bool
drop_other(struct net *net, const char *leg, struct err *err)
{
    struct links_view view;
    return links_look(net->outside, leg, &view, err) &&
           (view.index == 0 || str_eq(view.type, "veth") ||
            links_drop(net->outside, leg, err));
}

bool
uplink_nat_make(struct net *net, const struct uplink *u, struct err *err)
{
    char pair[IFNAMSIZ], leg[IFNAMSIZ], old[IFNAMSIZ];
    uplink_host_name(net, pair);
    uplink_leg_name(net, leg);
    guarded(net, old);
    bool guard = !forwards(u->link) || str_eq(old, u->link);
    return drop_other(net, leg, err) && host_rules(net, u->link, guard, err) &&
           links_veth(net->host, pair, NULL, leg, net->outside_fd, NULL, err) &&
           host_end(net, pair, err) && outside_end(net, leg, err) &&
           forward_put(u->link, true, err);
}

bool
uplink_nat_drop(struct net *net, const char *link, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    char pair[IFNAMSIZ], table[ADDR_RULE_LEN], old[IFNAMSIZ];
    uplink_host_name(net, pair);
    table_name(net, table);
    guarded(net, old);
    /* As it was, before what keeps it from forwarding more goes. */
    if (old[0] != '\0' && (!link || str_eq(old, link)) &&
        !forward_put(old, false, err)) {
        return false;
    }
    buf_printf(&text, "add table inet %s\ndelete table inet %s\n", table, table);
    return links_drop(net->host, pair, err) && rules_run(buf_str(&text), err);
}
