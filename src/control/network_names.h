/* network_names.h - names that a VPC's resolvers must know besides those made of addresses.
 *
 * Purpose:  an instance's resource name (i-....DOMAIN), where its options ask for one; the
 *           public names of its addresses, which inside lead to the private ones; and the
 *           names of endpoints.
 * Place:    control/, inside the caller's transaction; pure but for reading rows. Records and
 *           what they name are the transaction's.
 * Ids:      begin with the interface's, the peering's or the endpoint's, and a dot.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

struct name_list {
    struct link_name *items;
    size_t count;
};

/* Of an interface that belongs to an instance; none for others. */
MUST_CHECK bool names_of_eni(const struct pass *pass, const struct row_eni *eni,
                             struct name_list *out, struct err *err);
/* Of a VPC that is peered with the network 'vpc_id': the public names of its interfaces, which
 * lead to their private addresses there too, where its side of the peering says so. */
MUST_CHECK bool names_of_peer(const struct pass *pass,
                              const struct row_vpc_peering *peering, const char *vpc_id,
                              struct name_list *out, struct err *err);
/* Of an interface endpoint. */
MUST_CHECK bool names_of_endpoint(const struct pass *pass,
                                  const struct row_vpc_endpoint *endpoint,
                                  struct name_list *out, struct err *err);
