/* spread.h - shares nodes' streams out evenly among the control processes.
 *
 * Purpose:  a process that was started, or came back, has no streams until nodes open some
 *           to it. Who has more than an even share ends the stream of some nodes whose place
 *           is elsewhere (core/share.h), a few at a time; each comes back, is told of that
 *           place before all others, and goes there when its stream is ended once more. A
 *           node that cannot reach its place returns, and is left alone until the processes
 *           are others than now.
 * Spared:   streams that carry something (a tunnel, a console, an image), and those of local
 *           nodes, which have but one process.
 * Place:    control/; nodes.c owns one, where there can be several processes.
 * Threads:  the loop's.
 * Failure:  rows that cannot be read are read again in time. */
#pragma once
#include "control/nodes_impl.h"

struct spread;

MUST_CHECK struct spread *spread_create(struct nodes *nodes);
void spread_close(struct spread *spread); /* NULL is a no-op. */
/* Processes came or went. */
void spread_again(struct spread *spread);
/* A node came: what is even need not be any more. NULL is a no-op. */
void spread_news(struct spread *spread);
/* Where the node should go first ("HOST:PORT"), borrowed until the loop goes on; NULL: it
 * may stay. NULL for 'spread' too. */
const char *spread_place(struct spread *spread, const char *node_id);
