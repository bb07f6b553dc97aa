/* members.c - see members.h. */
#include "control/members.h"

#include "base/crypto.h"
#include "base/log.h"
#include "control/mailbox.h"
#include "core/share.h"
#include "store/rows.h"

#include <pthread.h>

#define RENEW_EVERY_MS 3000
#define LEASE_NS (10 * NS_PER_S)
#define CLOCKS_APART_NS (2 * NS_PER_S) /* As far as hosts' clocks may differ. */
#define MEMBERS_MAX 64

struct members {
    struct members_config config;
    char id[65], run[33];
    char *link;
    int64_t started_at;
    struct mailbox *mailbox;
    uv_timer_t timer;
    struct arena *renewing; /* Of the renewal under way, or NULL. */
    bool closing, told_of_twin;
    pthread_mutex_t lock; /* Guards what follows: the members as last read. */
    char ids[MEMBERS_MAX][65];
    size_t count;
};

/* ---- whose work? ----------------------------------------------------------------- */

bool
members_owns(struct members *m, const char *key)
{
    const char *best = NULL;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        if (share_outweighs(m->ids[i], best, key)) {
            best = m->ids[i];
        }
    }
    bool ours = !best || str_eq(best, m->id);
    pthread_mutex_unlock(&m->lock);
    return ours;
}

static bool
read_rows(struct txn *txn, struct row_list *out, struct err *err)
{
    struct row_query query = {0};
    return row_list(txn, &row_control_type, &query, out, err);
}

bool
members_holds(struct members *m, struct txn *txn, const char *key, bool *out,
              struct err *err)
{
    struct row_list rows;
    const struct row_control *best = NULL;
    if (!read_rows(txn, &rows, err)) {
        return false;
    }
    for (size_t i = 0; i < rows.count; i++) {
        const struct row_control *row = rows.rows[i];
        if (share_outweighs(row->id, best ? best->id : NULL, key)) {
            best = row;
        }
    }
    *out = best && str_eq(best->id, m->id) && str_eq(best->run, m->run);
    return true;
}

const char *
members_id(const struct members *m)
{
    return m->id;
}

const char *
members_run(const struct members *m)
{
    return m->run;
}

size_t
members_count(struct members *m)
{
    pthread_mutex_lock(&m->lock);
    size_t count = m->count;
    pthread_mutex_unlock(&m->lock);
    return MAX(count, 1);
}

/* ---- the rows -------------------------------------------------------------------- */

/* Its nodes have no stream any more, until they open one to another process. */
static bool
forget_streams(struct txn *txn, const char *run, struct err *err)
{
    struct row_list streams;
    struct row_query query = {0};
    if (!row_list(txn, &row_node_stream_type, &query, &streams, err)) {
        return false;
    }
    for (size_t i = 0; i < streams.count; i++) {
        const struct row_node_stream *stream = streams.rows[i];
        const struct row_node_seen *seen;
        struct row_node_seen key = {.id = stream->id};
        if (!str_eq(stream->run, run)) {
            continue;
        }
        if (!row_delete(txn, &row_node_stream_type, stream, err) ||
            !row_get(txn, &row_node_seen_type, &key, (const void **)&seen, err)) {
            return false;
        }
        if (seen) {
            key = *seen;
            key.connected = false;
            if (!row_put(txn, &row_node_seen_type, &key, err)) {
                return false;
            }
        }
    }
    return true;
}

static bool
remove_member(struct txn *txn, const struct row_control *row, struct err *err)
{
    return forget_streams(txn, row->run, err) &&
           row_delete(txn, &row_control_type, row, err);
}

static bool
put_own(struct members *m, struct txn *txn, int64_t now_ns, struct err *err)
{
    struct row_control row = {
        .id = m->id,
        .run = m->run,
        .link = m->link,
        .started_at = m->started_at,
        .lease_until = m->config.alone ? 0 : now_ns + LEASE_NS,
        .version = MOLN_VERSION,
    };
    return row_put(txn, &row_control_type, &row, err);
}

/* Renews our lease, and removes whose lease has run out. */
static bool
renew_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct members *m = ctx;
    struct row_list rows;
    int64_t now_ns = clock_real(m->config.clock);
    if (!read_rows(txn, &rows, err)) {
        return false;
    }
    for (size_t i = 0; i < rows.count; i++) {
        const struct row_control *row = rows.rows[i];
        if (str_eq(row->id, m->id)) {
            if (!str_eq(row->run, m->run)) {
                return err_set(err, ERR_EXISTS,
                               "another control process was started as %s: was its "
                               "state folder copied? This one does no more work",
                               m->id);
            }
        } else if (row->lease_until + CLOCKS_APART_NS < now_ns) {
            log_warn("control: process %s is gone; its work goes to the others",
                     row->id);
            if (!remove_member(txn, row, err)) {
                return false;
            }
        }
    }
    return put_own(m, txn, now_ns, err);
}

/* The place of an earlier run, and, where there can be no other process, of all. */
static bool
enter_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct members *m = ctx;
    struct row_list rows;
    int64_t now_ns = clock_real(m->config.clock);
    if (!read_rows(txn, &rows, err)) {
        return false;
    }
    size_t others = 0;
    for (size_t i = 0; i < rows.count; i++) {
        const struct row_control *row = rows.rows[i];
        bool ours = str_eq(row->id, m->id);
        if ((ours || m->config.alone) && !remove_member(txn, row, err)) {
            return false;
        }
        others += !ours && !m->config.alone;
    }
    if (others >= MEMBERS_MAX) {
        return err_set(err, ERR_RANGE, "more than %d control processes", MEMBERS_MAX);
    }
    return put_own(m, txn, now_ns, err);
}

static bool
link_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct members *m = ctx;
    return put_own(m, txn, clock_real(m->config.clock), err);
}

bool
members_set_link(struct members *m, const char *link, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    free(m->link);
    m->link = xstrdup(link);
    return store_write(m->config.store, arena, link_txn, m, err);
}

bool
members_links(struct members *m, struct txn *txn, struct desc_list *out,
              struct err *err)
{
    struct row_list rows;
    if (!read_rows(txn, &rows, err)) {
        return false;
    }
    const char **links = ARENA_ARRAY(txn_arena(txn), rows.count + 1, const char *);
    size_t count = 0;
    for (unsigned others = 0; others < 2; others++) {
        for (size_t i = 0; i < rows.count; i++) {
            const struct row_control *row = rows.rows[i];
            if (str_eq(row->id, m->id) != others && !str_empty(row->link)) {
                links[count++] = row->link;
            }
        }
    }
    *out = (struct desc_list){links, count};
    return true;
}

static bool
leave_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct members *m = ctx;
    const struct row_control *row;
    struct row_control key = {.id = m->id};
    return row_get(txn, &row_control_type, &key, (const void **)&row, err) &&
           (!row || !str_eq(row->run, m->run) || remove_member(txn, row, err));
}

/* ---- knowing them ---------------------------------------------------------------- */

struct look {
    struct row_list rows;
};

static bool
look_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct look *look = ctx;
    return read_rows(txn, &look->rows, err);
}

/* True when others are members than before. */
static bool
keep(struct members *m, const struct row_list *rows)
{
    pthread_mutex_lock(&m->lock);
    size_t count = MIN(rows->count, MEMBERS_MAX);
    bool changed = count != m->count;
    for (size_t i = 0; i < count; i++) {
        const struct row_control *row = rows->rows[i];
        changed = changed || !str_eq(m->ids[i], row->id);
        (void)snprintf(m->ids[i], sizeof m->ids[i], "%s", row->id);
    }
    m->count = count;
    pthread_mutex_unlock(&m->lock);
    return changed;
}

static void
look_again(void *ctx)
{
    struct members *m = ctx;
    AUTO(arena) struct arena *arena = arena_create();
    struct look look;
    struct err err = {0};
    if (m->closing) {
        return;
    }
    if (!store_read(m->config.store, arena, look_txn, &look, &err)) {
        log_warn("control: who else is there? %s", err.msg); /* The timer asks again. */
    } else if (keep(m, &look.rows) && !m->config.changed(m->config.ctx)) {
        pthread_mutex_lock(&m->lock);
        m->count = 0; /* Nobody known: the next look finds a change again. */
        pthread_mutex_unlock(&m->lock);
    }
}

void
members_changed(struct members *m)
{
    mailbox_post(m->mailbox, look_again, m);
}

/* ---- life ------------------------------------------------------------------------ */

static void members_end(struct members *m);

static void
on_renewed_home(void *ctx)
{
    struct members *m = ctx;
    arena_destroy(m->renewing);
    m->renewing = NULL;
    if (m->closing) {
        members_end(m);
    } else {
        look_again(m);
    }
}

/* On the store's writer thread. */
static void
on_renewed(void *ctx, const struct err *err)
{
    struct members *m = ctx;
    if (err->code == ERR_EXISTS && !m->told_of_twin) {
        log_error("control: %s", err->msg);
        m->told_of_twin = true;
    } else if (err->code != ERR_NONE && err->code != ERR_EXISTS) {
        log_warn("control: renewing the lease: %s", err->msg);
    }
    mailbox_post(m->mailbox, on_renewed_home, m);
}

static void
on_timer(uv_timer_t *timer)
{
    struct members *m = timer->data;
    if (!m->renewing) {
        m->renewing = arena_create();
        store_write_async(m->config.store, m->renewing, renew_txn, on_renewed, m);
    }
}

struct members *
members_create(const struct members_config *config, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct members *m = xcalloc(1, sizeof *m);
    struct look look;
    uint8_t random[16];
    m->config = *config;
    m->link = xstrdup("");
    m->started_at = clock_real(config->clock);
    (void)snprintf(m->id, sizeof m->id, "%s", config->id ? config->id : "control");
    config->rng->fill(config->rng->ctx, random, sizeof random);
    hex_encode(random, sizeof random, m->run);
    pthread_mutex_init(&m->lock, NULL);
    if (!store_write(config->store, arena, enter_txn, m, err) ||
        !store_read(config->store, arena, look_txn, &look, err)) {
        pthread_mutex_destroy(&m->lock);
        free(m->link);
        free(m);
        return NULL;
    }
    (void)keep(m, &look.rows);
    m->mailbox = mailbox_create(config->loop);
    uv_timer_init(config->loop, &m->timer);
    m->timer.data = m;
    if (!config->alone) {
        uv_timer_start(&m->timer, on_timer, RENEW_EVERY_MS, RENEW_EVERY_MS);
    }
    return m;
}

static void
on_timer_closed(uv_handle_t *handle)
{
    struct members *m = handle->data;
    pthread_mutex_destroy(&m->lock);
    free(m->link);
    free(m);
}

static void
members_end(struct members *m)
{
    mailbox_close(m->mailbox);
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
}

void
members_close(struct members *m)
{
    if (!m || m->closing) {
        return;
    }
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    m->closing = true;
    uv_timer_stop(&m->timer);
    if (!store_write(m->config.store, arena, leave_txn, m, &err)) {
        log_warn("control: leaving: %s", err.msg);
    }
    if (!m->renewing) {
        members_end(m);
    }
}
