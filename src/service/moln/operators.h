/* operators.h - what the operators' handlers share.
 *
 * Place:    service/moln. Its calls are signed with operators' keys; the gateway lets
 *           no other key near them and records each.
 * Memory:   the call's arena.
 * Threads:  the request's. */
#pragma once
#include "core/config.h"
#include "core/id.h"
#include "core/pool.h"
#include "service/call.h"
#include "service/moln/api.h"
#include "store/rows.h"

/* In an initializer: a scalar of the model and its presence. */
#define HAS(member, value) .member = (value), .has_##member = true
/* The same for a moment that may not have come. */
#define HAS_TIME(member, value) .member = (value), .has_##member = (value) != 0

#define OPERATOR_ACCOUNT "operator"

/* A listing in the order of its keys, page by page. */
struct listing {
    size_t left;       /* That still fit. */
    const char *after; /* Key of the last page's end, or NULL. */
    const char *last;
    const char *bind;
    bool more;
};

MUST_CHECK bool listing_init(struct call *call, bool has_max, int64_t max_results,
                             const char *next_token, const char *query,
                             struct listing *out, struct err *err);
/* Whether the object with this key (rising from call to call) belongs on the page. */
bool listing_take(struct listing *listing, const char *key);
const char *listing_next(struct call *call, const struct listing *listing);

/* ResourceNotFoundException: "There is no account 123". */
bool err_no(struct err *err, const char *what, const char *id);

/* An account that was not deleted. */
MUST_CHECK bool account_find(struct call *call, const char *id,
                             const struct row_account **out, struct err *err);
/* An account's keys, or the operators', oldest first. */
MUST_CHECK bool keys_of(struct call *call, const char *account, struct row_list *out,
                        struct err *err);
MUST_CHECK bool row_all(struct call *call, const struct row_type *type,
                        struct row_list *out, struct err *err);

/* ---- nodes ---- */

/* The region that a zone of ours belongs to; NULL: none. */
const struct region_config *region_of_zone(const struct cloud_config *config,
                                           const char *zone);

/* A node with what it said, what was promised of it and what may be. */
struct node_view {
    struct placement_rows rows;
    struct placement_host host;
};

/* ResourceNotFoundException when there is none. */
MUST_CHECK bool node_find(struct call *call, const char *id,
                          const struct row_node **out, struct err *err);
/* A node as it is answered. */
MUST_CHECK bool node_out_one(struct call *call, const struct row_node *node,
                             struct moln_node **out, struct err *err);
/* Puts the row, and answers it. */
MUST_CHECK bool node_put(struct call *call, const struct row_node *node,
                         struct moln_node **out, struct err *err);
/* What it is made of; '*out' NULL: it has not said. */
MUST_CHECK bool node_hardware(struct call *call, const char *node_id,
                              struct moln_hardware **out, struct err *err);
MUST_CHECK bool node_view_load(struct call *call, const struct row_node *node,
                               struct node_view *out, struct err *err);
MUST_CHECK bool node_find(struct call *call, const char *id,
                          const struct row_node **out, struct err *err);
/* The region that a zone of ours belongs to; NULL: it is none. */
const struct region_config *region_of_zone(const struct cloud_config *config,
                                           const char *zone);
