/* describe.h - what the Describe calls of this folder have in common beside common.h.
 *
 * Place:    service/ec2.
 * Memory:   the call's arena.
 * Threads:  the request's. */
#pragma once
#include "service/ec2/common.h"

/* In an initializer: a scalar of the model and its presence. */
#define HAS(member, value) .member = (value), .has_##member = true

/* In an initializer: a list that is there and has no items; AWS shows some so. */
#define NO_ITEMS(call, type) \
    { \
        ARENA_ARRAY((call)->arena, 1, type), 0 \
    }

/* The ids (or names) that a request names: which objects to show, and which are
 * missing. */
struct pick {
    const char *const *ids;
    size_t count;
    bool *found;
};

void pick_init(struct call *call, const char *const *ids, size_t count,
               struct pick *out);
/* Whether an object is asked for: named, or nothing is. Notes that it was found. */
bool pick_take(struct pick *pick, const char *id);
/* Each id was found; else 'code' with err_no_such_ids' message. */
MUST_CHECK bool pick_check(const struct call *call, const struct pick *pick,
                           enum err_code code, const char *what, struct err *err);

/* An id made from another's digits: derived_id("rtb", "vpc-0a1b") is "rtb-0a1b". */
const char *derived_id(struct call *call, const char *prefix, const char *id);
/* A copy of one text as a list's items. */
const char **one_text(struct call *call, const char *text);

/* Everything that a table has of the account, then filtered by region by the caller:
 * the rows whose first key field is the account. */
MUST_CHECK bool rows_of_account(struct call *call, const struct row_type *type,
                                const void *prefix, struct row_list *out,
                                struct err *err);
/* The rows of the account in the region, by the table's index "by_region". */
MUST_CHECK bool rows_of_region(struct call *call, const struct row_type *type,
                               const void *prefix, struct row_list *out,
                               struct err *err);
/* Whether the account has fewer than 'max' rows of 'type' in the region, by an index
 * (NULL: the primary key) that begins with account and region; else 'code', with "The
 * maximum number of WHAT has been reached." */
MUST_CHECK bool room_for_one(struct call *call, const struct row_type *type,
                             const char *index, size_t max, enum err_code code,
                             const char *what, struct err *err);
