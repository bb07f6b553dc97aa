/* records.c - ListAuditRecords and ListEvents: what was called, what nodes told.
 *
 * Both tables grow without end and lie outside memory: they are read in bites, from
 * where the last page ended. */
#include "base/timefmt.h"
#include "service/moln/operators.h"

#define BITE 256
#define DAYS_MAX 366
#define DAY_NS (INT64_C(86400) * NS_PER_S)
#define DAY_LEN 11

/* ---- days ---- */

static void
day_text(int64_t ns, char out[DAY_LEN])
{
    char text[TIME_TEXT_LEN];
    time_iso(ns, text);
    (void)snprintf(out, DAY_LEN, "%.10s", text);
}

static bool
day_parse(const char *day, int64_t now_ns, int64_t *out_ns, struct err *err)
{
    char text[TIME_TEXT_LEN];
    if (!day) {
        *out_ns = now_ns - now_ns % DAY_NS;
        return true;
    }
    (void)snprintf(text, sizeof text, "%.10sT00:00:00Z", day);
    return time_parse(text, out_ns) ||
           err_set(err, ERR_VALIDATION, "'%.20s' is not a day", day);
}

/* A key "FIRST/SECOND" taken apart; both NULL when there is none. */
static void
key_split(struct call *call, const char *key, const char **first, const char **second)
{
    const char *slash = key ? strchr(key, '/') : NULL;
    *first = slash ? arena_strndup(call->arena, key, (size_t)(slash - key)) : NULL;
    *second = slash ? slash + 1 : NULL;
}

/* ---- ListAuditRecords ---- */

static struct moln_audit_record
record_out(const struct row_audit *row)
{
    return (struct moln_audit_record){
        .record_id = row->id,
        HAS(at, row->at),
        .account_id = str_empty(row->account) ? NULL : row->account,
        .access_key_id = str_empty(row->key_id) ? NULL : row->key_id,
        .service = row->service,
        .operation = row->operation,
        .region = row->region,
        .source_ip = row->source_ip,
        .user_agent = row->user_agent,
        .request_id = row->request_id,
        .error_code = str_empty(row->error) ? NULL : row->error,
        .detail = str_empty(row->detail) ? NULL : row->detail,
        .has_count = row->count > 1,
        .count = row->count,
    };
}

/* A page of records while it is filled. */
struct audit_page {
    struct listing listing;
    struct moln_audit_record *items;
    size_t count;
    const char *account; /* Only this one's; NULL: all. */
};

/* Adds a day's records from 'after' (NULL: its first) until the page is full. */
static bool
day_add(struct call *call, struct audit_page *page, const char *day,
        const char *after_id, struct err *err)
{
    const struct row_audit prefix = {.day = day};
    struct row_audit after = {.day = day, .id = after_id};
    struct row_query query = {.prefix = &prefix, .prefix_fields = 1, .limit = BITE};
    struct row_list list;
    do {
        query.after = after.id ? &after : NULL;
        if (!row_list(call->txn, &row_audit_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count && !page->listing.more; i++) {
            const struct row_audit *row = list.rows[i];
            after.id = row->id;
            if (page->account && !str_eq(page->account, row->account)) {
                continue;
            }
            if (listing_take(&page->listing,
                             arena_printf(call->arena, "%s/%s", row->day, row->id))) {
                page->items[page->count++] = record_out(row);
            }
        }
    } while (list.count == BITE && !page->listing.more);
    return true;
}

bool
moln_list_audit_records(struct call *call,
                        const struct moln_list_audit_records_request *in,
                        struct moln_list_audit_records_response *out, struct err *err)
{
    int64_t from_ns, to_ns;
    struct audit_page page = {.account = in->account_id};
    if (!day_parse(in->from_day, call->now_ns, &from_ns, err) ||
        !day_parse(in->to_day, call->now_ns, &to_ns, err)) {
        return false;
    }
    if (to_ns < from_ns || (to_ns - from_ns) / DAY_NS > DAYS_MAX) {
        return err_set(
            err, ERR_VALIDATION,
            "FromDay must not be after ToDay, nor more than %d days before it",
            DAYS_MAX);
    }
    const char *query = arena_printf(call->arena, "%" PRId64 " %" PRId64 " %s", from_ns,
                                     to_ns, in->account_id ? in->account_id : "");
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token, query,
                      &page.listing, err)) {
        return false;
    }
    const char *after_day, *after_id;
    page.items = ARENA_ARRAY(call->arena, page.listing.left, struct moln_audit_record);
    key_split(call, page.listing.after, &after_day, &after_id);
    for (int64_t at = from_ns; at <= to_ns && !page.listing.more; at += DAY_NS) {
        char day[DAY_LEN];
        day_text(at, day);
        int order = after_day ? strcmp(day, after_day) : 1;
        if (order >= 0 && !day_add(call, &page, arena_strdup(call->arena, day),
                                   order == 0 ? after_id : NULL, err)) {
            return false;
        }
    }
    out->records.items = page.items;
    out->records.count = page.count;
    out->next_token = listing_next(call, &page.listing);
    return true;
}

/* ---- ListEvents ---- */

static struct moln_event
event_out(const struct row_node_event *row)
{
    return (struct moln_event){
        .event_id = row->id,
        .node_id = row->node_id,
        HAS(at, row->at),
        .kind = row->kind,
        .level = row->level,
        .object = str_empty(row->object) ? NULL : row->object,
        .message = row->message,
    };
}

bool
moln_list_events(struct call *call, const struct moln_list_events_request *in,
                 struct moln_list_events_response *out, struct err *err)
{
    const struct row_node_event prefix = {.node_id = in->node_id};
    struct row_query query = {
        .prefix = &prefix, .prefix_fields = in->node_id ? 1 : 0, .limit = BITE};
    struct row_node_event after = {0};
    struct listing listing;
    struct row_list list;
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token,
                      arena_printf(call->arena, "%s %" PRId64,
                                   in->node_id ? in->node_id : "", in->since),
                      &listing, err)) {
        return false;
    }
    key_split(call, listing.after, &after.node_id, &after.id);
    struct moln_event *items =
        ARENA_ARRAY(call->arena, listing.left, struct moln_event);
    size_t count = 0;
    do {
        query.after = after.id ? &after : NULL;
        if (!row_list(call->txn, &row_node_event_type, &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count && !listing.more; i++) {
            const struct row_node_event *row = list.rows[i];
            after.node_id = row->node_id;
            after.id = row->id;
            if (row->at >= in->since &&
                listing_take(&listing, arena_printf(call->arena, "%s/%s", row->node_id,
                                                    row->id))) {
                items[count++] = event_out(row);
            }
        }
    } while (list.count == BITE && !listing.more);
    out->events.items = items;
    out->events.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}
