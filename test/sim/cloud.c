/* cloud.c - see cloud.h. */
#include "cloud.h"

#include "base/file.h"
#include "control/control.h"
#include "mutation.h"
#include "service/ec2/common.h"
#include "store/blobs.h"
#include "store/rows.h"
#include "uv_sim.h"

#define LINK_ADDRESS "10.99.0.1"
#define LINK_PORT_NUMBER 6657
#define PATIENCE_NS (10 * NS_PER_S) /* A client waits so long for an answer. */
#define BLOB "blob-0123456789abcdef0"

static const struct zone_config zones[] = {{CLOUD_ZONE, "use1-az1"}};
static const struct region_config regions[] = {
    {.name = CLOUD_REGION, .endpoint = "localhost", .zones = zones, .zone_count = 1}};
static const struct instance_type types[] = {
    {.name = "m5.large",
     .family = "m5",
     .vcpus = 2,
     .memory_bytes = 8 * (int64_t)GIB,
     .threads_per_core = 2,
     .max_enis = 3,
     .ips_per_eni = 10},
    {.name = "t3.micro",
     .family = "t3",
     .vcpus = 2,
     .memory_bytes = (int64_t)GIB,
     .threads_per_core = 2,
     .max_enis = 2,
     .ips_per_eni = 2,
     .burstable = true},
    {.name = "t3.nano",
     .family = "t3",
     .vcpus = 1,
     .memory_bytes = (int64_t)GIB / 2,
     .threads_per_core = 1,
     .max_enis = 2,
     .ips_per_eni = 2,
     .burstable = true},
};

static uint8_t master_key[32] = {7};

/* ---- the store's turns ----------------------------------------------------------- */

static void
on_turn(void *ctx)
{
    struct cloud *c = ctx;
    c->turning = false;
    if (store_turn(c->store,
                   c->batch_max ? world_below(CHANCE_ORDER, c->batch_max) + 1 : 0)) {
        c->turning = true;
        (void)world_after(c->process, world_between(CHANCE_ORDER, 1, c->commit_ns),
                          on_turn, c);
    }
}

static void
on_wake(void *ctx)
{
    struct cloud *c = ctx;
    if (!c->turning && c->process) {
        c->turning = true;
        (void)world_after(c->process, world_between(CHANCE_ORDER, 1, c->commit_ns),
                          on_turn, c);
    }
}

static void
open_store(struct cloud *c, const struct clock *clock)
{
    struct err err = {0};
    AUTO(free) char *url = xasprintf("sqlite:%s/moln.db", c->dir);
    AUTO(free) char *blobs = xasprintf("%s/blobs", c->dir);
    const struct store_config config = {.url = url,
                                        .types = row_types,
                                        .type_count = ROW_TYPES,
                                        .master_key = master_key,
                                        .rng = world_rng(CHANCE_IDS),
                                        .clock = clock,
                                        .wake = on_wake,
                                        .wake_ctx = c};
    c->store = store_open(&config, &err);
    c->blobs = c->store ? blob_store_open(blobs, &err) : NULL;
    if (!c->blobs) {
        sim_abort("opening the store: %s", err.msg);
    }
}

/* ---- making ---------------------------------------------------------------------- */

static bool
find_account(struct txn *txn, void *ctx, struct err *err)
{
    struct cloud *c = ctx;
    struct row_query query = {0};
    struct row_list list;
    if (!row_list(txn, &row_account_type, &query, &list, err) || !list.count) {
        return false;
    }
    snprintf(c->account, sizeof c->account, "%s",
             ((const struct row_account *)list.rows[0])->id);
    return true;
}

static bool
put_image(struct txn *txn, void *ctx, struct err *err)
{
    const struct cloud *c = ctx;
    struct row_block_mapping root = {.device = "/dev/xvda",
                                     .snapshot_id = "snap-0123456789abcdef0",
                                     .blob_id = BLOB,
                                     .size_gib = 2,
                                     .delete_on_termination = true};
    struct row_image image = {.id = CLOUD_IMAGE,
                              .account = "000000000000",
                              .region = CLOUD_REGION,
                              .name = "micro",
                              .state = "available",
                              .public = true,
                              .root_device = "/dev/xvda",
                              .firmware = "bios"};
    static const char text[] = "a disk of no machine\n";
    char sha256[SHA256_HEX_LEN];
    sha256_hex(text, sizeof text, sha256);
    const struct row_blob blob = {.id = BLOB,
                                  .sha256 = sha256,
                                  .size_bytes = sizeof text,
                                  .format = "qcow2",
                                  .virtual_bytes = (int64_t)GIB,
                                  .state = "ready"};
    image.mappings.items = &root;
    image.mappings.count = 1;
    struct blob_writer *writer = blob_write_begin(c->blobs, BLOB, sizeof text, err);
    uint64_t size;
    char written[SHA256_HEX_LEN];
    return writer && blob_write(writer, text, sizeof text, err) &&
           blob_write_commit(writer, &size, written, err) &&
           row_insert(txn, &row_blob_type, &blob, err) &&
           row_insert(txn, &row_image_type, &image, err);
}

void
cloud_make(struct cloud *c, const char *dir)
{
    struct process *maker = process_start("maker", NULL);
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    *c = (struct cloud){.commit_ns = 5 * NS_PER_MS};
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    c->config = (struct cloud_config){
        .regions = regions,
        .region_count = ARRAY_LEN(regions),
        .types = types,
        .type_count = ARRAY_LEN(types),
        .default_quota_vcpus = INT32_MAX,
        .default_quota_instances = INT32_MAX,
        .default_quota_disk_gib = INT32_MAX,
        .cpu_overcommit = 1.0,
        .memory_overcommit = 1.0,
        .lease_ns = 20 * NS_PER_S,
        .lease_stop_ns = 2 * NS_PER_S,
        .lease_margin_ns = 2 * NS_PER_S,
        .cloud_id = c->boot.cloud_id,
        .endpoint_url = "http://127.0.0.1:6656",
        .ca_sha256 = c->boot.ca_sha256,
    };
    if (!dir_make(dir, 0700, &err)) {
        sim_abort("%s", err.msg);
    }
    if (mutation_is("lease")) {
        c->config.lease_stop_ns = -c->config.lease_ns;
    }
    open_store(c, &maker->clock);
    if (!bootstrap_run(c->store, &maker->clock, world_rng(CHANCE_IDS), &c->boot,
                       &err) ||
        !bootstrap_networks(c->store, &maker->clock, world_rng(CHANCE_IDS), &c->config,
                            &err) ||
        !store_write(c->store, arena, put_image, c, &err) ||
        !store_read(c->store, arena, find_account, c, &err)) {
        sim_abort("making the cloud: %s", err.msg);
    }
    store_close(c->store);
    blob_store_close(c->blobs);
    c->store = NULL;
    process_kill(maker, true);
}

/* ---- life ------------------------------------------------------------------------ */

static void
on_start(void *ctx)
{
    struct cloud *c = ctx;
    struct err err = {0};
    trace("control plane starts");
    open_store(c, &c->process->clock);
    c->pool = pool_create(c->store, &c->config, &err);
    if (!c->pool) {
        sim_abort("the pool: %s", err.msg);
    }
    struct nodes_config config = {
        .loop = &c->process->loop,
        .store = c->store,
        .blobs = c->blobs,
        .clock = &c->process->clock,
        .rng = world_rng(CHANCE_IDS),
        .cloud = &c->config,
        .pool = c->pool,
        .tcp_host = LINK_ADDRESS,
        .tcp_port = LINK_PORT_NUMBER,
        .region = CLOUD_REGION,
        .zone = CLOUD_ZONE,
        .alone = true,
    };
    c->control = control_create(&config, &err);
    if (!c->control) {
        sim_abort("the control plane cannot start: %s", err.msg);
    }
}

bool
cloud_is_up(const struct cloud *c)
{
    return c->process && !c->process->dead && c->control;
}

static void
on_release(void *ctx)
{
    struct cloud *c = ctx;
    c->held = false;
    cloud_start(c);
}

/* What was not committed is lost with it; nobody is told. */
static void
cloud_down(struct cloud *c, int64_t pause_ns)
{
    process_kill(c->process, false);
    store_close(c->store);
    blob_store_close(c->blobs);
    c->store = NULL;
    c->blobs = NULL;
    c->control = NULL;
    c->held = true;
    (void)world_after(NULL, pause_ns, on_release, c);
}

void
cloud_kill(struct cloud *c, int64_t pause_ns)
{
    if (cloud_is_up(c)) {
        cloud_down(c, pause_ns);
    }
}

static void
on_crash(struct process *p)
{
    struct cloud *c = p->about;
    cloud_down(c, c->crash_pause_ns);
}

void
cloud_crash(struct cloud *c, unsigned calls, int64_t pause_ns)
{
    if (cloud_is_up(c)) {
        c->process->crash_in = calls;
        c->crash_pause_ns = pause_ns;
    }
}

void
cloud_start(struct cloud *c)
{
    if (c->held || (c->process && !c->process->dead)) {
        return;
    }
    int64_t skew = c->process ? c->process->skew_ns : 0;
    c->process = process_start("control", NULL);
    c->process->skew_ns = skew;
    c->process->crashed = on_crash;
    c->process->about = c;
    c->starts++;
    c->control = NULL;
    c->turning = false;
    (void)world_after(c->process, 0, on_start, c);
}

void
cloud_read(struct cloud *c, txn_fn *fn, void *ctx)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    if (!store_read(c->store, arena, fn, ctx, &err)) {
        sim_abort("reading rows: %s", err.msg);
    }
}

/* ---- calls ----------------------------------------------------------------------- */

/* Its arena holds it; 'watchdog' ends it when nobody else does. */
struct request {
    struct cloud *cloud;
    const struct service *service;
    const struct operation *operation;
    struct arena *arena;
    const void *in;
    void *out;
    call_fn *done;
    void *ctx;
    int64_t now_ns;
    struct err err;
    struct process *process; /* That carries it out. */
    struct event *watchdog;
    char account[16];
};

static void
request_end(struct request *r)
{
    r->done(r->ctx, r->err.code == ERR_NONE ? r->out : NULL, &r->err);
    arena_destroy(r->arena);
}

static void
on_answer(void *ctx)
{
    struct request *r = ctx;
    if (!r->done) {
        return; /* Too late. */
    }
    world_cancel(r->watchdog);
    request_end(r);
}

/* A process that has died holds nothing of it any more; one that lives keeps what it may
 * still use. */
static void
on_lost(void *ctx)
{
    struct request *r = ctx;
    err_clear(&r->err);
    err_set(&r->err, ERR_GONE, "no answer");
    r->done(r->ctx, NULL, &r->err);
    r->done = NULL;
}

static bool
request_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct request *r = ctx;
    const bool operator= str_eq(r->service->name, "moln");
    struct call call = {
        .arena = r->arena,
        .txn = txn,
        .config = &r->cloud->config,
        .rng = world_rng(CHANCE_IDS),
        .now_ns = r->now_ns,
        .account = operator? "operator" : r->account,
        .user_arn = "arn:aws:iam::111122223333:root",
        .region = CLOUD_REGION,
        .operation = r->operation->name,
        .pool = r->cloud->pool,
    };
    if (r->operation->out) {
        r->out = arena_alloc(r->arena, r->operation->out->size);
    }
    return r->operation->run(&call, r->in, r->out, err);
}

/* In the control plane's name, on its writer. */
static void
request_done(void *ctx, const struct err *err)
{
    struct request *r = ctx;
    if (!r->done) {
        return; /* The client has given it up. */
    }
    r->err = *err;
    if (world_percent(CHANCE_FAULTS, r->cloud->lost_percent)) {
        return;
    }
    (void)world_after(r->process, world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns),
                      on_answer, r);
}

static void
on_request(void *ctx)
{
    struct request *r = ctx;
    struct err err = {0};
    r->now_ns = clock_real(&r->process->clock);
    if (r->operation->writes) {
        store_write_async(r->cloud->store, r->arena, request_txn, request_done, r);
        return;
    }
    if (store_read(r->cloud->store, r->arena, request_txn, r, &err)) {
        err_clear(&err);
    }
    request_done(r, &err);
}

void
cloud_call(struct cloud *c, const struct service *service, const char *name,
           ask_fn *ask, call_fn *done, void *ctx)
{
    struct arena *arena = arena_create();
    struct request *r = ARENA_NEW(arena, struct request);
    *r = (struct request){.cloud = c,
                          .service = service,
                          .operation = service_operation(service, name),
                          .arena = arena,
                          .done = done,
                          .ctx = ctx,
                          .process = c->process};
    memcpy(r->account, c->account, sizeof r->account);
    r->in = ask(arena, ctx);
    if (!r->operation) {
        sim_abort("there is no operation %s", name);
    }
    int64_t patience = cloud_is_up(c) ? PATIENCE_NS : NS_PER_MS;
    r->watchdog = world_after(NULL, patience, on_lost, r);
    if (cloud_is_up(c)) {
        (void)world_after(r->process,
                          world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns),
                          on_request, r);
    }
}
