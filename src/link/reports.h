/* reports.h - what a node has to tell and nobody has taken over yet.
 *
 * Purpose:  a queue of seen records in which the last word of each (kind, id) replaces
 *           the ones before; sent in order, at most REPORTS_WINDOW unanswered, again
 *           from the start on a new stream, and forgotten when acknowledged. Pure: no
 *           socket.
 * Owner:    a client; internal to link/.
 * Threads:  one at a time. */
#pragma once
#include "base/buf.h"
#include "base/desc.h"

#define REPORTS_WINDOW 256
#define REPORTS_MAX 65536
#define REPORTS_EVENTS_MAX 1024

struct reports;

struct report_item {
    int64_t kind;
    int64_t sequence; /* Rises from item to item. */
    int64_t revision; /* As it was put. */
    struct blob body; /* Borrowed until the next call. */
};

MUST_CHECK struct reports *reports_create(void);
void reports_destroy(struct reports *r); /* NULL is a no-op. */
AUTO_DEFINE(reports, struct reports *, reports_destroy)
/* 'id' NULL: an event, never replaced; the oldest goes when there are too many. False,
 * and nothing is kept: full. */
bool reports_put(struct reports *r, int64_t kind, const char *id, int64_t revision,
                 const void *body, size_t len);
/* The next to be sent, which then counts as sent; false: none, or a full window. */
bool reports_next(struct reports *r, struct report_item *out);
void reports_ack(struct reports *r, int64_t sequence);
void reports_rewind(struct reports *r); /* A new stream: nothing counts as sent. */
size_t reports_count(const struct reports *r);
