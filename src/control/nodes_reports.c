/* nodes_reports.c - what nodes report, on its way into rows: see reports.h.
 *
 * A node is believed about what is its own only (reports.c), and fills nothing with it:
 * its texts are cut, and of its events so many are kept an hour. */
#include "control/flow_files.h"
#include "control/nodes_impl.h"

#include "base/log.h"
#include "control/members.h"
#include "control/reports.h"

#define TEXT_MAX_BYTES 1024
#define EVENTS_HOUR_MAX 2000 /* Of one node. */
#define HOUR_NS (3600 * NS_PER_S)

struct report_in {
    enum link_kind kind;
    const void *record;
    int64_t revision, sequence;
    const char *event_id;
    uint64_t events; /* How many the node has told this hour, with this one. */
};

bool
stream_is_ours(struct errand *e, struct txn *txn, bool *out, struct err *err)
{
    const struct row_node_stream *stream;
    struct row_node_stream key = {.id = e->node_id};
    if (!row_get(txn, &row_node_stream_type, &key, (const void **)&stream, err)) {
        return false;
    }
    *out = stream && str_eq(stream->run, members_run(e->nodes->config.members));
    return true;
}

/* The first one too many is told of, the others are not kept. */
static bool
note_flood(struct errand *e, const struct report_in *in, struct err *err)
{
    const struct link_event event = {
        .kind = "flood",
        .object = e->node_id,
        .level = "error",
        .message =
            arena_printf(e->arena,
                         "it told more than %d events within an hour: the others "
                         "of this hour are not kept",
                         EVENTS_HOUR_MAX),
    };
    return in->events > EVENTS_HOUR_MAX + 1 ||
           event_hourly(&e->pass, e->node_id, &event, "flood", err);
}

static bool
report_txn(struct errand *e, struct txn *txn, struct err *err)
{
    const struct report_in *in = e->in;
    bool ours;
    if (!stream_is_ours(e, txn, &ours, err)) {
        return false;
    }
    if (!ours) { /* What it says may be older than what was heard elsewhere. */
        return err_set(err, ERR_GONE,
                       "the node has a stream to another control process");
    }
    if (in->kind == LINK_FLOWS) {
        const struct flow_lines *lines;
        bool ok = flow_text(&e->pass, e->node_id, in->record, e->arena, &lines, err);
        e->out = ok ? (void *)(uintptr_t)lines : NULL;
        return ok;
    }
    if (in->events > EVENTS_HOUR_MAX) {
        return note_flood(e, in, err);
    }
    return report_apply(&e->pass, e->node_id, in->kind, in->record, in->revision,
                        in->event_id, err);
}

/* A full disk loses records, and stops nothing else. */
static void
keep_flows(const struct errand *e)
{
    struct err err = {0};
    if (e->pass.config->flow_logs_dir &&
        !flow_files_append(e->pass.config->flow_logs_dir, e->out, &err)) {
        log_warn("control: flow logs: %s", err.msg);
    }
}

static void
report_done(struct errand *e, struct link_peer *peer, const struct err *err)
{
    const struct report_in *in = e->in;
    if (err->code != ERR_NONE) {
        log_warn("control: a report of node %s: %s", e->node_id, err->msg);
    }
    if (in->kind == LINK_FLOWS && err->code == ERR_NONE && e->out) {
        keep_flows(e);
    }
    if (!peer) {
        return;
    }
    /* A report that can never be taken would come back for ever. */
    if (err->code == ERR_NONE || err->code == ERR_CORRUPT) {
        link_peer_ack_report(peer, in->sequence);
    } else {
        link_peer_close(peer, err->msg);
    }
}

/* Events that a node has told in an hour, this one included. By the node and not by its
 * stream: who comes back begins no new hour. */
struct teller {
    int64_t hour;
    uint64_t events;
};

static uint64_t
count_event(struct nodes *nodes, const char *node_id, int64_t now_ns)
{
    struct teller *teller = map_get(nodes->tellers, node_id);
    int64_t hour = now_ns / HOUR_NS;
    if (!teller) {
        teller = xcalloc(1, sizeof *teller);
        map_put(nodes->tellers, node_id, teller);
    }
    if (teller->hour != hour) {
        *teller = (struct teller){.hour = hour};
    }
    return ++teller->events;
}

void
nodes_on_report(void *ctx, struct link_peer *peer, enum link_kind kind,
                const void *record, struct blob body UNUSED, int64_t revision,
                int64_t sequence)
{
    struct nodes *nodes = ctx;
    struct errand *e = errand_create(nodes, peer, report_txn, report_done);
    struct report_in *in = ARENA_NEW(e->arena, struct report_in);
    void *copy = desc_copy(link_seen_desc(kind), record, e->arena);
    desc_shorten(link_seen_desc(kind), copy, TEXT_MAX_BYTES, e->arena);
    *in = (struct report_in){
        .kind = kind,
        .record = copy,
        .revision = revision,
        .sequence = sequence,
        .event_id =
            arena_printf(e->arena, "%016" PRIx64 "%04" PRIx64, (uint64_t)e->pass.now_ns,
                         rng_below(nodes->config.rng, 65536)),
        .events =
            kind == LINK_EVENT ? count_event(nodes, e->node_id, e->pass.now_ns) : 0,
    };
    e->in = in;
    /* A job is done when its blob is here: that may take a moment after its last byte.
     */
    if (kind == LINK_BLOB_JOB && nodes->commits > 0) {
        VEC_PUSH(&nodes->after_commits, e);
    } else {
        errand_run(e);
    }
}
