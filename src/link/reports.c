/* reports.c - see reports.h. */
#include "link/reports.h"

#include "base/map.h"

#define KEY_MAX 128

/* In the order of their sequence: first the sent ones, then the others. */
struct report {
    struct report *prev, *next;
    int64_t kind, sequence, revision;
    uint8_t *body;
    size_t len;
    bool event;
    char key[KEY_MAX]; /* Empty for events. */
};

struct reports {
    struct report *first, *last;
    struct report *unsent; /* The first that is not sent; NULL: all are. */
    struct map *by_key;
    size_t count, events, sent;
    int64_t sequence;
};

struct reports *
reports_create(void)
{
    struct reports *r = xcalloc(1, sizeof *r);
    r->by_key = map_create(NULL);
    return r;
}

/* Takes it out of the order, not out of the map. */
static void
report_unlink(struct reports *r, struct report *item)
{
    if (r->unsent == item) {
        r->unsent = item->next;
    } else if (!r->unsent || item->sequence < r->unsent->sequence) {
        r->sent--;
    }
    *(item->prev ? &item->prev->next : &r->first) = item->next;
    *(item->next ? &item->next->prev : &r->last) = item->prev;
    item->prev = item->next = NULL;
    r->count--;
}

static void
report_append(struct reports *r, struct report *item)
{
    item->sequence = ++r->sequence;
    item->prev = r->last;
    *(r->last ? &r->last->next : &r->first) = item;
    r->last = item;
    if (!r->unsent) {
        r->unsent = item;
    }
    r->count++;
}

static void
report_drop(struct reports *r, struct report *item)
{
    report_unlink(r, item);
    if (item->event) {
        r->events--;
    } else {
        map_del(r->by_key, item->key);
    }
    free(item->body);
    free(item);
}

void
reports_destroy(struct reports *r)
{
    if (r) {
        while (r->first) {
            report_drop(r, r->first);
        }
        map_destroy(r->by_key);
        free(r);
    }
}

static void
reports_drop_oldest_event(struct reports *r)
{
    for (struct report *item = r->first; item; item = item->next) {
        if (item->event) {
            report_drop(r, item);
            return;
        }
    }
}

/* The item to hold the news: the one that it replaces, or a new one; NULL when full. */
static struct report *
reports_item(struct reports *r, int64_t kind, const char *id)
{
    char key[KEY_MAX] = "";
    if (id) {
        int n = snprintf(key, sizeof key, "%" PRId64 " %s", kind, id);
        if (n < 0 || (size_t)n >= sizeof key) {
            return NULL; /* No id is as long as that. */
        }
        struct report *old = map_get(r->by_key, key);
        if (old) {
            report_unlink(r, old);
            free(old->body);
            return old;
        }
    } else if (r->events >= REPORTS_EVENTS_MAX) {
        reports_drop_oldest_event(r);
    }
    if (r->count >= REPORTS_MAX) {
        return NULL;
    }
    struct report *item = xcalloc(1, sizeof *item);
    item->kind = kind;
    item->event = !id;
    memcpy(item->key, key, sizeof key);
    if (id) {
        map_put(r->by_key, key, item);
    } else {
        r->events++;
    }
    return item;
}

bool
reports_put(struct reports *r, int64_t kind, const char *id, int64_t revision,
            const void *body, size_t len)
{
    struct report *item = reports_item(r, kind, id);
    if (!item) {
        return false;
    }
    item->revision = revision;
    item->body = xmalloc(len + 1);
    item->len = len;
    if (len) {
        memcpy(item->body, body, len);
    }
    report_append(r, item);
    return true;
}

bool
reports_next(struct reports *r, struct report_item *out)
{
    struct report *item = r->unsent;
    if (!item || r->sent >= REPORTS_WINDOW) {
        return false;
    }
    r->unsent = item->next;
    r->sent++;
    *out = (struct report_item){.kind = item->kind,
                                .sequence = item->sequence,
                                .revision = item->revision,
                                .body = {item->body, item->len}};
    return true;
}

void
reports_ack(struct reports *r, int64_t sequence)
{
    while (r->first && r->first != r->unsent && r->first->sequence <= sequence) {
        report_drop(r, r->first);
    }
}

void
reports_rewind(struct reports *r)
{
    r->unsent = r->first;
    r->sent = 0;
}

size_t
reports_count(const struct reports *r)
{
    return r->count;
}
