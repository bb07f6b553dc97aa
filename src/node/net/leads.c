/* leads.c - see leads.h. */
#include "node/net/leads.h"

#include "node/net/links_impl.h"
#include "node/net/routes.h"

static bool
among(const struct lead *list, size_t count, uint32_t ipv4)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].public == ipv4) {
            return true;
        }
    }
    return false;
}

/* Neighbours by the link that are not among 'leads' go. */
static bool
drop_neighbours(struct links *links, int index, const struct lead *leads, size_t count,
                struct err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_neigh_alloc_cache(links->sock, &cache);
    if (rc < 0) {
        return links_fail(err, rc, "list neighbours");
    }
    bool ok = true;
    for (struct nl_object *o = nl_cache_get_first(cache); o && ok;
         o = nl_cache_get_next(o)) {
        struct rtnl_neigh *neigh = (struct rtnl_neigh *)o;
        uint32_t ipv4 = links_neighbour4(neigh);
        if (rtnl_neigh_get_ifindex(neigh) == index && ipv4 != 0 &&
            !among(leads, count, ipv4)) {
            ok = links_drop_neighbour(links, index, ipv4, err);
        }
    }
    nl_cache_free(cache);
    return ok;
}

bool
leads_set(struct links *outside, int index, const struct lead *leads, size_t count,
          struct err *err)
{
    AUTO(free) struct route_entry *list = xcalloc(count + 1, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct route_entry){.to = {.ipv4 = leads[i].public, .prefix = 32},
                                       .kind = ROUTE_LINK,
                                       .index = index};
        if (!links_neighbour(outside, index, leads[i].public, leads[i].mac, err) ||
            !routes_put(outside, ROUTES_MAIN, &list[i], err)) {
            return false;
        }
    }
    return routes_keep4(outside, ROUTES_MAIN, index, list, count, err) &&
           drop_neighbours(outside, index, leads, count, err);
}
