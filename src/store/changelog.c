/* changelog.c - see changelog.h. */
#include "store/changelog.h"

#define HEAD "SELECT \"value\" FROM \"store_meta\" WHERE \"name\" = 'log'"
/* A statement can refuse only by failing: SQLSTATE 22012. */
#define EXPECT \
    "SELECT CASE WHEN \"value\" = $1 THEN 0 ELSE 1 / (\"value\" - \"value\") END" \
    " FROM \"store_meta\" WHERE \"name\" = 'log' FOR UPDATE"
#define TRIM_EVERY 256 /* Commits. */

/* The one number that 'sql' asks for. */
static bool
ask(struct session *session, const char *sql, int64_t *out, struct err *err)
{
    const struct sql_driver *driver = session->conn->driver;
    struct sql_stmt *stmt = session_statement(session, sql, err);
    struct sql_value value = {0};
    bool row = false;
    if (!stmt) {
        return false;
    }
    bool ok = driver->start(stmt, NULL, 0, err) && driver->step(stmt, &row, err);
    if (ok && row) {
        driver->column(stmt, 0, &value);
    }
    driver->reset(stmt);
    if (ok && value.kind != SQL_INT) {
        return err_set(err, ERR_CORRUPT, "the database has no head of its change log");
    }
    if (ok) {
        *out = value.number;
    }
    return ok;
}

/* The same with one parameter and no answer, posted. */
static bool
tell(struct session *session, const char *sql, int64_t number, struct err *err)
{
    struct sql_stmt *stmt = session_statement(session, sql, err);
    struct sql_value param = sql_int(number);
    return stmt && session->conn->driver->send(stmt, &param, 1, err);
}

bool
changelog_prepare(struct session *session, struct err *err)
{
    return session_exec(session,
                        "INSERT INTO \"store_meta\" (\"name\", \"value\")"
                        " VALUES ('log', 0) ON CONFLICT DO NOTHING",
                        err);
}

bool
changelog_head(struct session *session, int64_t *out, struct err *err)
{
    return ask(session, HEAD, out, err);
}

bool
changelog_lock(struct session *session, int64_t *out, struct err *err)
{
    return session_post(session, session->conn->driver->begin_write, err) &&
           ask(session, HEAD " FOR UPDATE", out, err);
}

bool
changelog_expect(struct session *session, int64_t head, struct err *err)
{
    return session_post(session, session->conn->driver->begin_write, err) &&
           tell(session, EXPECT, head, err);
}

static bool
move_head(struct session *session, int64_t head, struct err *err)
{
    return tell(session,
                "UPDATE \"store_meta\" SET \"value\" = $1 WHERE \"name\" = 'log'", head,
                err);
}

bool
changelog_skip(struct session *session, int64_t head, struct err *err)
{
    return move_head(session, head + 1, err) &&
           session_post(session, "NOTIFY " CHANGELOG_CHANNEL, err);
}

bool
changelog_append(struct session *session, const struct table *log,
                 const struct own_store_log *row, struct arena *scratch,
                 struct err *err)
{
    if (!session_change(session, log, TABLE_PUT, row, scratch, err) ||
        !move_head(session, row->seq, err)) {
        return false;
    }
    if (row->seq % TRIM_EVERY == 0 &&
        !tell(session, "DELETE FROM \"store_log\" WHERE \"seq\" <= $1",
              row->seq - CHANGELOG_KEPT, err)) {
        return false;
    }
    AUTO(free)
    char *news =
        xasprintf("NOTIFY " CHANGELOG_CHANNEL ", '%s'", row->origin); /* Of hex. */
    return session_post(session, news, err);
}

bool
changelog_read(struct session *session, const struct table *log, int64_t after,
               struct arena *arena, struct row_list *out, struct err *err)
{
    struct own_store_log last = {.seq = after};
    struct row_query query = {.after = &last};
    return session_list(session, log, &query, arena, out, err);
}

struct own_log_change
changelog_change(const struct table *table, const void *row, struct arena *arena)
{
    const struct order *key = &table->orders[0];
    struct own_log_change change = {.table = table->type->name};
    const char **values = ARENA_ARRAY(arena, key->count, const char *);
    for (unsigned i = 0; i < key->count; i++) {
        struct sql_value v = row_order_value(&key->fields[i], row);
        values[i] = v.kind == SQL_TEXT ? arena_strndup(arena, v.data, v.len)
                                       : arena_printf(arena, "%" PRId64, v.number);
    }
    change.key.items = values;
    change.key.count = key->count;
    return change;
}

const void *
changelog_key(const struct table *table, const struct own_log_change *change,
              struct arena *arena)
{
    const struct order *key = &table->orders[0];
    if (change->key.count != key->count) {
        return NULL;
    }
    void *row = arena_alloc(arena, table->type->desc->size);
    for (unsigned i = 0; i < key->count; i++) {
        const struct order_field *f = &key->fields[i];
        const char *text = change->key.items[i];
        void *at = (char *)row + f->offset;
        if (f->kind == DESC_STR) {
            *(const char **)at = text && *text ? text : NULL;
        } else if (f->kind == DESC_BOOL) {
            *(bool *)at = str_eq(text, "1");
        } else {
            *(int64_t *)at = text ? strtoll(text, NULL, 10) : 0;
        }
    }
    return row;
}
