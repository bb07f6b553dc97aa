/* operators.h - who runs the cloud: moves guests, cordons hosts, drains them, lets them back
 * in, balances the zone; takes a host from the cloud, wipes it, and lets it join anew.
 *
 * Purpose:  the other half of what a cloud is asked for (tenant.h has the first), drawn from
 *           the seed, while there are faults.
 * Threads:  one. */
#pragma once
#include "run.h"

void operators_begin(struct run *run);
/* One thing, drawn. */
void operators_act(void);
/* They rest too; some clouds with hosts that stay drained. */
void operators_end(void);
