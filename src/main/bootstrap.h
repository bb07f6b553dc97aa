/* bootstrap.h - what a new cloud begins with: its id, its CA, one account, one
 * operator.
 *
 * Place:    main/. Idempotent: run at every start; makes what is missing.
 * Threads:  before the programs' own begin. */
#pragma once
#include "core/config.h"
#include "store/rows.h"
#include "store/store.h"

struct bootstrap {
    char cloud_id[32];
    char ca_sha256[65];
    char tenant_id[32], tenant_secret[64];     /* A live key of the first account... */
    char operator_id[32], operator_secret[64]; /* ...and of an operator. */
};

MUST_CHECK bool bootstrap_run(struct store *store, const struct clock *clock,
                              const struct rng *rng, struct bootstrap *out,
                              struct err *err);
/* The first account's default VPC, in each region served. */
MUST_CHECK bool bootstrap_networks(struct store *store, const struct clock *clock,
                                   const struct rng *rng,
                                   const struct cloud_config *cloud, struct err *err);
