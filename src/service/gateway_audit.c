/* gateway_audit.c - who did what, from where, and how it ended.
 *
 * A writing call's row goes with its own transaction. All others are gathered and
 * written together a moment later; reads that differ in nothing but their time and
 * request id become one row with their count, so that a client that reads ten thousand
 * times a second does not write as often. So do refused calls of a stranger, whatever key
 * he says is his: nobody without a key fills the database. */
#include "base/log.h"
#include "base/map.h"
#include "base/timefmt.h"
#include "service/gateway_parts.h"
#include <errno.h>
#include <time.h>

#define FLUSH_MS 250
#define PENDING_MAX 20000 /* Distinct rows; beyond, callers wait for the flush. */

struct pending {
    struct row_audit row; /* Texts belong to this. */
    char *texts;
    struct pending *next;
};

struct audit {
    struct store *store;
    pthread_mutex_t lock;
    pthread_cond_t changed, flushed;
    struct pending *first, **end;
    struct map *alike; /* What makes reads alike, to struct pending of 'first'. */
    size_t count;
    bool stopping, runs;
    pthread_t thread;
};

static void *audit_thread(void *ctx);

struct audit *
audit_create(struct store *store)
{
    struct audit *audit = xcalloc(1, sizeof *audit);
    audit->store = store;
    audit->end = &audit->first;
    audit->alike = map_create(NULL);
    pthread_mutex_init(&audit->lock, NULL);
    pthread_cond_init(&audit->flushed, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&audit->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    audit->runs = pthread_create(&audit->thread, NULL, audit_thread, audit) == 0;
    return audit;
}

void
audit_destroy(struct audit *audit)
{
    if (!audit) {
        return;
    }
    pthread_mutex_lock(&audit->lock);
    audit->stopping = true;
    pthread_cond_signal(&audit->changed);
    pthread_mutex_unlock(&audit->lock);
    if (audit->runs) {
        pthread_join(audit->thread, NULL);
    }
    map_destroy(audit->alike);
    pthread_cond_destroy(&audit->changed);
    pthread_cond_destroy(&audit->flushed);
    pthread_mutex_destroy(&audit->lock);
    free(audit);
}

/* ---- a row ----------------------------------------------------------------------- */

#define DAY_LEN 11
#define AUDIT_ID_LEN 48
#define AGENT_LEN 256

/* Fills 'row', which borrows from the visit and from 'day' and 'id'. The request's id
 * makes the row's id unique, also among several control processes. */
static void
fill_row(const struct visit *visit, char day[DAY_LEN], char id[AUDIT_ID_LEN],
         struct row_audit *row)
{
    char iso[TIME_TEXT_LEN];
    time_iso(visit->now_ns, iso);
    memcpy(day, iso, DAY_LEN - 1);
    day[DAY_LEN - 1] = '\0';
    (void)snprintf(id, AUDIT_ID_LEN, "%016" PRIx64 "-%.8s", (uint64_t)visit->now_ns,
                   visit->request_id);
    const char *service = visit->claim.service;
    *row = (struct row_audit){
        .day = day,
        .id = id,
        .at = visit->now_ns,
        .account = visit->known ? visit->who.account : NULL,
        .key_id = visit->claim.key_id,
        .service = service,
        .operation = visit->operation_name,
        .source_ip = visit->request->source_ip,
        .user_agent = http_header(visit->request, "user-agent"),
        .request_id = visit->request_id,
        .error = visit->err.code ? err_info(visit->err.code)->aws : NULL,
        .region = visit->known ? visit->claim.region : NULL,
        .detail = visit->detail,
    };
}

bool
audit_write(struct txn *txn, const struct visit *visit, struct err *err)
{
    char day[DAY_LEN], id[AUDIT_ID_LEN];
    struct row_audit row;
    fill_row(visit, day, id, &row);
    if (row.user_agent && strlen(row.user_agent) >= AGENT_LEN) {
        row.user_agent = arena_strndup(txn_arena(txn), row.user_agent, AGENT_LEN - 1);
    }
    return row_put(txn, &row_audit_type, &row, err);
}

/* ---- gathering ------------------------------------------------------------------- */

/* Copies 'text', cut to 'limit', to '*room'; the copy, or NULL for none. */
static const char *
keep_text(char **room, const char *text, size_t limit)
{
    if (str_empty(text)) {
        return NULL;
    }
    char *at = *room;
    size_t len = MIN(strlen(text), limit - 1);
    memcpy(at, text, len);
    at[len] = '\0';
    *room = at + len + 1;
    return at;
}

static struct pending *
pending_create(const struct row_audit *row)
{
    struct pending *p = xcalloc(1, sizeof *p);
    p->texts = xmalloc(DAY_LEN + AUDIT_ID_LEN + 64 * 8 + 2 * AGENT_LEN);
    char *room = p->texts;
    p->row = *row;
    p->row.day = keep_text(&room, row->day, DAY_LEN);
    p->row.id = keep_text(&room, row->id, AUDIT_ID_LEN);
    p->row.account = keep_text(&room, row->account, 64);
    p->row.key_id = keep_text(&room, row->key_id, 64);
    p->row.service = keep_text(&room, row->service, 64);
    p->row.operation = keep_text(&room, row->operation, 64);
    p->row.source_ip = keep_text(&room, row->source_ip, 64);
    p->row.request_id = keep_text(&room, row->request_id, 64);
    p->row.error = keep_text(&room, row->error, 64);
    p->row.region = keep_text(&room, row->region, 64);
    p->row.user_agent = keep_text(&room, row->user_agent, AGENT_LEN);
    p->row.detail = keep_text(&room, row->detail, AGENT_LEN);
    return p;
}

static void
pending_destroy(struct pending *p)
{
    free(p->texts);
    free(p);
}

/* What two calls must share to be one row; the empty text: this one stands alone. */
static void
alike_key(const struct visit *visit, const struct row_audit *row, char *out,
          size_t size)
{
    bool reads = visit->operation && !visit->operation->writes && !row->detail;
    *out = '\0';
    if (!visit->known) {
        (void)snprintf(out, size, "%s %s %s", row->day, row->error ? row->error : "",
                       row->source_ip ? row->source_ip : "");
    } else if (reads) {
        (void)snprintf(out, size, "%s %s %s %s %s %s %.256s", row->day, row->key_id,
                       row->operation, row->region ? row->region : "",
                       row->error ? row->error : "",
                       row->source_ip ? row->source_ip : "",
                       row->user_agent ? row->user_agent : "");
    }
}

void
audit_note(struct audit *audit, const struct visit *visit)
{
    char day[DAY_LEN], id[AUDIT_ID_LEN], key[768];
    struct row_audit row;
    fill_row(visit, day, id, &row);
    alike_key(visit, &row, key, sizeof key);
    pthread_mutex_lock(&audit->lock);
    struct pending *p = *key ? map_get(audit->alike, key) : NULL;
    if (p) {
        p->row.count = p->row.count ? p->row.count + 1 : 2;
        p->row.last_at = row.at;
        pthread_mutex_unlock(&audit->lock);
        return;
    }
    while (audit->count >= PENDING_MAX && audit->runs && !audit->stopping) {
        pthread_cond_wait(&audit->flushed, &audit->lock);
    }
    p = pending_create(&row);
    *audit->end = p;
    audit->end = &p->next;
    audit->count++;
    if (*key) {
        map_put(audit->alike, key, p);
    }
    pthread_cond_signal(&audit->changed);
    pthread_mutex_unlock(&audit->lock);
}

/* ---- writing --------------------------------------------------------------------- */

static bool
write_all(struct txn *txn, void *ctx, struct err *err)
{
    for (const struct pending *p = ctx; p; p = p->next) {
        if (!row_put(txn, &row_audit_type, &p->row, err)) {
            return false;
        }
    }
    return true;
}

static void
flush(struct audit *audit, struct pending *first)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    if (first && !store_write(audit->store, arena, write_all, first, &err)) {
        log_error("audit: calls could not be recorded: %s", err.msg);
    }
    while (first) {
        struct pending *next = first->next;
        pending_destroy(first);
        first = next;
    }
}

static void *
audit_thread(void *ctx)
{
    struct audit *audit = ctx;
    pthread_mutex_lock(&audit->lock);
    while (!audit->stopping || audit->first) {
        if (!audit->first) {
            pthread_cond_wait(&audit->changed, &audit->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += FLUSH_MS * NS_PER_MS;
        until.tv_sec += until.tv_nsec / NS_PER_S;
        until.tv_nsec %= NS_PER_S;
        while (!audit->stopping && audit->count < PENDING_MAX / 2 &&
               pthread_cond_timedwait(&audit->changed, &audit->lock, &until) !=
                   ETIMEDOUT) {
        }
        struct pending *first = audit->first;
        audit->first = NULL;
        audit->end = &audit->first;
        audit->count = 0;
        map_destroy(audit->alike);
        audit->alike = map_create(NULL);
        pthread_cond_broadcast(&audit->flushed);
        pthread_mutex_unlock(&audit->lock);
        flush(audit, first);
        pthread_mutex_lock(&audit->lock);
    }
    pthread_mutex_unlock(&audit->lock);
    return NULL;
}
