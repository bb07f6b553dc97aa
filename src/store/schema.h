/* schema.h - the database's shape brought to what the row types say.
 *
 * Place:    inside store/ only; runs once, while the store is opened.
 * Failure:  a database made by a newer program is ERR_UNSUPPORTED; a master key that is
 * not the database's ERR_DENIED. Nothing is changed then. */
#pragma once
#include "store/session.h"

/* Version of the data's meaning. Tables, columns and indexes that are missing are added
 * by themselves; what needs more is a step in schema.c. */
#define SCHEMA_VERSION 1

/* 'meta' is the store_meta table, one of 'tables'. */
MUST_CHECK bool schema_prepare(struct session *session, const struct table *tables,
                               size_t count, const struct table *meta, struct err *err);
