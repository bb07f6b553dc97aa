/* nodes.c - see nodes.h: the server's life, pushing wants, taking reports. */
#include "control/nodes_impl.h"

#include "base/log.h"
#include "base/map.h"
#include "control/instance_metadata.h"
#include "control/leases.h"
#include "control/members.h"
#include "control/relay.h"
#include "control/reports.h"
#include "control/spread.h"
#include "core/id.h"

/* ---- errands --------------------------------------------------------------------- */

struct errand *
errand_create(struct nodes *nodes, struct link_peer *peer, errand_txn_fn *txn,
              errand_done_fn *done)
{
    struct arena *arena = arena_create();
    struct errand *e = ARENA_NEW(arena, struct errand);
    *e = (struct errand){
        .nodes = nodes,
        .peer_id = peer ? link_peer_id(peer) : 0,
        .arena = arena,
        .pass = {.config = nodes->config.cloud,
                 .pool = nodes->config.pool,
                 .rng = nodes->config.rng,
                 .blobs = nodes->config.blobs,
                 .now_ns = clock_real(nodes->config.clock)},
        .txn = txn,
        .done = done,
    };
    const char *node_id = peer ? link_peer_node_id(peer) : NULL;
    snprintf(e->node_id, sizeof e->node_id, "%s", node_id ? node_id : "");
    nodes->errands++;
    return e;
}

static bool
errand_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct errand *e = ctx;
    e->pass.txn = txn;
    return e->txn(e, txn, err);
}

static void nodes_end(struct nodes *nodes);

void
nodes_errand_home(struct nodes *nodes)
{
    if (--nodes->errands == 0 && nodes->closing) {
        nodes_end(nodes);
    }
}

static void
errand_deliver(void *ctx)
{
    struct errand *e = ctx;
    struct nodes *nodes = e->nodes;
    struct link_peer *peer = e->peer_id && !nodes->closing
                                 ? link_server_peer(nodes->server, e->peer_id)
                                 : NULL;
    if (e->done) {
        e->done(e, peer, &e->err);
    } else if (e->err.code != ERR_NONE) {
        log_error("control: node %s: %s", e->node_id, e->err.msg);
    }
    arena_destroy(e->arena);
    nodes_errand_home(nodes);
}

static void
errand_finished(void *ctx, const struct err *err)
{
    struct errand *e = ctx;
    e->err = *err;
    mailbox_post(e->nodes->mailbox, errand_deliver, e);
}

void
errand_run(struct errand *e)
{
    store_write_async(e->nodes->config.store, e->arena, errand_txn, errand_finished, e);
}

/* ---- wants to nodes -------------------------------------------------------------- */

struct node_look {
    const char *node_id;
    const struct row_node *row;
    const struct row_node_stream *stream;
};

static bool
look_read(struct txn *txn, void *ctx, struct err *err)
{
    struct node_look *look = ctx;
    struct row_node key = {.id = look->node_id};
    struct row_node_stream stream = {.id = look->node_id};
    return row_get(txn, &row_node_type, &key, (const void **)&look->row, err) &&
           row_get(txn, &row_node_stream_type, &stream, (const void **)&look->stream,
                   err);
}

/* Whether the node is one of the cloud's, and its stream this process's. */
static bool
look_is_ours(const struct nodes *nodes, const struct node_look *look)
{
    return look->row && str_eq(look->row->state, "active") && look->stream &&
           str_eq(look->stream->run, members_run(nodes->config.members));
}

struct push {
    const struct nodes *nodes;
    struct node_look *look; /* NULL, or: first of all, is it ours? Else no rows come. */
    const char *node_id;
    int64_t after;
    const struct row_node_want **rows;
    size_t count;
};

/* The rows with the bodies that are not kept; without those that cannot be made: what they
 * were made from is gone, and they will be taken down. */
static bool
push_make(struct push *push, struct txn *txn, const struct row_list *list,
          struct err *err)
{
    const struct pass pass = {.txn = txn, .config = push->nodes->config.cloud};
    push->rows =
        ARENA_ARRAY(txn_arena(txn), list->count + 1, const struct row_node_want *);
    push->count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct row_node_want *want = list->rows[i];
        if (want->digest.len && !want->deleted) {
            struct row_node_want *made =
                ARENA_NEW(txn_arena(txn), struct row_node_want);
            *made = *want;
            if (!instance_metadata_body(&pass, want, &made->body, err)) {
                return false;
            }
            want = made->body.len ? made : NULL;
        }
        if (want) {
            push->rows[push->count++] = want;
        }
    }
    return true;
}

static bool
push_read(struct txn *txn, void *ctx, struct err *err)
{
    struct push *push = ctx;
    push->count = 0;
    if (push->look && !look_read(txn, push->look, err)) {
        return false;
    }
    if (push->look && !look_is_ours(push->nodes, push->look)) {
        return true;
    }
    struct row_node_want prefix = {.node_id = push->node_id};
    /* Revisions are unique within a node: no row of this one is after the last kind. */
    struct row_node_want after = {
        .node_id = push->node_id, .revision = push->after, .kind = INT64_MAX, .id = ""};
    struct row_query query = {
        .index = "by_revision", .prefix = &prefix, .prefix_fields = 1, .after = &after};
    struct row_list list;
    return row_list(txn, &row_node_want_type, &query, &list, err) &&
           push_make(push, txn, &list, err);
}

struct link_peer *
nodes_peer(struct nodes *nodes, const char *node_id)
{
    return map_get(nodes->by_node, node_id);
}

static void
push_send(struct link_peer *peer, const struct push *push)
{
    struct peer_state *state = link_peer_user(peer);
    for (size_t i = 0; i < push->count; i++) {
        const struct row_node_want *want = push->rows[i];
        link_peer_want(peer, (enum link_kind)want->kind, want->id, want->revision,
                       want->deleted, want->body);
        state->sent_revision = want->revision;
    }
}

void
nodes_push(struct nodes *nodes, struct link_peer *peer, bool first)
{
    struct peer_state *state = link_peer_user(peer);
    AUTO(arena) struct arena *arena = arena_create();
    struct push push = {
        .nodes = nodes, .node_id = state->node_id, .after = state->sent_revision};
    struct err err = {0};
    if (!store_read_known(nodes->config.store, arena, push_read, &push, &err)) {
        link_peer_close(peer, err.msg);
        return;
    }
    push_send(peer, &push);
    if (first) {
        link_peer_snapshot_end(peer, state->sent_revision, (int64_t)push.count);
    }
}

/* ---- leases ---- */

struct lease_in {
    struct link_lease_ask ask;
    struct link_lease answer;
};

static bool
lease_txn(struct errand *e, struct txn *txn UNUSED, struct err *err)
{
    struct lease_in *in = e->in;
    return lease_grant(&e->pass, e->node_id, &in->ask, &in->answer, err);
}

/* First all that was wanted when it was granted: a node that was lost must know what it
 * may not start any more before it may start anything. */
static void
lease_done(struct errand *e, struct link_peer *peer, const struct err *err)
{
    const struct lease_in *in = e->in;
    if (err->code != ERR_NONE) {
        log_warn("control: lease of node %s: %s", e->node_id, err->msg);
    } else if (peer) {
        nodes_push(e->nodes, peer, false);
        link_peer_lease(peer, &in->answer);
    }
}

static void
on_lease_ask(void *ctx, struct link_peer *peer, const struct link_lease_ask *ask)
{
    struct errand *e = errand_create(ctx, peer, lease_txn, lease_done);
    struct lease_in *in = ARENA_NEW(e->arena, struct lease_in);
    in->ask = *ask;
    e->in = in;
    errand_run(e);
}

/* What is on the node's disk it says itself at its next hello: an acknowledgement, one for
 * each record at worst, is worth no transaction. */
static void
on_ack(void *ctx UNUSED, struct link_peer *peer UNUSED, int64_t revision UNUSED)
{
}

/* ---- coming and going ------------------------------------------------------------ */

static bool
lost_txn(struct errand *e, struct txn *txn, struct err *err)
{
    const struct row_node_seen *old;
    struct row_node_seen row = {.id = e->node_id};
    const struct row_node_stream *stream;
    struct row_node_stream key = {.id = e->node_id};
    if (!row_get(txn, &row_node_seen_type, &row, (const void **)&old, err) ||
        !row_get(txn, &row_node_stream_type, &key, (const void **)&stream, err)) {
        return false;
    }
    if (!stream || stream->session != *(int64_t *)e->in ||
        !str_eq(stream->run, members_run(e->nodes->config.members))) {
        return true; /* It has opened another one, here or elsewhere. */
    }
    if (!row_delete(txn, &row_node_stream_type, stream, err)) {
        return false;
    }
    if (!old || !old->connected) {
        return true;
    }
    row = *old;
    row.connected = false;
    return row_put(txn, &row_node_seen_type, &row, err);
}

static void
on_lost(void *ctx, struct link_peer *peer, const char *why)
{
    struct nodes *nodes = ctx;
    struct peer_state *state = link_peer_user(peer);
    if (!state) {
        log_info("control: %s left before joining: %s",
                 link_peer_identity(peer)->address, why);
        return;
    }
    log_info("control: node %s: stream ended: %s", state->node_id, why);
    if (nodes_peer(nodes, state->node_id) == peer) {
        map_del(nodes->by_node, state->node_id);
        struct errand *e = errand_create(nodes, NULL, lost_txn, NULL);
        memcpy(e->node_id, state->node_id, sizeof e->node_id);
        int64_t session = (int64_t)link_peer_id(peer);
        e->in = arena_memdup(e->arena, &session, sizeof session);
        errand_run(e);
    }
    free(state);
}

struct node_change {
    struct nodes *nodes;
    char node_id[32];
};

/* What is not known here yet, a row of another process's, comes with a change of its own. */
static void
look_and_push(struct nodes *nodes, struct link_peer *peer)
{
    const struct peer_state *state = link_peer_user(peer);
    AUTO(arena) struct arena *arena = arena_create();
    struct node_look look = {.node_id = state->node_id};
    struct push push = {.nodes = nodes,
                        .look = &look,
                        .node_id = state->node_id,
                        .after = state->sent_revision};
    struct err err = {0};
    if (!store_read_known(nodes->config.store, arena, push_read, &push, &err)) {
        link_peer_close(peer, err.msg); /* It comes back, and gets what it missed. */
    } else if (!look.row || !str_eq(look.row->state, "active")) {
        link_peer_close(peer, "revoked");
    } else if (!look_is_ours(nodes, &look)) {
        link_peer_close(peer, "the node has a stream to another control process");
    } else {
        push_send(peer, &push);
    }
}

static void
on_node_changed(void *ctx)
{
    struct node_change *change = ctx;
    struct nodes *nodes = change->nodes;
    struct link_peer *peer = nodes_peer(nodes, change->node_id);
    pthread_mutex_lock(&nodes->lock);
    map_del(nodes->changed, change->node_id); /* Before the rows are read. */
    pthread_mutex_unlock(&nodes->lock);
    if (peer) {
        look_and_push(nodes, peer);
    }
    free(change);
}

/* True for the first who says so since the loop looked. */
static bool
note_changed(struct nodes *nodes, const char *node_id)
{
    static char present;
    pthread_mutex_lock(&nodes->lock);
    bool first = !map_get(nodes->changed, node_id);
    if (first) {
        map_put(nodes->changed, node_id, &present);
    }
    pthread_mutex_unlock(&nodes->lock);
    return first;
}

void
nodes_changed(struct nodes *nodes, const char *node_id)
{
    if (!note_changed(nodes, node_id)) {
        return; /* One look finds all that has changed by then. */
    }
    struct node_change *change = xcalloc(1, sizeof *change);
    change->nodes = nodes;
    snprintf(change->node_id, sizeof change->node_id, "%s", node_id);
    mailbox_post(nodes->mailbox, on_node_changed, change);
}

/* ---- life ------------------------------------------------------------------------ */

struct cloud_look {
    const struct row_cloud *row;
};

static bool
cloud_read(struct txn *txn, void *ctx, struct err *err)
{
    struct cloud_look *look = ctx;
    struct row_cloud key = {.id = "cloud"};
    return row_get(txn, &row_cloud_type, &key, (const void **)&look->row, err);
}

/* Nodes are connected whose streams some process has: those of an earlier run of this
 * one went with its membership. */
static bool
disconnect_all(struct txn *txn, void *ctx UNUSED, struct err *err)
{
    struct row_list list;
    struct row_query query = {0};
    if (!row_list(txn, &row_node_seen_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        struct row_node_seen row = *(const struct row_node_seen *)list.rows[i];
        const void *stream;
        if (!row_get(txn, &row_node_stream_type,
                     &(struct row_node_stream){.id = row.id}, &stream, err)) {
            return false;
        }
        if (stream || !row.connected) {
            continue;
        }
        row.connected = false;
        if (!row_put(txn, &row_node_seen_type, &row, err)) {
            return false;
        }
    }
    return true;
}

static bool
nodes_listen(struct nodes *nodes, struct arena *arena, const char *ca_pem,
             struct err *err)
{
    const struct nodes_config *config = &nodes->config;
    struct pki_pair server = {0};
    if (!pki_server_make(nodes->ca, arena, config->rng, clock_real(config->clock),
                         &server, err)) {
        return false;
    }
    struct link_server_config link = {
        .loop = config->loop,
        .clock = config->clock,
        .rng = config->rng,
        .ops = {nodes_on_hello, nodes_on_enroll, nodes_on_renew, nodes_on_report,
                on_ack, nodes_on_channel, on_lost, on_lease_ask},
        .ctx = nodes,
        .unix_path = config->unix_path,
        .tcp_host = config->tcp_host,
        .tcp_port = config->tcp_port,
        .ca_pem = ca_pem,
        .cert_pem = server.cert_pem,
        .key_pem = server.key_pem,
    };
    nodes->server = link_server_create(&link, err);
    return nodes->server != NULL;
}

struct nodes *
nodes_create(const struct nodes_config *config, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct cloud_look look = {0};
    if (!store_read(config->store, arena, cloud_read, &look, err) ||
        !store_write(config->store, arena, disconnect_all, NULL, err)) {
        return NULL;
    }
    if (!look.row) {
        err_set(err, ERR_CORRUPT, "the store holds no cloud row");
        return NULL;
    }
    struct nodes *nodes = xcalloc(1, sizeof *nodes);
    nodes->config = *config;
    nodes->by_node = map_create(NULL);
    nodes->changed = map_create(NULL);
    nodes->tellers = map_create(free);
    pthread_mutex_init(&nodes->lock, NULL);
    nodes->mailbox = mailbox_create(config->loop);
    snprintf(nodes->cloud_id, sizeof nodes->cloud_id, "%s", look.row->cloud_id);
    nodes->ca = pki_ca_load(look.row->ca_cert_pem, look.row->ca_key_pem, err);
    nodes->relay = relay_create(&(struct relay_config){
        .loop = config->loop,
        .clock = config->clock,
        .rng = config->rng,
        .mailbox = nodes->mailbox,
        .ca = nodes->ca,
        .id = members_id(config->members),
        .cloud_id = nodes->cloud_id,
    });
    if (!nodes->ca || !nodes_listen(nodes, arena, look.row->ca_cert_pem, err)) {
        nodes_close(nodes);
        return NULL;
    }
    nodes->spread = config->alone ? NULL : spread_create(nodes);
    return nodes;
}

void
nodes_members_changed(struct nodes *nodes)
{
    if (nodes->spread) {
        spread_again(nodes->spread);
    }
}

/* The last errand is home: nobody posts any more. */
static void
nodes_end(struct nodes *nodes)
{
    mailbox_close(nodes->mailbox);
    VEC_FREE(&nodes->after_commits);
    pki_ca_destroy(nodes->ca);
    map_destroy(nodes->by_node);
    map_destroy(nodes->tellers);
    map_destroy(nodes->changed);
    pthread_mutex_destroy(&nodes->lock);
    free(nodes);
}

void
nodes_close(struct nodes *nodes)
{
    link_server_destroy(nodes->server);
    nodes->closing = true;
    spread_close(nodes->spread);
    nodes->spread = NULL;
    relay_destroy(nodes->relay);
    nodes->relay = NULL;
    nodes->server = NULL;
    if (nodes->errands == 0) {
        nodes_end(nodes);
    }
}

int
nodes_port(const struct nodes *nodes)
{
    return link_server_port(nodes->server);
}
