/* routes.c - see routes.h. */
#include "node/net/routes.h"
#include "base/map.h"
#include "node/net/links_impl.h"
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/route/rule.h>

#define PROTOCOL 117       /* Who made a route: only ours are taken away. */
#define RULE_PRIORITY 1000 /* Before main. */

AUTO_DEFINE(rtroute, struct rtnl_route *, rtnl_route_put)
AUTO_DEFINE(rtrule, struct rtnl_rule *, rtnl_rule_put)

static struct nl_addr *
block_addr(const struct addr_block *b)
{
    return b->is6 ? links_addr6(&b->ipv6, b->prefix) : links_addr4(b->ipv4, b->prefix);
}

static struct rtnl_route *
route_of(uint32_t table, const struct route_entry *e)
{
    AUTO(rtroute) struct rtnl_route *route = rtnl_route_alloc();
    AUTO(nladdr) struct nl_addr *to = block_addr(&e->to);
    if (!route || !to) {
        return NULL;
    }
    rtnl_route_set_family(route, e->to.is6 ? AF_INET6 : AF_INET);
    rtnl_route_set_table(route, table);
    (void)rtnl_route_set_dst(route, to);
    rtnl_route_set_protocol(route, PROTOCOL);
    if (e->kind == ROUTE_BLACKHOLE) {
        (void)rtnl_route_set_type(route, RTN_BLACKHOLE);
        rtnl_route_set_scope(route, RT_SCOPE_UNIVERSE);
        return take_rtroute(&route);
    }
    struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
    AUTO(nladdr)
    struct nl_addr *via = e->kind == ROUTE_VIA ? block_addr(&e->via) : NULL;
    if (!hop || (e->kind == ROUTE_VIA && !via)) {
        rtnl_route_nh_free(hop);
        return NULL;
    }
    rtnl_route_nh_set_ifindex(hop, e->index);
    if (via) {
        rtnl_route_nh_set_gateway(hop, via);
        rtnl_route_nh_set_flags(hop, RTNH_F_ONLINK);
    }
    rtnl_route_set_scope(route, via || e->to.is6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
    rtnl_route_add_nexthop(route, hop);
    return take_rtroute(&route);
}

bool
routes_put(struct links *links, uint32_t table, const struct route_entry *entry,
           struct err *err)
{
    AUTO(rtroute) struct rtnl_route *route = route_of(table, entry);
    if (!route) {
        return err_set(err, ERR_SYSTEM, "route: out of memory");
    }
    int rc = rtnl_route_add(links->sock, route, NLM_F_CREATE | NLM_F_REPLACE);
    return rc < 0 && rc != -NLE_EXIST ? links_fail(err, rc, "add route") : true;
}

/* Whether a route's destination is among the wanted. */
static bool
is_wanted(struct rtnl_route *route, const struct route_entry *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        AUTO(nladdr) struct nl_addr *to = block_addr(&list[i].to);
        struct nl_addr *is = rtnl_route_get_dst(route);
        if (to && is && nl_addr_get_family(is) == nl_addr_get_family(to) &&
            nl_addr_get_prefixlen(is) == nl_addr_get_prefixlen(to) &&
            (nl_addr_get_prefixlen(to) == 0 || nl_addr_cmp(is, to) == 0)) {
            return true;
        }
    }
    return false;
}

/* Whether the route leaves by the link; any does by 0. */
static bool
leaves_by(struct rtnl_route *route, int index)
{
    struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
    return index == 0 || (hop && rtnl_route_nh_get_ifindex(hop) == index);
}

/* Those by the link 'index', or by any when it is 0. */
static bool
drop_others(struct links *links, uint32_t table, int family, int index,
            const struct route_entry *list, size_t count, struct err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_route_alloc_cache(links->sock, family, 0, &cache);
    if (rc < 0) {
        return links_fail(err, rc, "list routes");
    }
    for (struct nl_object *o = nl_cache_get_first(cache); o && rc >= 0;
         o = nl_cache_get_next(o)) {
        struct rtnl_route *route = (struct rtnl_route *)o;
        if (rtnl_route_get_table(route) == table &&
            rtnl_route_get_protocol(route) == PROTOCOL && leaves_by(route, index) &&
            !is_wanted(route, list, count)) {
            rc = rtnl_route_delete(links->sock, route, 0);
        }
    }
    nl_cache_free(cache);
    return rc < 0 && rc != -NLE_OBJ_NOTFOUND ? links_fail(err, rc, "drop route") : true;
}

bool
routes_set(struct links *links, uint32_t table, const struct route_entry *list,
           size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!routes_put(links, table, &list[i], err)) {
            return false;
        }
    }
    return drop_others(links, table, AF_INET, 0, list, count, err) &&
           drop_others(links, table, AF_INET6, 0, list, count, err);
}

bool
routes_keep4(struct links *links, uint32_t table, int index,
             const struct route_entry *list, size_t count, struct err *err)
{
    return drop_others(links, table, AF_INET, index, list, count, err);
}

/* What a rule is about: packets that come by a link, or that the router itself sends from one
 * of its addresses. */
struct about {
    const char *link; /* NULL: 'from' counts. */
    uint32_t from;
};

static bool
rule_change(struct links *links, int family, const struct about *about, uint32_t table,
            bool add, struct err *err)
{
    AUTO(rtrule) struct rtnl_rule *rule = rtnl_rule_alloc();
    AUTO(nladdr)
    struct nl_addr *from = about->link ? NULL : links_addr4(about->from, 32);
    if (!rule || (!about->link && !from)) {
        return err_set(err, ERR_SYSTEM, "rule: out of memory");
    }
    rtnl_rule_set_family(rule, family);
    if (from) {
        (void)rtnl_rule_set_src(rule, from);
    } else {
        (void)rtnl_rule_set_iif(rule, about->link);
    }
    rtnl_rule_set_table(rule, table);
    rtnl_rule_set_prio(rule, RULE_PRIORITY);
    rtnl_rule_set_action(rule, FR_ACT_TO_TBL);
    int rc = add ? rtnl_rule_add(links->sock, rule, NLM_F_CREATE | NLM_F_EXCL)
                 : rtnl_rule_delete(links->sock, rule, 0);
    bool fine = rc >= 0 || rc == -NLE_EXIST || (!add && rc == -NLE_OBJ_NOTFOUND);
    return fine ? true : links_fail(err, rc, "route rule");
}

static bool
is_about(struct rtnl_rule *rule, const struct about *about)
{
    const char *iif = rtnl_rule_get_iif(rule);
    if (about->link) {
        return iif && strcmp(iif, about->link) == 0;
    }
    AUTO(nladdr) struct nl_addr *from = links_addr4(about->from, 32);
    struct nl_addr *src = rtnl_rule_get_src(rule);
    return from && src && nl_addr_cmp(from, src) == 0;
}

/* Drops the rules about it that name another table. */
static bool
drop_rules(struct links *links, int family, const struct about *about, uint32_t keep,
           struct err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_rule_alloc_cache(links->sock, family, &cache);
    if (rc < 0) {
        return links_fail(err, rc, "list route rules");
    }
    bool ok = true;
    for (struct nl_object *o = nl_cache_get_first(cache); o && ok;
         o = nl_cache_get_next(o)) {
        struct rtnl_rule *rule = (struct rtnl_rule *)o;
        uint32_t table = rtnl_rule_get_table(rule);
        if (is_about(rule, about) && table != keep) {
            ok = rule_change(links, family, about, table, false, err);
        }
    }
    nl_cache_free(cache);
    return ok;
}

static bool
rule_set(struct links *links, int family, const struct about *about, uint32_t table,
         struct err *err)
{
    return (table == 0 || rule_change(links, family, about, table, true, err)) &&
           drop_rules(links, family, about, table, err);
}

bool
routes_rule(struct links *links, const char *link, uint32_t table, struct err *err)
{
    const struct about about = {.link = link};
    return rule_set(links, AF_INET, &about, table, err) &&
           rule_set(links, AF_INET6, &about, table, err);
}

bool
routes_rule_from(struct links *links, uint32_t ipv4, uint32_t table, struct err *err)
{
    const struct about about = {.from = ipv4};
    return rule_set(links, AF_INET, &about, table, err);
}
