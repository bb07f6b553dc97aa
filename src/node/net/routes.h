/* routes.h - routing tables of a namespace, over libnl-route.
 *
 * Purpose:  one table a route table of the VPC, and a rule a bridge that names it.
 * Threads:  those of 'struct links'. Each call is idempotent. */
#pragma once
#include "node/net/addr.h"
#include "node/net/links.h"

enum route_kind {
    ROUTE_LINK, /* On the link 'index'. */
    ROUTE_VIA,  /* To the neighbour 'via' on the link 'index'. */
    ROUTE_BLACKHOLE,
};

struct route_entry {
    struct addr_block to;
    enum route_kind kind;
    int index;
    struct addr_block
        via; /* Its address; the family may differ from to's: IPv6 only. */
};

#define ROUTES_MAIN 254

MUST_CHECK bool routes_put(struct links *links, uint32_t table,
                           const struct route_entry *entry, struct err *err);
/* Makes the table hold these and no others, without a moment in which one is missing. */
MUST_CHECK bool routes_set(struct links *links, uint32_t table,
                           const struct route_entry *list, size_t count,
                           struct err *err);
/* Of the table's IPv4 routes by the link, only those to these blocks stay. */
MUST_CHECK bool routes_keep4(struct links *links, uint32_t table, int index,
                             const struct route_entry *list, size_t count,
                             struct err *err);
/* What comes in by the link looks into the table first; 0: into none but main. */
MUST_CHECK bool routes_rule(struct links *links, const char *link, uint32_t table,
                            struct err *err);
/* The same for what the router sends from an address of its own. */
MUST_CHECK bool routes_rule_from(struct links *links, uint32_t ipv4, uint32_t table,
                                 struct err *err);
