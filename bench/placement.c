/* placement.c - placement decisions a second, and how well they pack.
 *
 * What:     (1) decisions in memory, alone: the index over 1,000, 10,000 and 100,000 hosts,
 *           machines coming and going at 85 % of what there is;
 *           (2) decisions made durable: transactions that place a batch and change one
 *           claim row a host, on SQLite;
 *           (3) packing: hosts that a stream of machines needs, against the lower bound of
 *           the bin-packing relaxation, and what is full when the first is refused.
 * Peer:     the Kubernetes scheduler's own floor of 680 to 810 pods a second and Nomad's
 *           C1M (3,750 a second) are figures of others; measured here beside it is first
 *           fit: the first host in order that has room.
 * Run:      build/bench/bench-placement [FOLDER]     one JSON line a figure. */
#include "base/file.h"
#include "core/pool.h"

#define HOST_VCPUS 64
#define HOST_GIB 256
#define BATCH 64

/* A machine's size, and how often it comes. Memory includes the emulator's part. */
struct kind {
    const char *mix;
    int64_t vcpus;
    double gib;
    unsigned weight;
};

/* Shares after published traces of clouds: most machines are small. "odd" are sizes that
 * nobody sells: nothing divides a host. */
static const struct kind kinds[] = {
    {"mixed", 2, 1.05, 20},
    {"mixed", 2, 4.1, 22},
    {"mixed", 2, 8.1, 18},
    {"mixed", 4, 8.1, 6},
    {"mixed", 4, 16.2, 14},
    {"mixed", 4, 32.3, 5},
    {"mixed", 8, 32.3, 8},
    {"mixed", 8, 64.5, 3},
    {"mixed", 16, 64.5, 3},
    {"mixed", 16, 32.3, 1},
    {"mixed", 32, 128.9, 1},
    {"burst", 2, 0.55, 30},
    {"burst", 2, 1.05, 30},
    {"burst", 2, 2.06, 20},
    {"burst", 2, 4.1, 15},
    {"burst", 2, 8.1, 5},
    {"skewed", 2, 4.1, 20},
    {"skewed", 4, 8.1, 20},
    {"skewed", 8, 16.2, 10},
    {"skewed", 2, 16.2, 20},
    {"skewed", 4, 32.3, 20},
    {"skewed", 8, 64.5, 10},
    /* Sizes that no cloud sells: nothing divides a host. */
    {"odd", 3, 7.3, 20},
    {"odd", 5, 27.7, 15},
    {"odd", 6, 11.9, 15},
    {"odd", 7, 38.1, 10},
    {"odd", 11, 47.3, 10},
    {"odd", 13, 25.1, 10},
    {"odd", 1, 5.3, 20},
};

static uint64_t
random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct placement_ask
ask_of(const struct kind *kind)
{
    return (struct placement_ask){
        .region = "us-east-1",
        .zone = "us-east-1a",
        .account = "111122223333",
        .claim = {.vcpus = kind->vcpus,
                  .memory_bytes = (int64_t)(kind->gib * (double)GIB),
                  .machines = 1}};
}

static const struct kind *
kind_next(const char *mix, uint64_t *seed)
{
    unsigned sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        sum += str_eq(kinds[i].mix, mix) ? kinds[i].weight : 0;
    }
    unsigned at = (unsigned)(random_next(seed) % sum);
    for (size_t i = 0;; i++) {
        if (!str_eq(kinds[i].mix, mix)) {
            continue;
        }
        if (at < kinds[i].weight) {
            return &kinds[i];
        }
        at -= kinds[i].weight;
    }
}

static void
claim_change(struct claim *sum, const struct claim *by, int sign)
{
    sum->vcpus += sign * by->vcpus;
    sum->memory_bytes += sign * by->memory_bytes;
    sum->machines += sign * by->machines;
}

/* ---- the index ------------------------------------------------------------------- */

struct machine {
    char host[24];
    struct claim claim;
};

struct fleet {
    struct placement_index *index;
    struct machine *machines;
    size_t count;
    int64_t vcpus;
};

static struct placement_host
host_make(size_t i, char id[24])
{
    (void)snprintf(id, 24, "node-%012zx", i);
    return (struct placement_host){
        .id = id,
        .region = "us-east-1",
        .zone = "us-east-1a",
        .class = PLACEMENT_KVM,
        .processors = HOST_VCPUS,
        .ceiling = {.vcpus = HOST_VCPUS, .memory_bytes = HOST_GIB * (int64_t)GIB}};
}

static void
fleet_init(struct fleet *fleet, size_t hosts, enum placement_policy policy)
{
    *fleet = (struct fleet){.index = placement_index_create(policy),
                            .machines =
                                xcalloc(hosts * HOST_VCPUS, sizeof *fleet->machines)};
    for (size_t i = 0; i < hosts; i++) {
        char id[24];
        struct placement_host host = host_make(i, id);
        placement_index_put(fleet->index, &host);
    }
}

static void
fleet_fini(struct fleet *fleet)
{
    placement_index_destroy(fleet->index);
    free(fleet->machines);
}

static bool
fleet_add(struct fleet *fleet, const struct placement_ask *ask)
{
    const struct placement_host *host = placement_index_pick(fleet->index, ask);
    if (!host) {
        return false;
    }
    struct machine *m = &fleet->machines[fleet->count++];
    struct claim sum = host->claimed;
    m->claim = placement_claim(host->class, ask);
    (void)snprintf(m->host, sizeof m->host, "%s", host->id);
    claim_change(&sum, &m->claim, 1);
    placement_index_claim(fleet->index, m->host, &sum);
    fleet->vcpus += m->claim.vcpus;
    return true;
}

static void
fleet_drop(struct fleet *fleet, size_t i)
{
    struct machine *m = &fleet->machines[i];
    struct claim left = placement_index_host(fleet->index, m->host)->claimed;
    claim_change(&left, &m->claim, -1);
    placement_index_claim(fleet->index, m->host, &left);
    fleet->vcpus -= m->claim.vcpus;
    *m = fleet->machines[--fleet->count];
}

static void
fill_to(struct fleet *fleet, size_t hosts, double part, uint64_t *seed)
{
    while ((double)fleet->vcpus < part * (double)hosts * HOST_VCPUS) {
        struct placement_ask ask = ask_of(kind_next("mixed", seed));
        if (!fleet_add(fleet, &ask)) {
            return;
        }
    }
}

/* Machines come and go; what a going one costs is not counted. */
static void
bench_index(size_t hosts)
{
    enum { ROUNDS = 200, EACH = 1000 };
    struct fleet fleet;
    uint64_t seed = 42, refused = 0;
    int64_t spent_ns = 0, worst_ns = 0;
    fleet_init(&fleet, hosts, PLACEMENT_PACK);
    fill_to(&fleet, hosts, 0.85, &seed);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EACH && fleet.count > 0; i++) {
            fleet_drop(&fleet, random_next(&seed) % fleet.count);
        }
        struct placement_ask asks[EACH];
        for (int i = 0; i < EACH; i++) {
            asks[i] = ask_of(kind_next("mixed", &seed));
        }
        int64_t start = clock_mono(&clock_system);
        for (int i = 0; i < EACH; i++) {
            refused += !fleet_add(&fleet, &asks[i]);
        }
        int64_t took = clock_mono(&clock_system) - start;
        spent_ns += took;
        worst_ns = MAX(worst_ns, took);
    }
    printf("{\"bench\": \"placement index\", \"hosts\": %zu, \"machines\": %zu, "
           "\"decisions_per_s\": %.0f, \"slowest_thousand_per_s\": %.0f, \"refused\": "
           "%" PRIu64 ", \"goal_per_s\": 100000}\n",
           hosts, fleet.count, ROUNDS * EACH * 1e9 / (double)spent_ns,
           EACH * 1e9 / (double)worst_ns, refused);
    (void)fflush(stdout);
    fleet_fini(&fleet);
}

/* ---- packing --------------------------------------------------------------------- */

/* First fit, as the peer. */
static size_t
first_fit(const char *mix, size_t machines, size_t hosts_max)
{
    struct claim *hosts = xcalloc(hosts_max, sizeof *hosts);
    uint64_t seed = 4711;
    size_t used = 0;
    for (size_t i = 0; i < machines; i++) {
        struct placement_ask ask = ask_of(kind_next(mix, &seed));
        size_t at = 0;
        while (hosts[at].vcpus + ask.claim.vcpus > HOST_VCPUS ||
               hosts[at].memory_bytes + ask.claim.memory_bytes >
                   HOST_GIB * (int64_t)GIB) {
            at++;
        }
        claim_change(&hosts[at], &ask.claim, 1);
        used = MAX(used, at + 1);
    }
    free(hosts);
    return used;
}

/* Of the relaxation in which machines may be cut anywhere. */
static size_t
bound_of(const struct claim *sum)
{
    double vcpus = (double)sum->vcpus / HOST_VCPUS;
    double bytes = (double)sum->memory_bytes / ((double)HOST_GIB * (double)GIB);
    double most = MAX(vcpus, bytes);
    return (size_t)most + ((double)(size_t)most < most);
}

static size_t
hosts_used(const struct fleet *fleet, size_t hosts)
{
    size_t used = 0;
    for (size_t i = 0; i < hosts; i++) {
        char id[24];
        struct placement_host host = host_make(i, id);
        used += placement_index_host(fleet->index, host.id)->claimed.machines > 0;
    }
    return used;
}

static void
bench_packing(const char *mix)
{
    enum { HOSTS = 4000, MACHINES = 20000 };
    struct fleet fleet;
    struct claim sum = {0};
    uint64_t seed = 4711;
    fleet_init(&fleet, HOSTS, PLACEMENT_PACK);
    for (int i = 0; i < MACHINES; i++) {
        struct placement_ask ask = ask_of(kind_next(mix, &seed));
        if (!fleet_add(&fleet, &ask)) {
            fprintf(stderr, "bench-placement: out of hosts\n");
            break;
        }
        claim_change(&sum, &ask.claim, 1);
    }
    size_t used = hosts_used(&fleet, HOSTS), bound = bound_of(&sum);
    size_t simple = first_fit(mix, MACHINES, HOSTS);
    printf(
        "{\"bench\": \"packing\", \"mix\": \"%s\", \"machines\": %d, \"hosts\": %zu, "
        "\"bound\": %zu, \"ratio\": %.4f, \"first_fit_hosts\": %zu, "
        "\"first_fit_ratio\": %.4f, \"goal_ratio\": 1.03}\n",
        mix, MACHINES, used, bound, (double)used / (double)bound, simple,
        (double)simple / (double)bound);
    (void)fflush(stdout);
    fleet_fini(&fleet);
}

/* How full a fleet is when it refuses a machine, after much coming and going. */
static void
bench_fullness(const char *mix)
{
    enum { HOSTS = 1000 };
    struct fleet fleet;
    uint64_t seed = 99;
    fleet_init(&fleet, HOSTS, PLACEMENT_PACK);
    for (int change = 0; change < 200000; change++) {
        struct placement_ask ask = ask_of(kind_next(mix, &seed));
        if (!fleet_add(&fleet, &ask) || random_next(&seed) % 20 < 9) {
            fleet_drop(&fleet, random_next(&seed) % fleet.count);
        }
    }
    struct placement_ask ask;
    do {
        ask = ask_of(kind_next(mix, &seed));
    } while (fleet_add(&fleet, &ask));
    struct claim sum = {0};
    for (size_t i = 0; i < fleet.count; i++) {
        claim_change(&sum, &fleet.machines[i].claim, 1);
    }
    double vcpus = (double)sum.vcpus / (HOSTS * HOST_VCPUS);
    double bytes = (double)sum.memory_bytes / (HOSTS * (double)HOST_GIB * (double)GIB);
    printf(
        "{\"bench\": \"fullness\", \"mix\": \"%s\", \"vcpus\": %.4f, \"memory\": %.4f, "
        "\"scarcer\": %.4f, \"refused_vcpus\": %" PRId64 ", \"refused_gib\": %.1f}\n",
        mix, vcpus, bytes, MAX(vcpus, bytes), ask.claim.vcpus,
        (double)ask.claim.memory_bytes / (double)GIB);
    (void)fflush(stdout);
    fleet_fini(&fleet);
}

/* ---- durable --------------------------------------------------------------------- */

static const struct cloud_config config = {.cpu_overcommit = 1, .memory_overcommit = 1};

struct durable {
    struct pool *pool;
    size_t hosts, from;
    uint64_t *seed;
    size_t placed, rows;
};

static bool
add_hosts(struct txn *txn, void *ctx, struct err *err)
{
    const struct durable *d = ctx;
    for (size_t i = d->from; i < MIN(d->from + 1000, d->hosts); i++) {
        char id[24];
        (void)host_make(i, id);
        const char *kept = arena_strdup(txn_arena(txn), id);
        const struct row_node node = {
            .id = kept, .region = "us-east-1", .zone = "us-east-1a", .state = "active"};
        const struct row_node_seen seen = {.id = kept,
                                           .vcpus = HOST_VCPUS,
                                           .memory_bytes = HOST_GIB * (int64_t)GIB,
                                           .accel = "kvm",
                                           .connected = true};
        if (!row_insert(txn, &row_node_type, &node, err) ||
            !row_insert(txn, &row_node_seen_type, &seen, err)) {
            return false;
        }
    }
    return true;
}

/* A batch of launches as the writer runs them: each finds its place, and at the end one
 * row a host is written. */
static bool
place_batch(struct txn *txn, void *ctx, struct err *err)
{
    struct durable *d = ctx;
    d->placed = d->rows = 0;
    for (int i = 0; i < BATCH; i++) {
        struct placement_ask ask = ask_of(kind_next("mixed", d->seed));
        struct pool_pick picks[16];
        size_t count;
        if (!pool_place(d->pool, txn, &config, &ask, false, ARRAY_LEN(picks), picks,
                        &count, err)) {
            return false;
        }
        struct claim sum = {0};
        for (size_t k = 0; k < count; k++) {
            struct claim one = ask.claim;
            one.memory_bytes = picks[k].memory_bytes;
            claim_change(&sum, &one, 1);
            bool ends =
                k + 1 == count || !str_eq(picks[k].node_id, picks[k + 1].node_id);
            if (ends && !node_claim_add(txn, picks[k].node_id, &sum, err)) {
                return false;
            }
            d->rows += ends;
            sum = ends ? (struct claim){0} : sum;
        }
        d->placed += count;
    }
    return true;
}

static void
bench_durable(const char *folder, size_t hosts)
{
    struct err err;
    err_clear(&err);
    static uint8_t key[32];
    uint64_t seed = 42;
    AUTO(arena) struct arena *arena = arena_create();
    const char *path = arena_printf(arena, "%s/place-%zu.db", folder, hosts);
    const struct store_config how = {.url = arena_printf(arena, "sqlite:%s", path),
                                     .types = row_types,
                                     .type_count = ROW_TYPES,
                                     .master_key = key,
                                     .rng = &rng_system,
                                     .clock = &clock_system};
    AUTO(store) struct store *store = store_open(&how, &err);
    struct durable d = {.hosts = hosts, .seed = &seed};
    bool ok = store != NULL;
    for (; ok && d.from < hosts; d.from += 1000) {
        ok = store_write(store, arena, add_hosts, &d, &err);
    }
    AUTO(pool) struct pool *pool = ok ? pool_create(store, &config, &err) : NULL;
    d.pool = pool;
    size_t placed = 0, rows = 0, batches = 0;
    int64_t start = clock_mono(&clock_system), spent = 0;
    while (pool && ok && spent < 3 * NS_PER_S && placed < hosts * 12) {
        AUTO(arena) struct arena *each = arena_create();
        ok = store_write(store, each, place_batch, &d, &err);
        placed += d.placed;
        rows += d.rows;
        batches++;
        spent = clock_mono(&clock_system) - start;
    }
    if (!pool || !ok) {
        fprintf(stderr, "bench-placement: %s\n", err.msg);
        exit(1);
    }
    printf(
        "{\"bench\": \"placement durable\", \"hosts\": %zu, \"decisions_per_s\": %.0f, "
        "\"commits_per_s\": %.0f, \"decisions_a_row\": %.1f}\n",
        hosts, (double)placed * 1e9 / (double)spent,
        (double)batches * 1e9 / (double)spent, (double)placed / (double)MAX(rows, 1));
    (void)fflush(stdout);
}

int
main(int argc, char **argv)
{
    char made[] = "/tmp/moln-bench-XXXXXX";
    const char *folder = argc > 1 ? argv[1] : mkdtemp(made);
    const size_t sizes[] = {1000, 10000, 100000};
    if (!folder) {
        perror("bench-placement");
        return 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        bench_index(sizes[i]);
    }
    bench_packing("mixed");
    bench_packing("burst");
    bench_packing("skewed");
    bench_packing("odd");
    bench_fullness("mixed");
    bench_fullness("burst");
    bench_fullness("skewed");
    bench_fullness("odd");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        bench_durable(folder, sizes[i]);
    }
    struct err err;
    return argc > 1 || dir_remove(folder, &err) ? 0 : 1;
}
