/* database.c - see database.h. */
#include "database.h"

#include "world.h"

#define CONNS_MAX 64
#define LOCKING " FOR UPDATE"

static struct {
    void (*news)(void *ctx);
    void *ctx;
    int64_t away_until_ns;
    unsigned breaks_percent;
    struct {
        struct sql_conn *conn; /* NULL: nobody's. */
        bool dead;
    } conns[CONNS_MAX];
} database;

static bool
gone(struct err *err)
{
    return err_set(err, ERR_GONE, "the database is away");
}

static size_t
place_of(const struct sql_conn *conn)
{
    size_t i = 0;
    while (i < CONNS_MAX && database.conns[i].conn != conn) {
        i++;
    }
    if (i == CONNS_MAX) {
        sim_abort("more connections to the database than are simulated");
    }
    return i;
}

static struct sql_conn *
shared_open(const char *where, struct err *err)
{
    if (world_now() < database.away_until_ns) {
        gone(err);
        return NULL;
    }
    struct sql_conn *conn = sql_sqlite.open(where, err);
    /* Its log is moved by who commits, at that moment: by a thread it would be at any. */
    if (conn && sql_sqlite.exec(conn, "PRAGMA wal_autocheckpoint=1000", err)) {
        conn->driver = database_driver();
        size_t i = place_of(NULL);
        database.conns[i].conn = conn;
        database.conns[i].dead = false;
    }
    return conn;
}

static void
shared_close(struct sql_conn *conn)
{
    database.conns[place_of(conn)].conn = NULL;
    sql_sqlite.close(conn);
}

static bool
shared_alive(const struct sql_conn *conn)
{
    return !database.conns[place_of(conn)].dead;
}

/* The server ends the transaction one way or the other; who asked does not hear of it. */
static bool
break_in_commit(struct sql_conn *conn, struct err *err)
{
    bool done = world_percent(CHANCE_FAULTS, 50);
    trace("database: a commit is %s and not answered", done ? "done" : "rolled back");
    database.conns[place_of(conn)].dead = true;
    return sql_sqlite.exec(conn, done ? "COMMIT" : "ROLLBACK", err) && gone(err);
}

static bool
shared_exec(struct sql_conn *conn, const char *sql, struct err *err)
{
    if (!shared_alive(conn)) {
        return gone(err);
    }
    if (str_eq(sql, "COMMIT") && database.breaks_percent &&
        world_percent(CHANCE_FAULTS, database.breaks_percent)) {
        return break_in_commit(conn, err);
    }
    return sql_sqlite.exec(conn, sql, err);
}

static bool
shared_post(struct sql_conn *conn, const char *sql, struct err *err)
{
    if (str_starts(sql, "NOTIFY ")) {
        database.news(database.ctx);
        return true;
    }
    return shared_exec(conn, sql, err);
}

/* One writer at a time is what there is: rows need no locks. */
static struct sql_stmt *
shared_prepare(struct sql_conn *conn, const char *sql, struct err *err)
{
    const char *lock = strstr(sql, LOCKING);
    AUTO(free)
    char *plain =
        lock ? xasprintf("%.*s%s", (int)(lock - sql), sql, lock + strlen(LOCKING))
             : xstrdup(sql);
    return sql_sqlite.prepare(conn, plain, err);
}

static bool
shared_listen(struct sql_conn *conn UNUSED, const char *channel UNUSED,
              struct err *err UNUSED)
{
    sim_abort("a thread listens to the database");
}

static bool
shared_await(struct sql_conn *conn UNUSED, const char *own UNUSED, int wake_fd UNUSED,
             int timeout_ms UNUSED, struct err *err UNUSED)
{
    sim_abort("a thread waits for the database");
}

const struct sql_driver *
database_driver(void)
{
    static struct sql_driver driver;
    if (!driver.shared) {
        driver = sql_sqlite;
        driver.shared = true;
        driver.open = shared_open;
        driver.close = shared_close;
        driver.alive = shared_alive;
        driver.exec = shared_exec;
        driver.post = shared_post;
        driver.prepare = shared_prepare;
        driver.listen = shared_listen;
        driver.await = shared_await;
    }
    return &driver;
}

void
database_begin(void (*news)(void *ctx), void *ctx)
{
    database.news = news;
    database.ctx = ctx;
}

void
database_away(int64_t until_ns)
{
    database.away_until_ns = until_ns;
    for (size_t i = 0; i < CONNS_MAX; i++) {
        database.conns[i].dead = true;
    }
}

void
database_breaks(unsigned percent)
{
    database.breaks_percent = percent;
}

int64_t
database_reach(int64_t until_ns)
{
    int64_t before = database.away_until_ns;
    database.away_until_ns = until_ns;
    return before;
}
