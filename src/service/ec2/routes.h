/* routes.h - the routes of a table, for those who show it.
 *
 * Place:    service/ec2; route_tables.c and routes.c.
 * Threads:  the request's. */
#pragma once
#include "service/ec2/network.h"

/* The local routes, which follow from the VPC's blocks, and then the table's own with
 * their state: "blackhole" where the target is gone or not in use. */
MUST_CHECK bool routes_out(struct call *call, const struct row_vpc *vpc,
                           const struct row_route_table *table, struct ec2_route **out,
                           size_t *out_count, struct err *err);
