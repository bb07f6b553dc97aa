/* cloud.c - see cloud.h. */
#include "cloud.h"

#include "base/file.h"
#include "control/control.h"
#include "database.h"
#include "mutation.h"
#include "service/ec2/common.h"
#include "store/blobs.h"
#include "store/rows.h"
#include "uv_sim.h"

#define LINK_ADDRESS "10.99.0.1"
#define LINK_PORT_NUMBER 6657       /* Of the first; each has its own. */
#define PATIENCE_NS (10 * NS_PER_S) /* A client waits so long for an answer. */
#define BLOB "blob-0123456789abcdef0"
#define LOOK_AGAIN_NS (NS_PER_S / 5)
#define START_AGAIN_NS NS_PER_S
#define LATE_NS NS_PER_S

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
    struct seat *s = ctx;
    unsigned most = s->cloud->batch_max;
    s->turning = false;
    if (store_turn(s->store, most ? world_below(CHANCE_ORDER, most) + 1 : 0)) {
        s->turning = true;
        (void)world_after(s->process,
                          world_between(CHANCE_ORDER, 1, s->cloud->commit_ns), on_turn,
                          s);
    }
}

static void
on_wake(void *ctx)
{
    struct seat *s = ctx;
    if (!s->turning && s->process) {
        s->turning = true;
        (void)world_after(s->process,
                          world_between(CHANCE_ORDER, 1, s->cloud->commit_ns), on_turn,
                          s);
    }
}

static void
on_look(void *ctx)
{
    struct seat *s = ctx;
    struct err err = {0};
    s->looking = false;
    if (!store_follow(s->store, &err)) {
        trace("what others wrote: %s", err.msg);
        s->looking = true;
        (void)world_after(s->process, LOOK_AGAIN_NS, on_look, s);
    }
}

/* Somebody commits: all look, and who did it finds nothing. Now and then the news comes
 * late: who reads must not count on it. */
static void
on_news(void *ctx)
{
    struct cloud *c = ctx;
    for (unsigned i = 0; i < c->seat_count; i++) {
        struct seat *s = &c->seats[i];
        if (seat_is_up(s) && !s->looking) {
            bool late = world_percent(CHANCE_ORDER, 20);
            s->looking = true;
            (void)world_after(
                s->process,
                world_between(CHANCE_ORDER, 1, late ? LATE_NS : uv_sim_speed.wire_ns),
                on_look, s);
        }
    }
}

static bool
open_store(struct seat *s, const struct clock *clock, bool alone, struct err *err)
{
    AUTO(free) char *url = xasprintf("sqlite:%s/moln.db", s->cloud->dir);
    AUTO(free) char *blobs = xasprintf("%s/blobs", s->cloud->dir);
    const struct store_config config = {.url = url,
                                        .types = row_types,
                                        .type_count = ROW_TYPES,
                                        .master_key = master_key,
                                        .rng = world_rng(CHANCE_IDS),
                                        .clock = clock,
                                        .wake = on_wake,
                                        .wake_ctx = s,
                                        .driver = alone ? NULL : database_driver()};
    s->store = store_open(&config, err);
    s->blobs = s->store ? blob_store_open(blobs, err) : NULL;
    return s->blobs != NULL;
}

static void
close_store(struct seat *s)
{
    store_close(s->store);
    blob_store_close(s->blobs);
    s->store = NULL;
    s->blobs = NULL;
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
    struct blob_writer *writer =
        blob_write_begin(c->seats[0].blobs, BLOB, sizeof text, err);
    uint64_t size;
    char written[SHA256_HEX_LEN];
    return writer && blob_write(writer, text, sizeof text, err) &&
           blob_write_commit(writer, &size, written, err) &&
           row_insert(txn, &row_blob_type, &blob, err) &&
           row_insert(txn, &row_image_type, &image, err);
}

static void
make_seats(struct cloud *c, unsigned count)
{
    c->seat_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct seat *s = &c->seats[i];
        s->cloud = c;
        s->port = LINK_PORT_NUMBER + (int)i;
        snprintf(s->id, sizeof s->id, count > 1 ? "control-%u" : "control", i + 1);
    }
    database_begin(on_news, c);
}

void
cloud_make(struct cloud *c, const char *dir, unsigned seats)
{
    struct process *maker = process_start("maker", NULL);
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    *c = (struct cloud){.commit_ns = 5 * NS_PER_MS};
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    make_seats(c, seats);
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
    if (mutation_is("lease")) {
        c->config.lease_stop_ns = -c->config.lease_ns;
    }
    struct seat *s = &c->seats[0];
    if (!dir_make(dir, 0700, &err) || !open_store(s, &maker->clock, true, &err) ||
        !bootstrap_run(s->store, &maker->clock, world_rng(CHANCE_IDS), &c->boot,
                       &err) ||
        !bootstrap_networks(s->store, &maker->clock, world_rng(CHANCE_IDS), &c->config,
                            &err) ||
        !store_write(s->store, arena, put_image, c, &err) ||
        !store_read(s->store, arena, find_account, c, &err)) {
        sim_abort("making the cloud: %s", err.msg);
    }
    close_store(s);
    process_kill(maker, true);
}

/* ---- life ------------------------------------------------------------------------ */

static bool
create(struct seat *s, struct err *err)
{
    struct cloud *c = s->cloud;
    bool alone = c->seat_count == 1;
    if (!open_store(s, &s->process->clock, alone, err)) {
        return false;
    }
    s->pool = pool_create(s->store, &c->config, err);
    struct nodes_config config = {
        .loop = &s->process->loop,
        .store = s->store,
        .blobs = s->blobs,
        .clock = &s->process->clock,
        .rng = world_rng(CHANCE_IDS),
        .cloud = &c->config,
        .pool = s->pool,
        .tcp_host = LINK_ADDRESS,
        .tcp_port = s->port,
        .region = CLOUD_REGION,
        .zone = CLOUD_ZONE,
        .control_id = s->id,
        .link_host = alone ? NULL : LINK_ADDRESS,
        .link_port = s->port,
        .alone = alone,
    };
    s->control = s->pool ? control_create(&config, err) : NULL;
    return s->control != NULL;
}

static void seat_start(struct seat *s);

static void
on_release(void *ctx)
{
    struct seat *s = ctx;
    s->held = false;
    seat_start(s);
}

/* What was not committed is lost with it; nobody is told. */
static void
seat_down(struct seat *s, int64_t pause_ns)
{
    process_kill(s->process, false);
    close_store(s);
    s->control = NULL;
    s->held = true;
    (void)world_after(NULL, pause_ns, on_release, s);
}

/* A database that is away ends a start, and whoever looks after the process tries again. */
static void
on_start(void *ctx)
{
    struct seat *s = ctx;
    struct err err = {0};
    trace("control process starts");
    if (!create(s, &err)) {
        if (err.code != ERR_GONE) {
            sim_abort("%s cannot start: %s", s->id, err.msg);
        }
        seat_down(s, START_AGAIN_NS);
    }
}

bool
seat_is_up(const struct seat *s)
{
    return s->process && !s->process->dead && s->control;
}

void
seat_kill(struct seat *s, int64_t pause_ns)
{
    if (seat_is_up(s)) {
        seat_down(s, pause_ns);
    }
}

static void
on_crash(struct process *p)
{
    struct seat *s = p->about;
    seat_down(s, s->crash_pause_ns);
}

void
seat_crash(struct seat *s, unsigned calls, int64_t pause_ns)
{
    if (seat_is_up(s)) {
        s->process->crash_in = calls;
        s->crash_pause_ns = pause_ns;
    }
}

static void
seat_start(struct seat *s)
{
    if (s->held || (s->process && !s->process->dead)) {
        return;
    }
    int64_t skew = s->process ? s->process->skew_ns : 0;
    s->process = process_start(s->id, NULL);
    s->process->skew_ns = skew;
    s->process->crashed = on_crash;
    s->process->about = s;
    s->control = NULL;
    s->turning = s->looking = false;
    (void)world_after(s->process, 0, on_start, s);
}

void
cloud_start(struct cloud *c)
{
    for (unsigned i = 0; i < c->seat_count; i++) {
        seat_start(&c->seats[i]);
    }
}

const char *
cloud_places(const struct cloud *c)
{
    static char places[128];
    int at = 0;
    for (unsigned i = 0; i < c->seat_count; i++) {
        at += snprintf(places + at, sizeof places - (size_t)at, "%s%s:%d", i ? "," : "",
                       LINK_ADDRESS, c->seats[i].port);
    }
    return places;
}

/* One that is up, drawn; or NULL. */
static struct seat *
any_seat(struct cloud *c)
{
    struct seat *up[CLOUD_CONTROLS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < c->seat_count; i++) {
        if (seat_is_up(&c->seats[i])) {
            up[count++] = &c->seats[i];
        }
    }
    return count > 1 ? up[world_below(CHANCE_ORDER, count)] : count ? up[0] : NULL;
}

bool
cloud_is_up(const struct cloud *c)
{
    bool up = false;
    for (unsigned i = 0; i < c->seat_count; i++) {
        up = up || seat_is_up(&c->seats[i]);
    }
    return up;
}

/* By a connection of its own, if the others' database is away. */
void
cloud_read(struct cloud *c, txn_fn *fn, void *ctx)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct seat *s = any_seat(c);
    if (!s) {
        sim_abort("no process to read rows by");
    }
    int64_t away = database_reach(0);
    bool ok = store_read(s->store, arena, fn, ctx, &err);
    (void)database_reach(away);
    if (!ok) {
        sim_abort("reading rows: %s", err.msg);
    }
}

/* ---- calls ----------------------------------------------------------------------- */

/* Its arena holds it; 'watchdog' ends it when nobody else does. */
struct request {
    struct seat *seat; /* That carries it out... */
    const struct service *service;
    const struct operation *operation;
    struct arena *arena;
    const void *in;
    void *out;
    call_fn *done;
    void *ctx;
    int64_t now_ns;
    struct err err;
    struct process *process; /* ...while this is its process. */
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
        .config = &r->seat->cloud->config,
        .rng = world_rng(CHANCE_IDS),
        .now_ns = r->now_ns,
        .account = operator? "operator" : r->account,
        .user_arn = "arn:aws:iam::111122223333:root",
        .region = CLOUD_REGION,
        .operation = r->operation->name,
        .pool = r->seat->pool,
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
    if (world_percent(CHANCE_FAULTS, r->seat->cloud->lost_percent)) {
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
        store_write_async(r->seat->store, r->arena, request_txn, request_done, r);
        return;
    }
    if (store_read(r->seat->store, r->arena, request_txn, r, &err)) {
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
    struct seat *s = any_seat(c);
    *r = (struct request){.seat = s,
                          .service = service,
                          .operation = service_operation(service, name),
                          .arena = arena,
                          .done = done,
                          .ctx = ctx,
                          .process = s ? s->process : NULL};
    memcpy(r->account, c->account, sizeof r->account);
    r->in = ask(arena, ctx);
    if (!r->operation) {
        sim_abort("there is no operation %s", name);
    }
    r->watchdog = world_after(NULL, s ? PATIENCE_NS : NS_PER_MS, on_lost, r);
    if (s) {
        (void)world_after(r->process,
                          world_between(CHANCE_ORDER, 1, uv_sim_speed.wire_ns),
                          on_request, r);
    }
}
