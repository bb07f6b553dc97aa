/* database.h - a database that several control processes share, as they share PostgreSQL.
 *
 * Purpose:  SQLite's file under the change log (store/changelog.h), whose transactions come
 *           one after another since each is made within one event of the world; with
 *           connections that break, in the middle of a commit too, and a server that is
 *           away.
 * Place:    the store is handed it as its driver (store_config.driver).
 * Threads:  one. */
#pragma once
#include "store/sql.h"

const struct sql_driver *database_driver(void);
/* 'news' is called when somebody's commit is to be looked at by the others. */
void database_begin(void (*news)(void *ctx), void *ctx);
/* Every connection is cut, and none can be made until 'until_ns'. */
void database_away(int64_t until_ns);
/* Of commits, so many are not answered: half of them are done all the same. */
void database_breaks(unsigned percent);
/* Until when it is away; from now on another time. For who looks from outside. */
int64_t database_reach(int64_t until_ns);
