/* ec2_fixture.h - a cloud of one region and two hosts, in a store of its own, and EC2's
 * handlers called as the gateway calls them: one transaction each. */
#pragma once
#include "base/file.h"
#include "core/instance_rows.h"
#include "service/ec2/common.h"
#include "test.h"

#define ACCOUNT "111122223333"
#define STRANGER "444455556666"
#define IMAGE "ami-0123456789abcdef0"
#define HOST_VCPUS 8

static const struct zone_config zones[] = {{"us-east-1a", "use1-az1"},
                                           {"us-east-1b", "use1-az2"}};
static const struct region_config regions[] = {
    {.name = "us-east-1", .endpoint = "localhost", .zones = zones, .zone_count = 2}};
static const struct instance_type types[] = {
    {.name = "m5.large",
     .family = "m5",
     .vcpus = 2,
     .memory_bytes = 8 * (int64_t)GIB,
     .threads_per_core = 2,
     .dedicated_hosts = true},
    {.name = "t3.micro",
     .family = "t3",
     .vcpus = 2,
     .memory_bytes = (int64_t)GIB,
     .threads_per_core = 2,
     .burstable = true},
};
static const struct cloud_config cloud = {
    .regions = regions,
    .region_count = 1,
    .types = types,
    .type_count = ARRAY_LEN(types),
    .default_quota_vcpus = 32,
    .default_quota_hosts = 2,
    .default_quota_instances = 20,
    .default_quota_disk_gib = 1000,
    .cpu_overcommit = 1.0,
    .memory_overcommit = 1.0,
    .cloud_id = "c10dc10d",
    .endpoint_url = "http://127.0.0.1:6656",
};

struct ec2 {
    char dir[64], url[96];
    uint8_t key[32];
    uint64_t seed;
    struct rng rng;
    struct store *store;
    struct arena *arena;
    int64_t now_ns;
    const char *account;
    struct fragments *fragments; /* NULL: calls get none. */
};

/* A handler, or any other step, with the call made for it. */
typedef bool step_fn(struct call *call, const void *in, void *out, struct err *err);

struct step {
    struct ec2 *ec2;
    const char *operation;
    step_fn *fn;
    const void *in;
    void *out;
    size_t out_size;
};

static inline bool
step_run(struct txn *txn, void *ctx, struct err *err)
{
    struct step *s = ctx;
    struct call call = {
        .arena = s->ec2->arena,
        .txn = txn,
        .config = &cloud,
        .rng = &s->ec2->rng,
        .now_ns = s->ec2->now_ns,
        .account = s->ec2->account,
        .user_arn = "arn:aws:iam::" ACCOUNT ":root",
        .region = "us-east-1",
        .operation = s->operation,
        .fragments = s->ec2->fragments,
    };
    if (s->out) {
        memset(s->out, 0, s->out_size);
    }
    return s->fn(&call, s->in, s->out, err);
}

static inline bool
ec2_step(struct ec2 *e, const char *operation, step_fn *fn, const void *in, void *out,
         size_t out_size, struct err *err)
{
    struct step step = {e, operation, fn, in, out, out_size};
    err_clear(err);
    return store_write(e->store, e->arena, step_run, &step, err);
}

/* CALL(e, run_instances, &in, &out, &err): the handler ec2_run_instances. */
#define CALL(e, operation, in, out, err) \
    ec2_step((e), #operation, (step_fn *)(void (*)(void))ec2_##operation, (in), (out), \
             sizeof *(out), (err))

static inline bool
seed_rows(struct call *call, const void *in, void *out, struct err *err)
{
    static struct row_block_mapping root = {.device = "/dev/xvda",
                                            .snapshot_id = "snap-0123456789abcdef0",
                                            .blob_id = "blob-0123456789abcdef0",
                                            .size_gib = 2,
                                            .delete_on_termination = true};
    struct row_image image = {.id = IMAGE,
                              .account = "000000000000",
                              .region = "us-east-1",
                              .name = "micro",
                              .state = "available",
                              .public = true,
                              .root_device = "/dev/xvda",
                              .firmware = "direct"};
    image.mappings.items = &root;
    image.mappings.count = 1;
    const char *const hosts[] = {"node-a", "node-b"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        const struct row_node node = {.id = hosts[i],
                                      .region = "us-east-1",
                                      .zone = "us-east-1a",
                                      .underlay = hosts[i],
                                      .state = "active"};
        const struct row_node_seen seen = {.id = hosts[i],
                                           .vcpus = HOST_VCPUS,
                                           .memory_bytes = 64 * (int64_t)GIB,
                                           .connected = true};
        if (!row_insert(call->txn, &row_node_type, &node, err) ||
            !row_insert(call->txn, &row_node_seen_type, &seen, err)) {
            return false;
        }
    }
    const char *vpc;
    return row_insert(call->txn, &row_image_type, &image, err) &&
           default_vpc_ensure(call, ACCOUNT, "us-east-1", &vpc, err);
}

static inline void
ec2_init(struct ec2 *e)
{
    struct err err;
    *e = (struct ec2){.dir = "/tmp/moln-ec2-XXXXXX",
                      .seed = 1,
                      .now_ns = INT64_C(1800000000) * NS_PER_S,
                      .account = ACCOUNT};
    CHECK(mkdtemp(e->dir) != NULL);
    (void)snprintf(e->url, sizeof e->url, "sqlite:%s/t.db", e->dir);
    memset(e->key, 7, sizeof e->key);
    e->rng = rng_seeded(&e->seed);
    e->arena = arena_create();
    const struct store_config config = {.url = e->url,
                                        .types = row_types,
                                        .type_count = ROW_TYPES,
                                        .master_key = e->key,
                                        .rng = &rng_system,
                                        .clock = &clock_system};
    e->store = store_open(&config, &err);
    CHECK_OK(e->store, &err);
    CHECK_OK(ec2_step(e, "seed", seed_rows, NULL, NULL, 0, &err), &err);
}

static inline void
ec2_fini(struct ec2 *e)
{
    struct err err;
    store_close(e->store);
    arena_destroy(e->arena);
    CHECK_OK(dir_remove(e->dir, &err), &err);
}

/* What a controller does when the node reports an instance in 'state'. */
static inline bool
node_says(struct call *call, const void *in, void *out, struct err *err)
{
    const char *const *ask = in; /* id, state */
    const struct row_instance key = {.account = ACCOUNT, .id = ask[0]};
    const void *row;
    if (!row_get(call->txn, &row_instance_type, &key, &row, err)) {
        return false;
    }
    const struct row_instance *inst = row;
    const struct row_machine_seen seen = {.id = ask[0],
                                          .node_id = inst->node_id,
                                          .state = ask[1],
                                          .generation = inst->generation};
    if (!row_put(call->txn, &row_machine_seen_type, &seen, err)) {
        return false;
    }
    if (str_eq(inst->want_state, "terminated")) {
        return instance_mark_terminated(call->txn, inst, call->now_ns, NULL, err);
    }
    return str_eq(ask[1], "running")
               ? instance_mark_running(call->txn, inst, NULL, err)
               : instance_mark_stopped(call->txn, inst, NULL, err);
}

static inline void
ec2_node_says(struct ec2 *e, const char *id, const char *seen_state)
{
    struct err err;
    const char *ask[] = {id, seen_state};
    CHECK_OK(ec2_step(e, "report", node_says, ask, NULL, 0, &err), &err);
}
