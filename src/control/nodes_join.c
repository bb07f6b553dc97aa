/* nodes_join.c - who may join, and who may come back.
 *
 * A token serves once, within its time, for one zone and up to the capacity that the
 * operator set; a node comes back with the certificate that its row names, or with the
 * renewed one that it has not used yet, and not while another agent speaks with it. The
 * local node needs none of this: the socket's file mode and its peer's uid speak for it. */
#include "control/nodes_impl.h"

#include "base/crypto.h"
#include "base/log.h"
#include "base/map.h"
#include "control/members.h"
#include "control/relay.h"
#include "control/reports.h"
#include "control/spread.h"
#include "core/id.h"

#define ALIVE_WAIT_NS (2 * NS_PER_S)

/* ---- hello ----------------------------------------------------------------------- */

struct hello_in {
    bool local;
    const char *serial, *node_id, *cloud_id;
    int64_t have_revision;
    const char *new_id; /* For a local node that is seen first. */
};

struct hello_out {
    const char *refuse_code, *refuse_text; /* NULL: welcome. */
    const struct row_node *node;
    bool snapshot;
    struct desc_list links;
};

static bool
hello_refuse(struct hello_out *out, const char *code, const char *text)
{
    out->refuse_code = code;
    out->refuse_text = text;
    return true;
}

static bool
local_node(struct errand *e, struct txn *txn, struct row_node *out, struct err *err)
{
    const struct hello_in *in = e->in;
    struct row_list all;
    struct row_query query = {0};
    if (!row_list(txn, &row_node_type, &query, &all, err)) {
        return false;
    }
    const struct row_node *here = NULL;
    const char *control = members_id(e->nodes->config.members);
    for (size_t i = 0; i < all.count; i++) {
        const struct row_node *node = all.rows[i];
        bool free = str_empty(node->control); /* From when there was one process. */
        if (node->local && str_eq(node->state, "active") &&
            (str_eq(node->control, control) || (free && !here))) {
            here = node;
        }
    }
    if (here) {
        *out = *here;
        out->control = control;
        return str_eq(here->control, control) || row_put(txn, &row_node_type, out, err);
    }
    *out = (struct row_node){
        .id = in->new_id,
        .region = e->nodes->config.region,
        .zone = e->nodes->config.zone,
        .state = "active",
        .joined_at = e->pass.now_ns,
        .local = true,
        .control = control,
    };
    return row_insert(txn, &row_node_type, out, err);
}

/* A certificate's serial must be the one in force; a renewed one comes into force when
 * it is first used. */
static bool
remote_node(struct errand *e, struct txn *txn, struct row_node *node,
            struct hello_out *out, struct err *err)
{
    const struct hello_in *in = e->in;
    struct row_node key = {.id = in->node_id};
    const struct row_node *row;
    if (!row_get(txn, &row_node_type, &key, (const void **)&row, err)) {
        return false;
    }
    if (!row || row->local) {
        return hello_refuse(out, "unknown", "this cloud has no such node");
    }
    if (!str_eq(row->state, "active")) {
        const struct link_event event = {
            .kind = "revoked",
            .object = row->id,
            .level = "error",
            .message = "a revoked node wanted to come back, and was refused"};
        return hello_refuse(out, "revoked", "this node was revoked") &&
               event_hourly(&e->pass, row->id, &event, "revoked", err);
    }
    *node = *row;
    if (str_eq(in->serial, row->cert_serial)) {
        return true;
    }
    if (str_empty(row->cert_serial_next) ||
        !str_eq(in->serial, row->cert_serial_next)) {
        return hello_refuse(out, "revoked", "this certificate is no longer in force");
    }
    node->cert_serial = row->cert_serial_next;
    node->cert_serial_next = "";
    return row_put(txn, &row_node_type, node, err);
}

static bool
hello_seen(struct errand *e, struct txn *txn, const char *node_id, struct err *err)
{
    const struct row_node_seen *old;
    struct row_node_seen row = {.id = node_id};
    if (!row_get(txn, &row_node_seen_type, &row, (const void **)&old, err)) {
        return false;
    }
    if (old) {
        row = *old;
    }
    row.at = e->pass.now_ns;
    row.connected = true;
    struct row_node_stream stream = {
        .id = node_id,
        .run = members_run(e->nodes->config.members),
        .session = (int64_t)e->peer_id,
    };
    return row_put(txn, &row_node_seen_type, &row, err) &&
           row_put(txn, &row_node_stream_type, &stream, err);
}

static bool
hello_txn(struct errand *e, struct txn *txn, struct err *err)
{
    const struct hello_in *in = e->in;
    struct hello_out *out = ARENA_NEW(txn_arena(txn), struct hello_out);
    struct row_node *node = ARENA_NEW(txn_arena(txn), struct row_node);
    e->out = out;
    if (!str_empty(in->cloud_id) && !str_eq(in->cloud_id, e->nodes->cloud_id)) {
        return hello_refuse(out, "unknown", "this node belongs to another cloud");
    }
    if (in->local ? !local_node(e, txn, node, err)
                  : !remote_node(e, txn, node, out, err)) {
        return false;
    }
    if (out->refuse_code) {
        return true;
    }
    out->node = node;
    int64_t revision;
    if (!txn_next(txn, arena_printf(txn_arena(txn), "want/%s", node->id), &revision,
                  err)) {
        return false;
    }
    /* A node that knows more than we do has seen rows that a restore took back. */
    out->snapshot = in->have_revision == 0 || in->have_revision >= revision;
    return hello_seen(e, txn, node->id, err) &&
           members_links(e->nodes->config.members, txn, &out->links, err);
}

/* The places of all processes, the node's own before the others: it goes there when this
 * stream ends. */
static void
put_first(struct desc_list *links, const char *place)
{
    const char **items = (const char **)(uintptr_t)links->items;
    for (size_t i = 0; place && i < links->count; i++) {
        if (str_eq(items[i], place)) {
            memmove(items + 1, items, i * sizeof *items);
            items[0] = place;
        }
    }
}

static void
hello_welcome(struct nodes *nodes, struct link_peer *peer, const struct hello_in *in,
              struct hello_out *out)
{
    const struct row_node *node = out->node;
    put_first(&out->links, spread_place(nodes->spread, node->id));
    spread_news(nodes->spread);
    struct link_peer *old = nodes_peer(nodes, node->id);
    struct peer_state *state = xcalloc(1, sizeof *state);
    snprintf(state->node_id, sizeof state->node_id, "%s", node->id);
    state->sent_revision = out->snapshot ? 0 : in->have_revision;
    link_peer_set_user(peer, state);
    map_put(nodes->by_node, node->id, peer);
    if (old) {
        link_peer_close(old, "the node opened a newer stream");
    }
    log_info("control: node %s (%s) is here%s", node->id, node->zone,
             out->snapshot ? "; sending it a snapshot" : "");
    link_peer_welcome(peer, &(struct link_welcome){
                                .node_id = node->id,
                                .cloud_id = nodes->cloud_id,
                                .snapshot = out->snapshot,
                                .zone = node->zone,
                                .region = node->region,
                                .control = {out->links.items, out->links.count},
                            });
    nodes_push(nodes, peer, true);
}

static void
hello_done(struct errand *e, struct link_peer *peer, const struct err *err)
{
    struct hello_out *out = e->out;
    if (!peer) {
        return;
    }
    if (err->code != ERR_NONE) {
        link_peer_close(peer, err->msg);
    } else if (out->refuse_code) {
        log_warn("control: refused %s: %s", link_peer_identity(peer)->address,
                 out->refuse_text);
        link_peer_refuse(peer, out->refuse_code, out->refuse_text);
    } else {
        hello_welcome(e->nodes, peer, e->in, out);
    }
}

/* ---- one certificate, two agents ------------------------------------------------- */

static bool
clash_txn(struct errand *e, struct txn *txn UNUSED, struct err *err)
{
    struct link_event event = {
        .kind = "certificate",
        .object = e->node_id,
        .level = "error",
        .message = "a second agent came with this node's certificate and was refused; "
                   "revoke the node if nobody copied its folder on purpose",
    };
    return event_hourly(&e->pass, e->node_id, &event, "cert", err);
}

static void
clash_done(struct errand *e, struct link_peer *peer, const struct err *err)
{
    if (err->code != ERR_NONE) {
        log_warn("control: node %s: %s", e->node_id, err->msg);
    }
    if (peer) {
        log_warn("control: refused %s: another agent is here as %s",
                 link_peer_identity(peer)->address, e->node_id);
        link_peer_refuse(peer, "certificate",
                         "another agent uses this certificate now");
    }
}

/* The agent that is here as this node answered, or did not: a lost connection may stand
 * for a while after its agent has gone. */
static void
alive_end(struct errand *e, bool alive)
{
    if (alive) {
        e->txn = clash_txn;
        e->done = clash_done;
    }
    errand_run(e);
}

static void
on_alive(void *ctx, const struct link_reply *reply)
{
    alive_end(ctx, reply != NULL);
}

static void
on_alive_elsewhere(void *ctx, const struct blob *body, const char *why UNUSED)
{
    alive_end(ctx, body != NULL);
}

void
nodes_on_hello(void *ctx, struct link_peer *peer, const struct link_identity *who,
               const struct link_hello *hello)
{
    struct nodes *nodes = ctx;
    if (nodes_is_control(who)) {
        nodes_control_hello(nodes, peer, who);
        return;
    }
    struct errand *e = errand_create(nodes, peer, hello_txn, hello_done);
    struct hello_in *in = ARENA_NEW(e->arena, struct hello_in);
    *in = (struct hello_in){
        .local = who->local,
        .serial = arena_strdup(e->arena, who->serial),
        .node_id = arena_strdup(e->arena, who->node_id),
        .cloud_id = arena_strdup(e->arena, hello->cloud_id),
        .have_revision = hello->have_revision,
        .new_id = id_new(e->arena, nodes->config.rng, "node"),
    };
    e->in = in;
    if (who->local) {
        errand_run(e);
        return;
    }
    struct link_peer *other = nodes_peer(nodes, who->node_id);
    const char *link = other ? NULL : nodes_elsewhere(nodes, who->node_id, e->arena);
    snprintf(e->node_id, sizeof e->node_id, "%s", who->node_id);
    if (other) {
        link_peer_call(other, "alive", "", ALIVE_WAIT_NS, on_alive, e);
    } else if (link) {
        relay_call(nodes->relay, link, who->node_id, "alive", "", ALIVE_WAIT_NS,
                   on_alive_elsewhere, e);
    } else {
        errand_run(e);
    }
}

/* ---- enroll and renew ------------------------------------------------------------ */

struct sign_in {
    const char *token_id, *token_secret, *csr_pem, *hostname, *node_id;
};

struct sign_out {
    const char *refuse_text; /* NULL: signed. */
    const char *cert_pem;
};

static bool
token_take(struct errand *e, struct txn *txn, const struct row_node_token **out_token,
           const char **out_refuse, struct err *err)
{
    const struct sign_in *in = e->in;
    struct row_node_token key = {.id = in->token_id};
    const struct row_node_token *token;
    if (!row_get(txn, &row_node_token_type, &key, (const void **)&token, err)) {
        return false;
    }
    char hash[65];
    token_secret_hash(in->token_secret ? in->token_secret : "", hash);
    if (!token || str_empty(token->secret_sha256) ||
        strlen(token->secret_sha256) != 64 ||
        !secret_eq(hash, token->secret_sha256, 64)) {
        *out_refuse = "this token is not one of this cloud's";
    } else if (token->used_at) {
        *out_refuse = "this token was used already; ask the operator for another";
    } else if (token->expires_at <= e->pass.now_ns) {
        *out_refuse = "this token has expired; ask the operator for another";
    }
    *out_token = token;
    return true;
}

static bool
enroll_txn(struct errand *e, struct txn *txn, struct err *err)
{
    const struct sign_in *in = e->in;
    struct sign_out *out = ARENA_NEW(txn_arena(txn), struct sign_out);
    const struct row_node_token *token;
    e->out = out;
    if (!token_take(e, txn, &token, &out->refuse_text, err)) {
        return false;
    }
    if (out->refuse_text) {
        return true;
    }
    struct pki_cert cert;
    if (!pki_sign_node(e->nodes->ca, txn_arena(txn), e->nodes->config.rng,
                       e->pass.now_ns, in->csr_pem, in->node_id, &out->cert_pem, &cert,
                       err)) {
        return false;
    }
    struct row_node node = {
        .id = in->node_id,
        .region = token->region,
        .zone = token->zone,
        .state = "active",
        .joined_at = e->pass.now_ns,
        .cert_serial = cert.serial,
        .ceiling_vcpus = token->ceiling_vcpus,
        .ceiling_memory_bytes = token->ceiling_memory_bytes,
        .name = in->hostname,
    };
    struct row_node_token used = *token;
    used.used_at = e->pass.now_ns;
    used.node_id = in->node_id;
    return row_insert(txn, &row_node_type, &node, err) &&
           row_put(txn, &row_node_token_type, &used, err);
}

static bool
renew_txn(struct errand *e, struct txn *txn, struct err *err)
{
    const struct sign_in *in = e->in;
    struct sign_out *out = ARENA_NEW(txn_arena(txn), struct sign_out);
    struct row_node key = {.id = e->node_id};
    const struct row_node *row;
    e->out = out;
    if (!row_get(txn, &row_node_type, &key, (const void **)&row, err)) {
        return false;
    }
    if (!row || !str_eq(row->state, "active")) {
        out->refuse_text = "this node was revoked";
        return true;
    }
    struct pki_cert cert;
    if (!pki_sign_node(e->nodes->ca, txn_arena(txn), e->nodes->config.rng,
                       e->pass.now_ns, in->csr_pem, e->node_id, &out->cert_pem, &cert,
                       err)) {
        return false;
    }
    struct row_node node = *row;
    node.cert_serial_next = cert.serial;
    return row_put(txn, &row_node_type, &node, err);
}

static void
sign_done(struct errand *e, struct link_peer *peer, const struct err *err)
{
    const struct sign_in *in = e->in;
    const struct sign_out *out = e->out;
    if (!peer) {
        return;
    }
    const char *who = link_peer_identity(peer)->address;
    if (err->code != ERR_NONE) {
        log_warn("control: certificate for %s: %s", who, err->msg);
        link_peer_refuse(peer, "token", err->msg);
    } else if (out->refuse_text) {
        log_warn("control: refused %s: %s", who, out->refuse_text);
        link_peer_refuse(peer, "token", out->refuse_text);
    } else {
        log_info("control: signed a certificate for %s at %s", in->node_id, who);
        link_peer_enrolled(peer, &(struct link_enrolled){
                                     .node_id = in->node_id,
                                     .cert_pem = out->cert_pem,
                                     .cloud_id = e->nodes->cloud_id,
                                 });
    }
}

void
nodes_on_enroll(void *ctx, struct link_peer *peer,
                const struct link_identity *who UNUSED,
                const struct link_enroll *enroll)
{
    struct nodes *nodes = ctx;
    struct errand *e = errand_create(nodes, peer, enroll_txn, sign_done);
    struct sign_in *in = ARENA_NEW(e->arena, struct sign_in);
    *in = (struct sign_in){
        .token_id = arena_strdup(e->arena, enroll->token_id ? enroll->token_id : ""),
        .token_secret = arena_strdup(e->arena, enroll->token_secret),
        .csr_pem = arena_strdup(e->arena, enroll->csr_pem ? enroll->csr_pem : ""),
        .hostname = arena_strdup(e->arena, enroll->hostname),
        .node_id = id_new(e->arena, nodes->config.rng, "node"),
    };
    e->in = in;
    errand_run(e);
}

void
nodes_on_renew(void *ctx, struct link_peer *peer, const struct link_renew *renew)
{
    struct errand *e = errand_create(ctx, peer, renew_txn, sign_done);
    struct sign_in *in = ARENA_NEW(e->arena, struct sign_in);
    *in = (struct sign_in){
        .csr_pem = arena_strdup(e->arena, renew->csr_pem ? renew->csr_pem : ""),
        .node_id = e->node_id,
    };
    e->in = in;
    errand_run(e);
}
