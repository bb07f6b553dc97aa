/* reports.h - what nodes saw, brought into rows: the only writers of seen.
 *
 * Purpose:  one report is one transaction: its row, what it frees, and the next pass of
 *           the object it is about.
 * Place:    control/, inside a caller's transaction.
 * Input:    decoded by descriptor but otherwise a stranger's word: a report about what
 *           is not wanted of that node changes nothing.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* 'record' is of link_seen_desc(kind), and answers the wanted record of 'revision' (0: not
 * told). 'event_id' names a LINK_EVENT's row. */
MUST_CHECK bool report_apply(const struct pass *pass, const char *node_id,
                             enum link_kind kind, const void *record, int64_t revision,
                             const char *event_id, struct err *err);
/* Writes only what differs, so that a report repeated costs no commit. */
MUST_CHECK bool row_put_new(struct txn *txn, const struct row_type *type,
                            const void *row, struct err *err);
/* Notes an event of a node's that the control plane itself saw, at most once an hour
 * under one 'word', however often it happens. */
MUST_CHECK bool event_hourly(const struct pass *pass, const char *node_id,
                             const struct link_event *event, const char *word,
                             struct err *err);
