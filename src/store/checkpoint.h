/* checkpoint.h - moves SQLite's write-ahead log into the database, beside the writer.
 *
 * Purpose:  SQLite does that within whichever commit finds the log long, and that
 *           commit's caller waits for two more syncs of the disk and a thousand pages
 *           (15 to 40 ms). Here a thread with a connection of its own does it.
 * Place:    inside store/, for sql_sqlite.c only.
 * Owner:    the writer's connection. Threads: checkpoint_wanted on the writer's.
 * Failure:  one that fails is tried again with the next; the log only grows meanwhile,
 *           and the writer takes over at CHECKPOINT_LIMIT_PAGES.
 * Order:    SQLite before 3.51.3 corrupts a database when a checkpoint begins on a log that
 *           is wholly moved while a commit begins that log anew (sqlite.org/wal.html,
 *           "walresetbug"). So the thread begins only when it knows of pages that nobody
 *           has moved, and the writer moves none while the thread does. */
#pragma once
#include "base/base.h"

#define CHECKPOINT_PAGES 1000        /* A log this long is worth moving... */
#define CHECKPOINT_REST_PAGES 500    /* So much more is moved within a commit... */
#define CHECKPOINT_LIMIT_PAGES 16384 /* ...and this long, it is the writer's work. */

struct checkpointer;

/* NULL: no thread could be had; the writer does the work. */
struct checkpointer *checkpoint_start(const char *path);
void checkpoint_stop(struct checkpointer *cp); /* NULL is a no-op. */
/* The log has 'pages' now. True: the writer shall move the rest within this commit, since
 * most of them are moved, so that the log begins anew (overwriting a file syncs in half the
 * time that appending to it takes), or since there are too many. */
bool checkpoint_wanted(struct checkpointer *cp, int pages);
