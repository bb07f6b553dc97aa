/* operators.c - see operators.h. */
#include "operators.h"

#include "service/moln/api.h"
#include "store/rows.h"

#define REJOIN_MAX_NS \
    (40 * NS_PER_S) /* A host that was revoked is wiped within this. */
#define RETRY_NS NS_PER_S
#define PLAN_MAX_NS (60 * NS_PER_S)
#define BUSY_PERCENT 30 /* Of clouds, where guests are moved all the while... */
#define BUSY_MAX_NS (5 * NS_PER_S) /* ...one after up to this. */
#define POST_COPY_PERCENT 60
#define FORCE_PERCENT 20

extern const struct service moln_service;

static struct {
    struct run *run;
    bool may_revoke, ended;
} operators;

static struct host *
any_host(void)
{
    const struct run *run = operators.run;
    return run->hosts.items[world_below(CHANCE_FAULTS, run->hosts.count)];
}

/* ---- what they look up ----------------------------------------------------------- */

struct look {
    const char *name;
    char id[64];
};

static bool
find_node(struct txn *txn, void *ctx, struct err *err)
{
    struct look *look = ctx;
    struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        if (str_eq(node->name, look->name)) {
            snprintf(look->id, sizeof look->id, "%s", node->id);
        }
    }
    return true;
}

static bool
find_settled(struct txn *txn, void *ctx, struct err *err)
{
    struct look *look = ctx;
    struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_instance_type, &query, &list, err)) {
        return false;
    }
    size_t first = list.count ? world_below(CHANCE_FAULTS, list.count) : 0;
    for (size_t i = 0; i < list.count && !look->id[0]; i++) {
        const struct row_instance *inst = list.rows[(first + i) % list.count];
        if (str_eq(inst->observed_state, inst->want_state) && !inst->terminated_at) {
            snprintf(look->id, sizeof look->id, "%s", inst->id);
        }
    }
    return true;
}

/* The host's id as the cloud knows it; NULL: it has not joined, or nobody can be asked. */
static const char *
node_of(struct host *h)
{
    struct look look = {.name = h->name};
    if (!cloud_is_up(&operators.run->cloud)) {
        return NULL;
    }
    cloud_read(&operators.run->cloud, find_node, &look);
    snprintf(h->node_id, sizeof h->node_id, "%s", look.id);
    return h->node_id[0] ? h->node_id : NULL;
}

/* ---- one call -------------------------------------------------------------------- */

/* On a host's node, or an instance, or neither. */
struct errand {
    const char *operation;
    char id[64];
    bool must;         /* It is asked for until there is an answer. */
    bool post_copy;    /* StartMigration: memory may follow... */
    bool force;        /* ...also without its owner's word. */
    int64_t at_ns;     /* DrainNode: when that begins; 0: at once. */
    struct host *host; /* To be wiped when this is done; NULL: none. */
};

/* Requests of these operations begin with the one text that they need. */
struct about {
    const char *id;
};

static const struct {
    const char *name;
    size_t size;
} operations[] = {
    {"StartMigration", sizeof(struct moln_start_migration_request)},
    {"CordonNode", sizeof(struct moln_cordon_node_request)},
    {"DrainNode", sizeof(struct moln_drain_node_request)},
    {"UncordonNode", sizeof(struct moln_uncordon_node_request)},
    {"RevokeNode", sizeof(struct moln_revoke_node_request)},
    {"RemoveNode", sizeof(struct moln_remove_node_request)},
    {"RebalanceZone", sizeof(struct moln_rebalance_zone_request)},
};
_Static_assert(offsetof(struct moln_start_migration_request, instance_id) == 0 &&
                   offsetof(struct moln_drain_node_request, node_id) == 0 &&
                   offsetof(struct moln_rebalance_zone_request, zone) == 0,
               "the id is first");

static void
say_how(const struct errand *e, struct moln_start_migration_request *in)
{
    in->post_copy = e->post_copy;
    in->force = in->has_force = e->force;
}

static void *
errand_ask(struct arena *arena, void *ctx)
{
    const struct errand *e = ctx;
    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        if (str_eq(operations[i].name, e->operation)) {
            struct about *in = arena_alloc(arena, operations[i].size);
            in->id = arena_strdup(arena, e->id);
            if (str_eq(e->operation, "StartMigration")) {
                say_how(e, (struct moln_start_migration_request *)in);
            }
            if (e->at_ns) {
                struct moln_drain_node_request *drain = (void *)in;
                drain->not_before = e->at_ns;
                drain->has_not_before = true;
            }
            return in;
        }
    }
    sim_abort("operators do not know %s", e->operation);
}

static void rejoin(void *ctx);
static void errand_done(void *ctx, const void *out, const struct err *err);

static void
errand_send(void *ctx)
{
    struct errand *e = ctx;
    cloud_call(&operators.run->cloud, &moln_service, e->operation, errand_ask,
               errand_done, e);
}

static void
errand_done(void *ctx, const void *out UNUSED, const struct err *err)
{
    struct errand *e = ctx;
    trace("operators: %s %s: %s", e->operation, e->id,
          err->code == ERR_NONE ? "ok" : err->msg);
    if (e->must && err->code == ERR_GONE) {
        (void)world_after(NULL, RETRY_NS, errand_send, e);
        return;
    }
    if (e->host) {
        (void)world_after(NULL, world_between(CHANCE_FAULTS, NS_PER_S, REJOIN_MAX_NS),
                          rejoin, e->host);
    }
    free(e);
}

static void
call(const char *operation, const char *id, bool must, struct host *host)
{
    struct errand *e = xcalloc(1, sizeof *e);
    e->operation = operation;
    e->must = must;
    e->host = host;
    snprintf(e->id, sizeof e->id, "%s", id);
    errand_send(e);
}

/* ---- hosts that go and come ------------------------------------------------------ */

/* Wiped, it is a host that was never there before. */
static void
rejoin(void *ctx)
{
    struct host *h = ctx;
    char old[sizeof h->node_id];
    snprintf(old, sizeof old, "%s", h->node_id);
    trace("operators: %s is wiped", h->name);
    host_wipe(h, ++operators.run->numbers);
    run_join(h);
    call("RemoveNode", old, false, NULL);
}

static void
revoke_host(void)
{
    struct host *h = any_host();
    const char *id = operators.may_revoke ? node_of(h) : NULL;
    if (id) {
        operators.may_revoke = false;
        operators.run->revoked = true;
        HISTORY(MOMENT_REVOKED, .host = h->number);
        call("RevokeNode", id, true, h);
    }
}

static void
on_uncordon(void *ctx)
{
    const char *id = node_of(ctx);
    if (id) {
        call("UncordonNode", id, true, NULL);
    }
}

/* ---- one thing ------------------------------------------------------------------- */

static void
migrate(void)
{
    struct look look = {0};
    if (cloud_is_up(&operators.run->cloud)) {
        cloud_read(&operators.run->cloud, find_settled, &look);
    }
    if (look.id[0]) {
        struct errand *e = xcalloc(1, sizeof *e);
        e->operation = "StartMigration";
        e->post_copy = world_percent(CHANCE_FAULTS, POST_COPY_PERCENT);
        e->force = e->post_copy && world_percent(CHANCE_FAULTS, FORCE_PERCENT);
        snprintf(e->id, sizeof e->id, "%s", look.id);
        errand_send(e);
    }
}

static void
on_any_node(const char *operation)
{
    const char *id = node_of(any_host());
    if (id) {
        call(operation, id, false, NULL);
    }
}

static void
cordon(void)
{
    on_any_node("CordonNode");
}

/* Half of them are planned. */
static void
drain(void)
{
    const char *id = node_of(any_host());
    if (id) {
        struct errand *e = xcalloc(1, sizeof *e);
        e->operation = "DrainNode";
        e->at_ns = world_percent(CHANCE_FAULTS, 50)
                       ? world_real() + world_between(CHANCE_FAULTS, 1, PLAN_MAX_NS)
                       : 0;
        snprintf(e->id, sizeof e->id, "%s", id);
        errand_send(e);
    }
}

static void
uncordon(void)
{
    on_any_node("UncordonNode");
}

static void
rebalance(void)
{
    call("RebalanceZone", CLOUD_ZONE, false, NULL);
}

void
operators_act(void)
{
    static const struct {
        unsigned weight;
        void (*act)(void);
    } acts[] = {{55, migrate},  {8, cordon},    {12, drain},
                {12, uncordon}, {7, rebalance}, {6, revoke_host}};
    uint64_t roll = world_below(CHANCE_FAULTS, 100);
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (roll < acts[i].weight) {
            acts[i].act();
            return;
        }
        roll -= acts[i].weight;
    }
}

static void
on_busy(void *ctx)
{
    if (!operators.ended) {
        migrate();
        (void)world_after(NULL, world_between(CHANCE_FAULTS, NS_PER_MS, BUSY_MAX_NS),
                          on_busy, NULL);
    }
}

void
operators_begin(struct run *run)
{
    operators.run = run;
    operators.may_revoke = world_percent(CHANCE_FAULTS, 25) && run->hosts.count > 1;
    if (run->hosts.count > 1 && world_percent(CHANCE_FAULTS, BUSY_PERCENT)) {
        on_busy(NULL);
    }
}

/* Half of the clouds come to rest with hosts that are drained. */
void
operators_end(void)
{
    struct run *run = operators.run;
    operators.ended = true;
    bool all = world_percent(CHANCE_FAULTS, 50);
    for (size_t i = 0; i < run->hosts.count && all; i++) {
        (void)world_after(NULL, world_between(CHANCE_FAULTS, 1, RETRY_NS), on_uncordon,
                          run->hosts.items[i]);
    }
}
