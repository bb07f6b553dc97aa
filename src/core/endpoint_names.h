/* endpoint_names.h - what an interface endpoint is called, for handlers and controllers alike.
 *
 * Names:    "vpce-ID-HASH.SERVICE.REGION.vpce.amazonaws.com" for all its interfaces, the same
 *           with "-ZONE" behind the hash for those of one zone, and, where private DNS is on,
 *           the service's own "SERVICE.REGION.amazonaws.com". AWS's order and form.
 * Threads:  the transaction's, whose arena has what is handed out. */
#pragma once
#include "store/rows.h"
#include "store/store.h"

struct endpoint_name {
    const char *name;
    const char *zone; /* NULL: of every zone. */
};

struct endpoint_names {
    struct endpoint_name *items;
    size_t count;
};

MUST_CHECK bool endpoint_names(struct txn *txn, const struct row_vpc_endpoint *endpoint,
                               struct endpoint_names *out, struct err *err);
/* "ec2.us-east-1.amazonaws.com" of "com.amazonaws.us-east-1.ec2". */
const char *endpoint_private_name(struct arena *arena, const char *service,
                                  const char *region);
