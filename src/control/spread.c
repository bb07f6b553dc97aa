/* spread.c - see spread.h. */
#include "control/spread.h"

#include "base/log.h"
#include "control/members.h"
#include "core/share.h"

#define LOOK_MS 3000    /* While streams are on their way. */
#define REST_MS 60000   /* When all is even. */
#define AT_ONCE_LEAST 4 /* Streams ended in one look... */
#define AT_ONCE_PART 20 /* ...or this part of those that are too many. */
#define TRIES_MAX 3     /* Ends of one node's stream before it may stay. */

/* A node that is sent away. */
struct mover {
    char place[280];
    unsigned tries;
};

struct spread {
    struct nodes *nodes;
    uv_timer_t timer;
    struct map *movers; /* By node id. */
    bool rests;         /* All was even. */
};

/* What the rows say. */
struct picture {
    const struct nodes *nodes;
    const char **ids, **links; /* Of the processes that nodes can reach. */
    size_t members;
    size_t us;            /* A position, or SIZE_MAX. */
    const char **streams; /* Ids of the nodes that have one and could have another. */
    const char **runs;    /* Whose it is. */
    size_t count;
};

static bool
picture_members(struct picture *p, struct txn *txn, struct err *err)
{
    struct row_list rows;
    const struct row_query all = {0};
    if (!row_list(txn, &row_control_type, &all, &rows, err)) {
        return false;
    }
    p->ids = ARENA_ARRAY(txn_arena(txn), rows.count + 1, const char *);
    p->links = ARENA_ARRAY(txn_arena(txn), rows.count + 1, const char *);
    p->members = 0;
    p->us = SIZE_MAX;
    for (size_t i = 0; i < rows.count; i++) {
        const struct row_control *row = rows.rows[i];
        if (!str_empty(row->link)) {
            p->us = str_eq(row->run, members_run(p->nodes->config.members)) ? p->members
                                                                            : p->us;
            p->links[p->members] = row->link;
            p->ids[p->members++] = row->id;
        }
    }
    return true;
}

static bool
picture_read(struct txn *txn, void *ctx, struct err *err)
{
    struct picture *p = ctx;
    struct row_list rows;
    const struct row_query all = {0};
    if (!picture_members(p, txn, err) ||
        !row_list(txn, &row_node_stream_type, &all, &rows, err)) {
        return false;
    }
    p->streams = ARENA_ARRAY(txn_arena(txn), rows.count + 1, const char *);
    p->runs = ARENA_ARRAY(txn_arena(txn), rows.count + 1, const char *);
    p->count = 0;
    for (size_t i = 0; i < rows.count; i++) {
        const struct row_node_stream *row = rows.rows[i];
        const struct row_node *node;
        if (!row_get(txn, &row_node_type, &(struct row_node){.id = row->id},
                     (const void **)&node, err)) {
            return false;
        }
        if (node && !node->local) {
            p->runs[p->count] = row->run;
            p->streams[p->count++] = row->id;
        }
    }
    return true;
}

static size_t
count_ours(const struct picture *p)
{
    size_t ours = 0;
    for (size_t i = 0; i < p->count; i++) {
        ours += str_eq(p->runs[i], members_run(p->nodes->config.members));
    }
    return ours;
}

/* Whether its stream was ended: it is here, idle, and was not sent away in vain. */
static bool
send_away(struct spread *s, const char *node_id, const char *place)
{
    struct link_peer *peer = nodes_peer(s->nodes, node_id);
    struct mover *mover = map_get(s->movers, node_id);
    if (!peer || link_peer_carries(peer) || (mover && mover->tries >= TRIES_MAX)) {
        return false;
    }
    if (!mover) {
        mover = xcalloc(1, sizeof *mover);
        map_put(s->movers, node_id, mover);
    }
    (void)snprintf(mover->place, sizeof mover->place, "%s", place);
    mover->tries++;
    log_info("control: node %s: its stream's place is %s", node_id, place);
    link_peer_close(peer, "its place is with another control process");
    return true;
}

/* Ends some of what is too much here. Returns how many. */
static size_t
even_out(struct spread *s, const struct picture *p, struct arena *arena)
{
    size_t ours = count_ours(p), limit = share_limit(p->members, p->count);
    size_t ended = 0;
    if (p->us == SIZE_MAX || p->members < 2 || ours <= limit) {
        return 0;
    }
    size_t *homes = ARENA_ARRAY(arena, p->count, size_t);
    size_t at_once = MIN(ours - limit, MAX(ours / AT_ONCE_PART, AT_ONCE_LEAST));
    share_streams(p->ids, p->members, p->streams, p->count, homes);
    for (size_t i = 0; i < p->count && ended < at_once; i++) {
        if (homes[i] != p->us &&
            str_eq(p->runs[i], members_run(s->nodes->config.members))) {
            ended += send_away(s, p->streams[i], p->links[homes[i]]);
        }
    }
    return ended;
}

static void
on_look(uv_timer_t *timer)
{
    struct spread *s = timer->data;
    AUTO(arena) struct arena *arena = arena_create();
    struct picture picture = {.nodes = s->nodes};
    struct err err = {0};
    bool more = true;
    if (!store_read(s->nodes->config.store, arena, picture_read, &picture, &err)) {
        log_warn("control: sharing out the nodes' streams: %s", err.msg);
    } else {
        more = even_out(s, &picture, arena) > 0;
    }
    s->rests = !more;
    (void)uv_timer_start(&s->timer, on_look, more ? LOOK_MS : REST_MS, 0);
}

void
spread_news(struct spread *s)
{
    if (s && s->rests) {
        s->rests = false;
        (void)uv_timer_start(&s->timer, on_look, LOOK_MS, 0);
    }
}

const char *
spread_place(struct spread *s, const char *node_id)
{
    const struct mover *mover = s ? map_get(s->movers, node_id) : NULL;
    return mover && mover->tries < TRIES_MAX ? mover->place : NULL;
}

void
spread_again(struct spread *s)
{
    map_destroy(s->movers);
    s->movers = map_create(free);
    s->rests = false;
    (void)uv_timer_start(&s->timer, on_look, LOOK_MS, 0);
}

struct spread *
spread_create(struct nodes *nodes)
{
    struct spread *s = xcalloc(1, sizeof *s);
    s->nodes = nodes;
    s->movers = map_create(free);
    (void)uv_timer_init(nodes->config.loop, &s->timer);
    s->timer.data = s;
    (void)uv_timer_start(&s->timer, on_look, LOOK_MS, 0);
    return s;
}

static void
on_closed(uv_handle_t *handle)
{
    struct spread *s = handle->data;
    map_destroy(s->movers);
    free(s);
}

void
spread_close(struct spread *s)
{
    if (s) {
        uv_close((uv_handle_t *)&s->timer, on_closed);
    }
}
