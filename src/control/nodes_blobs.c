/* nodes_blobs.c - blobs to and from nodes, over channels of the link.
 *
 * A node may fetch a blob that is wanted of it, or that a job wanted of it reads, and
 * may put the one that such a job makes. Files are opened and finished on the loop's
 * workers. */
#include "control/nodes_impl.h"

#include "base/log.h"
#include "base/tlv.h"
#include "control/wants.h"

struct transfer {
    struct nodes *nodes;
    struct link_channel *channel;
    struct arena *arena;
    const char *node_id, *blob_id;
    int64_t offset, size;
    bool put, allowed;
    int fd;
    struct blob_writer *writer;
    uv_work_t work;
    struct err err;
};

static void
transfer_destroy(struct transfer *t)
{
    auto_fd(&t->fd);
    blob_write_abort(t->writer);
    struct nodes *nodes = t->nodes;
    arena_destroy(t->arena);
    nodes_errand_home(nodes);
}

/* ---- may it? --------------------------------------------------------------------- */

static bool
job_names(const struct row_node_want *want, const struct transfer *t,
          struct arena *arena)
{
    struct link_blob_job job;
    struct err ignored = {0};
    if (want->kind != LINK_BLOB_JOB || want->deleted ||
        !tlv_decode(&link_blob_job_desc, want->body.data, want->body.len, arena, &job,
                    &ignored)) {
        return false;
    }
    return str_eq(t->put ? job.target_blob : job.source_blob, t->blob_id);
}

static bool
transfer_check(struct txn *txn, void *ctx, struct err *err)
{
    struct transfer *t = ctx;
    const struct row_node_want *want;
    if (!t->put && !want_get(txn, t->node_id, LINK_BLOB, t->blob_id, &want, err)) {
        return false;
    }
    t->allowed = !t->put && want && !want->deleted;
    if (t->allowed) {
        return true;
    }
    struct row_node_want prefix = {.node_id = t->node_id, .kind = LINK_BLOB_JOB};
    struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    struct row_list jobs;
    if (!row_list(txn, &row_node_want_type, &query, &jobs, err)) {
        return false;
    }
    for (size_t i = 0; i < jobs.count && !t->allowed; i++) {
        t->allowed = job_names(jobs.rows[i], t, txn_arena(txn));
    }
    return true;
}

/* ---- opening --------------------------------------------------------------------- */

/* What a job made before a crash and makes again takes the old file's place: only a job
 * that is still wanted gets here, and its blob has no row yet. */
static void
open_sink(struct transfer *t)
{
    struct blob_store *blobs = t->nodes->config.blobs;
    if (!blob_delete(blobs, t->blob_id, &t->err) ||
        !blob_store_has_room(blobs, (uint64_t)t->size, &t->err)) {
        return;
    }
    t->writer = blob_write_begin(blobs, t->blob_id, (uint64_t)t->size, &t->err);
    if (t->writer && !blob_write_fd(t->writer, &t->fd, &t->err)) {
        blob_write_abort(t->writer);
        t->writer = NULL;
    }
}

static void
on_open(uv_work_t *work)
{
    struct transfer *t = work->data;
    struct nodes_config *config = &t->nodes->config;
    AUTO(arena) struct arena *arena = arena_create();
    uint64_t size;
    if (!store_read(config->store, arena, transfer_check, t, &t->err)) {
        return;
    }
    if (!t->allowed) {
        err_set(&t->err, ERR_DENIED, "blob %s is not this node's to %s", t->blob_id,
                t->put ? "put" : "get");
    } else if (t->put) {
        open_sink(t);
    } else if (!blob_open(config->blobs, t->blob_id, &t->fd, &size, &t->err)) {
        t->fd = -1;
    }
}

/* ---- finishing ------------------------------------------------------------------- */

static void
on_commit(uv_work_t *work)
{
    struct transfer *t = work->data;
    uint64_t size;
    char sha[SHA256_HEX_LEN];
    if (blob_write_adopt(t->writer, &t->err)) {
        struct blob_writer *writer = t->writer;
        t->writer = NULL;
        (void)!blob_write_commit(writer, &size, sha, &t->err);
    }
}

static void
on_committed(uv_work_t *work, int status UNUSED)
{
    struct transfer *t = work->data;
    struct nodes *nodes = t->nodes;
    if (t->err.code != ERR_NONE) {
        log_warn("control: blob %s of node %s: %s", t->blob_id, t->node_id, t->err.msg);
    }
    if (--nodes->commits == 0) {
        for (size_t i = 0; i < nodes->after_commits.count; i++) {
            errand_run(nodes->after_commits.items[i]);
        }
        nodes->after_commits.count = 0;
    }
    transfer_destroy(t);
}

static void
on_channel_state(void *ctx, struct link_channel *channel UNUSED,
                 enum link_channel_state state, uint64_t received, const char *why)
{
    struct transfer *t = ctx;
    if (state != LINK_CHANNEL_DONE) {
        return;
    }
    if (why || !t->put || received != (uint64_t)t->size) {
        if (why) {
            log_warn("control: blob %s: %s", t->blob_id, why);
        }
        transfer_destroy(t);
        return;
    }
    t->nodes->commits++;
    uv_queue_work(t->nodes->config.loop, &t->work, on_commit, on_committed);
}

static void
on_opened(uv_work_t *work, int status UNUSED)
{
    struct transfer *t = work->data;
    if (t->err.code != ERR_NONE) {
        log_warn("control: node %s: %s", t->node_id, t->err.msg);
        link_channel_refuse(t->channel, t->err.msg);
        transfer_destroy(t);
        return;
    }
    struct link_channel_bind bind = {
        .fd = take_fd(&t->fd),
        .offset = t->put ? 0 : t->offset,
        .limit_bytes = t->put ? (uint64_t)t->size : 0,
        .no_read = t->put,
        .no_write = !t->put,
        .fn = on_channel_state,
        .ctx = t,
    };
    link_channel_accept(t->channel, &bind);
}

void
nodes_on_channel(void *ctx, struct link_peer *peer, struct link_channel *channel,
                 const struct link_channel_open *open)
{
    struct nodes *nodes = ctx;
    const struct peer_state *state = link_peer_user(peer);
    if (state && state->control) {
        nodes_control_channel(nodes, channel, open);
        return;
    }
    if (str_eq(open->what, "endpoint")) {
        nodes_endpoint_channel(nodes, peer, channel, open);
        return;
    }
    bool put = str_eq(open->what, "blob_put");
    if ((!put && !str_eq(open->what, "blob_get")) || str_empty(open->object) ||
        open->offset < 0 || open->size < 0) {
        link_channel_refuse(
            channel, "the control plane opens only blobs and endpoints for nodes");
        return;
    }
    struct arena *arena = arena_create();
    struct transfer *t = ARENA_NEW(arena, struct transfer);
    *t = (struct transfer){
        .nodes = nodes,
        .channel = channel,
        .arena = arena,
        .node_id = arena_strdup(arena, link_peer_node_id(peer)),
        .blob_id = arena_strdup(arena, open->object),
        .offset = open->offset,
        .size = open->size,
        .put = put,
        .fd = -1,
    };
    t->work.data = t;
    nodes->errands++;
    uv_queue_work(nodes->config.loop, &t->work, on_open, on_opened);
}
