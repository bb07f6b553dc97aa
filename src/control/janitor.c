/* janitor.c - see janitor.h. */
#include "control/janitor.h"

#include "base/log.h"
#include "base/timefmt.h"
#include "control/blob_sweep.h"
#include "control/client_tokens.h"
#include "control/ended.h"
#include "control/flow_files.h"
#include "control/members.h"
#include "core/instance_rows.h"
#include "core/lifecycle.h"
#include "core/migration_rows.h"

#define ROUND_MS 60000
#define HOUR_NS (3600 * NS_PER_S)
#define AUDIT_KEPT_NS \
    (90 * 24 * HOUR_NS) /* As CloudTrail's event history; events too. */
#define BATCH 2000      /* Rows of one kind changed in one transaction... */
#define BATCHES_MAX 500 /* ...and such transactions in one round. */

struct janitor {
    struct nodes_config config;
    uv_timer_t timer;
    uv_work_t work;
    bool working, closing;
};

struct round {
    struct janitor *janitor;
    int64_t now_ns;
    bool more;           /* A batch was full: others may be past their time too. */
    const char *blob_id; /* For blob_forget. */
    struct row_list blobs;
};

static bool
each_row(struct txn *txn, const struct row_type *type, struct round *round,
         bool (*fn)(struct txn *txn, struct round *round, const void *row,
                    bool *out_changed, struct err *err),
         struct err *err)
{
    struct row_list list;
    struct row_query query = {0};
    if (!row_list(txn, type, &query, &list, err)) {
        return false;
    }
    unsigned changes = 0;
    for (size_t i = 0; i < list.count && changes < BATCH; i++) {
        bool changed = false;
        if (!fn(txn, round, list.rows[i], &changed, err)) {
            return false;
        }
        changes += changed;
    }
    round->more = round->more || changes == BATCH;
    return true;
}

static bool
hide_instance(struct txn *txn, struct round *round, const void *row, bool *out_changed,
              struct err *err)
{
    const struct row_instance *i = row;
    if (i->hidden || !i->terminated_at || instance_visible(i, round->now_ns)) {
        return true;
    }
    *out_changed = true;
    return instance_hide(txn, i, err);
}

static bool
forget_ticket(struct txn *txn, struct round *round, const void *row, bool *out_changed,
              struct err *err)
{
    const struct row_tunnel_ticket *t = row;
    if (t->expires_at > round->now_ns) {
        return true;
    }
    *out_changed = true;
    return row_delete(txn, &row_tunnel_ticket_type, t, err);
}

static bool
forget_join_token(struct txn *txn, struct round *round, const void *row,
                  bool *out_changed, struct err *err)
{
    const struct row_node_token *t = row;
    if (t->expires_at + 24 * HOUR_NS > round->now_ns) {
        return true;
    }
    *out_changed = true;
    return row_delete(txn, &row_node_token_type, t, err);
}

/* The audit's key begins with its day: old days are the first rows. */
static bool
forget_audit(struct txn *txn, struct round *round, struct err *err)
{
    char oldest[TIME_TEXT_LEN];
    time_iso(round->now_ns - AUDIT_KEPT_NS, oldest);
    oldest[10] = '\0';
    struct row_list list;
    struct row_query query = {.limit = BATCH};
    if (!row_list(txn, &row_audit_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_audit *a = list.rows[i];
        if (strcmp(a->day, oldest) >= 0) {
            return true;
        }
        if (!row_delete(txn, &row_audit_type, a, err)) {
            return false;
        }
    }
    round->more = round->more || list.count == BATCH;
    return true;
}

static bool
forget_events(struct txn *txn, struct round *round, struct err *err)
{
    struct row_list list;
    const struct row_query query = {.index = "by_time", .limit = BATCH};
    if (!row_list(txn, &row_node_event_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_event *event = list.rows[i];
        if (event->at >= round->now_ns - AUDIT_KEPT_NS) {
            return true;
        }
        if (!row_delete(txn, &row_node_event_type, event, err)) {
            return false;
        }
    }
    round->more = round->more || list.count == BATCH;
    return true;
}

/* What has files of its own. */
static bool
forget_others(struct txn *txn, struct round *round, struct err *err)
{
    bool more_ended, more_tokens;
    if (!ended_forget(txn, round->now_ns, BATCH, &more_ended, err) ||
        !client_tokens_forget(txn, round->now_ns, BATCH, &more_tokens, err)) {
        return false;
    }
    round->more = round->more || more_ended || more_tokens;
    return true;
}

static bool
round_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct round *round = ctx;
    round->more = false;
    return each_row(txn, &row_instance_type, round, hide_instance, err) &&
           each_row(txn, &row_tunnel_ticket_type, round, forget_ticket, err) &&
           each_row(txn, &row_node_token_type, round, forget_join_token, err) &&
           forget_audit(txn, round, err) && forget_events(txn, round, err) &&
           forget_others(txn, round, err) &&
           migrations_prune(txn, round->now_ns, BATCH, err);
}

/* As often as there is more: what comes in a minute must not be more than what goes. */
bool
janitor_forget(struct store *store, int64_t now_ns, struct err *err)
{
    struct round round = {.now_ns = now_ns, .more = true};
    for (int i = 0; round.more && i < BATCHES_MAX; i++) {
        AUTO(arena) struct arena *arena = arena_create();
        if (!store_write(store, arena, round_txn, &round, err)) {
            return false;
        }
    }
    return true;
}

static bool
sweep_txn(struct txn *txn, void *ctx, struct err *err)
{
    const struct round *round = ctx;
    return blob_sweep(txn, round->now_ns, err);
}

static bool
blobs_read(struct txn *txn, void *ctx, struct err *err)
{
    struct round *round = ctx;
    struct row_query query = {0};
    return row_list(txn, &row_blob_type, &query, &round->blobs, err);
}

static bool
blob_forget(struct txn *txn, void *ctx, struct err *err)
{
    struct round *round = ctx;
    return row_delete(txn, &row_blob_type, &(struct row_blob){.id = round->blob_id},
                      err);
}

/* File first, row second: a crash between leaves a row that asks again. */
static void
sweep_blobs(struct round *round)
{
    struct nodes_config *config = &round->janitor->config;
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    if (!store_read(config->store, arena, blobs_read, round, &err)) {
        log_warn("janitor: %s", err.msg);
        return;
    }
    for (size_t i = 0; i < round->blobs.count; i++) {
        const struct row_blob *blob = round->blobs.rows[i];
        if (!str_eq(blob->state, "deleting")) {
            continue;
        }
        round->blob_id = blob->id;
        if (!blob_delete(config->blobs, blob->id, &err) ||
            !store_write(config->store, arena, blob_forget, round, &err)) {
            log_warn("janitor: blob %s: %s", blob->id, err.msg);
        }
    }
}

/* On a worker of the loop: the round may wait for the disk. */
static void
on_work(uv_work_t *work)
{
    struct janitor *j = work->data;
    if (j->config.cloud->flow_logs_dir) {
        flow_files_prune(j->config.cloud->flow_logs_dir, clock_real(j->config.clock));
    }
    if (!members_owns(j->config.members, "janitor")) {
        return; /* Another process does it. */
    }
    struct round round = {.janitor = j, .now_ns = clock_real(j->config.clock)};
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    if (!janitor_forget(j->config.store, round.now_ns, &err) ||
        !store_write(j->config.store, arena, sweep_txn, &round, &err)) {
        log_warn("janitor: %s", err.msg);
    }
    sweep_blobs(&round);
}

static void
on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void
on_work_done(uv_work_t *work, int status UNUSED)
{
    struct janitor *j = work->data;
    j->working = false;
    if (j->closing) {
        uv_close((uv_handle_t *)&j->timer, on_closed);
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct janitor *j = timer->data;
    if (!j->working) {
        j->working = true;
        uv_queue_work(j->config.loop, &j->work, on_work, on_work_done);
    }
}

struct janitor *
janitor_create(const struct nodes_config *config)
{
    struct janitor *j = xcalloc(1, sizeof *j);
    j->config = *config;
    uv_timer_init(config->loop, &j->timer);
    j->timer.data = j->work.data = j;
    uv_timer_start(&j->timer, on_timer, 1000, ROUND_MS);
    return j;
}

void
janitor_close(struct janitor *j)
{
    if (!j || j->closing) {
        return;
    }
    j->closing = true;
    uv_timer_stop(&j->timer);
    if (!j->working) {
        uv_close((uv_handle_t *)&j->timer, on_closed);
    }
}
