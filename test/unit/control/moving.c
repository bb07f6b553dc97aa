/* moving.c - see moving.h. */
#include "moving.h"

#include "base/tlv.h"

/* ---- the scene --------------------------------------------------------------------------- */

bool
moving_put_host(struct pass *pass, const char *id, const char *underlay,
                struct err *err)
{
    const struct row_node node = {.id = id,
                                  .region = "us-east-1",
                                  .zone = "us-east-1a",
                                  .state = "active",
                                  .underlay = underlay};
    const struct row_node_seen seen = {.id = id,
                                       .connected = true,
                                       .vcpus = 8,
                                       .memory_bytes = 16 * (int64_t)GIB,
                                       .pool_bytes = 100 * (int64_t)GIB,
                                       .pool_free_bytes = 90 * (int64_t)GIB,
                                       .accel = "tcg"};
    return row_put(pass->txn, &row_node_type, &node, err) &&
           row_put(pass->txn, &row_node_seen_type, &seen, err);
}

/* Three hosts that can reach each other; the instance runs on the first. */
static bool
do_ready(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct link_machine_seen runs = {
        .id = INSTANCE, .state = "running", .generation = 1};
    const struct row_instance *old;
    if (!moving_put_host(pass, NODE, "192.0.2.1", err) ||
        !moving_put_host(pass, OTHER_NODE, "192.0.2.2", err) ||
        !moving_put_host(pass, THIRD, "192.0.2.3", err) ||
        !GET_ROW(instance, &old, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    struct row_instance next = *old;
    next.claim_memory_bytes = MEMORY;
    return row_put(pass->txn, &row_instance_type, &next, err) &&
           instance_pass(pass, ACCOUNT, INSTANCE, err) &&
           report_apply(pass, NODE, LINK_MACHINE, &runs, 0, "e1", err);
}

void
moving_ready(struct stage *s)
{
    setup(s);
    s->config.cpu_overcommit = s->config.memory_overcommit = 1;
    stage_run(s, do_ready, NULL);
}

bool
moving_do_begin(struct pass *pass, void *ctx, struct err *err)
{
    struct move_asked *a = ctx;
    struct migration_ask ask = {
        .reason = "asked", .force = a->force, .post_copy = a->post_copy};
    const struct row_instance *inst;
    const struct row_migration *m;
    if (!GET_ROW(instance, &inst, .account = ACCOUNT, .id = INSTANCE)) {
        return false;
    }
    a->id = NULL;
    a->why = (struct err){0};
    if (migration_may_begin(pass->txn, inst, &a->why) &&
        migration_choose(pass->txn, pass->pool, pass->config, inst, a->to, &ask.to_node,
                         &a->why) &&
        migration_begin(pass->txn, inst, &ask, pass->rng, pass->now_ns, &m, &a->why)) {
        a->id = m->id;
        return instance_pass(pass, ACCOUNT, INSTANCE, err);
    }
    return true;
}

bool
moving_do_allow(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    const struct row_node_seen *seen;
    const struct row_tag tag = {.account = ACCOUNT,
                                .region = "us-east-1",
                                .resource_id = INSTANCE,
                                .tag_key = MIGRATION_TAG,
                                .value = MIGRATION_TAG_POST_COPY};
    if (!GET_ROW(node_seen, &seen, .id = OTHER_NODE)) {
        return false;
    }
    struct row_node_seen next = *seen;
    next.post_copy = true;
    return row_put(pass->txn, &row_node_seen_type, &next, err) &&
           row_put(pass->txn, &row_tag_type, &tag, err);
}

const char *
moving_begin(struct stage *s)
{
    struct move_asked a = {.to = OTHER_NODE};
    stage_run(s, moving_do_begin, &a);
    CHECK_OK(a.id != NULL, &a.why);
    return a.id;
}

bool
moving_do_say(struct pass *pass, void *ctx, struct err *err)
{
    const struct moving_word *w = ctx;
    const struct link_migration_seen seen = {.id = w->id,
                                             .state = w->state,
                                             .address = "192.0.2.2",
                                             .port = 4000,
                                             .disk_bytes = w->disk_bytes,
                                             .disk_done_bytes = w->disk_done_bytes,
                                             .memory_bytes = MEMORY,
                                             .downtime_ms = 40,
                                             .elapsed_ms = 900};
    return report_apply(pass, w->node_id, LINK_MIGRATION, &seen, 0, "e1", err);
}

/* Changes of rows wake their passes. */
bool
moving_do_pass(struct pass *pass, void *ctx UNUSED, struct err *err)
{
    return migrations_look(pass, NULL, NULL, err) &&
           volume_pass(pass, ACCOUNT, VOLUME, err);
}

void
moving_say(struct stage *s, const char *id, const char *node_id, const char *state)
{
    stage_run(s, moving_do_say, &(struct moving_word){node_id, id, state, 0, 0});
    stage_run(s, moving_do_pass, NULL);
}

/* The node reports absent whatever is being taken down there. */
static bool
absent(struct pass *pass, const char *node_id, const struct row_node_want *want,
       struct err *err)
{
    const enum link_kind kind = (enum link_kind)want->kind;
    const struct desc *desc = link_seen_desc(kind);
    void *record = arena_alloc(txn_arena(pass->txn), desc->size);
    memset(record, 0, desc->size);
    *(const char **)desc_at(desc_find(desc, "id"), record) = want->id;
    *(const char **)desc_at(desc_find(desc, "state"), record) = "absent";
    return report_apply(pass, node_id, kind, record, want->revision, "e1", err);
}

bool
moving_do_clear(struct pass *pass, void *ctx, struct err *err)
{
    const char *node_id = ctx;
    const struct row_node_want prefix = {.node_id = node_id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_list(pass->txn, &row_node_want_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node_want *want = list.rows[i];
        if (want->deleted && !absent(pass, node_id, want, err)) {
            return false;
        }
    }
    return true;
}

void
moving_clear(struct stage *s)
{
    for (int round = 0; round < 2; round++) { /* One end lets another begin. */
        stage_run(s, moving_do_clear, NODE);
        stage_run(s, moving_do_clear, OTHER_NODE);
        stage_run(s, moving_do_pass, NULL);
    }
}

static bool
told(struct pass *pass, const char *node_id, const char *id, struct link_migration *out,
     struct err *err)
{
    const struct row_node_want *want;
    if (!want_get(pass->txn, node_id, LINK_MIGRATION, id, &want, err)) {
        return false;
    }
    return !want || want->deleted ||
           tlv_decode(&link_migration_desc, want->body.data, want->body.len,
                      txn_arena(pass->txn), out, err);
}

static bool
wanted(struct pass *pass, const char *node_id, enum link_kind kind, const char *id,
       bool *out, struct err *err)
{
    const struct row_node_want *want;
    if (!want_get(pass->txn, node_id, kind, id, &want, err)) {
        return false;
    }
    *out = want && !want->deleted;
    return true;
}

static bool
count_left(struct pass *pass, const char *node_id, size_t *out, struct err *err)
{
    static const enum link_kind kinds[] = {LINK_MACHINE, LINK_DISK, LINK_PORT,
                                           LINK_METADATA, LINK_MIGRATION};
    *out = 0;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        const struct row_node_want prefix = {.node_id = node_id, .kind = kinds[k]};
        const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
        struct row_list list;
        if (!row_list(pass->txn, &row_node_want_type, &query, &list, err)) {
            return false;
        }
        *out += list.count;
    }
    return true;
}

bool
moving_do_look(struct pass *pass, void *ctx, struct err *err)
{
    struct moving *l = ctx;
    return GET_ROW(instance, &l->instance, .account = ACCOUNT, .id = INSTANCE) &&
           GET_ROW(migration, &l->m, .id = l->id) &&
           GET_ROW(volume, &l->root, .account = ACCOUNT, .id = VOLUME) &&
           GET_ROW(node_claim, &l->from, .id = NODE) &&
           GET_ROW(node_claim, &l->to, .id = OTHER_NODE) &&
           told(pass, NODE, l->id, &l->give, err) &&
           told(pass, OTHER_NODE, l->id, &l->take, err) &&
           wanted(pass, NODE, LINK_MACHINE, INSTANCE, &l->machine_from, err) &&
           wanted(pass, OTHER_NODE, LINK_MACHINE, INSTANCE, &l->machine_to, err) &&
           wanted(pass, NODE, LINK_PORT, CARD, &l->card_from, err) &&
           wanted(pass, OTHER_NODE, LINK_PORT, CARD, &l->card_to, err) &&
           count_left(pass, NODE, &l->left_from, err) &&
           count_left(pass, OTHER_NODE, &l->left_to, err);
}

struct moving
moving_look(struct stage *s, const char *id)
{
    struct moving l = {.id = id};
    stage_run(s, moving_do_look, &l);
    return l;
}

/* To where the giver is about to let go. */
const char *
moving_to_switching(struct stage *s)
{
    const char *id = moving_begin(s);
    moving_say(s, id, OTHER_NODE, "listening");
    moving_say(s, id, NODE, "paused");
    CHECK_STR(moving_look(s, id).m->state, "switching");
    return id;
}

bool
moving_do_cancel(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_migration *m;
    if (!GET_ROW(migration, &m, .id = ctx)) {
        return false;
    }
    struct row_migration next = *m;
    next.cancelled = true;
    return row_put(pass->txn, &row_migration_type, &next, err) &&
           migration_pass(pass, ACCOUNT, ctx, err) && moving_do_pass(pass, NULL, err);
}

bool
moving_do_revoke(struct pass *pass, void *ctx, struct err *err)
{
    const struct row_node *old;
    if (!GET_ROW(node, &old, .id = ctx)) {
        return false;
    }
    struct row_node next = *old;
    next.state = "revoked";
    return row_put(pass->txn, &row_node_type, &next, err) &&
           moving_do_pass(pass, NULL, err) && moving_do_pass(pass, NULL, err);
}
