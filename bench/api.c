/* api.c - DescribeInstances and GetCallerIdentity through the whole door: HTTP over
 * keep-alive connections, the signature verified, the handler, the answer.
 *
 * Usage: bench-api [SECONDS [INSTANCES]]. With INSTANCES: pages and filters of an account that
 * has so many, and what becomes of others meanwhile. The gateway runs on one connection thread; the clients are
 * threads of the same process, so give the machine two cores. Requests are signed once and
 * sent again (a signature is good for 15 minutes): signing is the client's cost. The CPU
 * column is what the connection thread used for one request: its inverse is what one core
 * can serve. */
#include "base/file.h"
#include "core/config.h"
#include "service/gateway.h"
#include "store/rows.h"
#include "wire/sigv4.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#define ACCOUNT "111122223333"
#define KEY "AKIABENCHBENCHBENCH1"
#define SECRET "benchsecretbenchsecretbenchsecretbenchse"
#define CLIENTS 16
#define SAMPLES 400000

static const struct zone_config zones[] = {{"us-east-1a", "use1-az1"}};
static const struct region_config regions[] = {
    {"us-east-1", "ec2.us-east-1.amazonaws.com", zones, 1}};
static const struct cloud_config cloud = {
    .regions = regions, .region_count = 1, .cloud_id = "0badcafe"};

static uint16_t port;
static int rows_there;
static volatile bool running;

static int64_t
now(void)
{
    return clock_mono(&clock_system);
}

static void
die(const char *what)
{
    (void)fprintf(stderr, "bench-api: %s\n", what);
    exit(1);
}

/* ---- rows ------------------------------------------------------------------------------- */

static bool
put_instance(struct txn *txn, int i, struct err *err)
{
    static struct row_instance_group groups[] = {{"sg-0123456789abcdef0", "default"}};
    char id[24], eni[24], volume[24];
    (void)snprintf(id, sizeof id, "i-%017x", (unsigned)i);
    (void)snprintf(eni, sizeof eni, "eni-%017x", (unsigned)i);
    (void)snprintf(volume, sizeof volume, "vol-%017x", (unsigned)i);
    const char *enis[] = {eni}, *group_ids[] = {groups[0].id};
    const struct row_instance row = {
        .account = ACCOUNT,
        .id = id,
        .region = "us-east-1",
        .zone = "us-east-1a",
        .reservation_id = "r-0123456789abcdef0",
        .launched_at = NS_PER_S,
        .created_at = NS_PER_S,
        .image_id = "ami-0123456789abcdef0",
        .type = "t3.micro",
        .vcpus = 2,
        .memory_bytes = (int64_t)GIB,
        .want_state = "running",
        .node_id = "node-0123456789abcdef0",
        .subnet_id = "subnet-0123456789abcdef0",
        .vpc_id = "vpc-0123456789abcdef0",
        .eni_ids = {enis, 1},
        .root_volume_id = volume,
        .root_device = "/dev/xvda",
        .shutdown_behavior = "stop",
        .http_tokens = "required",
        .http_endpoint = "enabled",
        .http_hop_limit = 1,
        .key_name = "key",
        .groups = {groups, 1},
        .private_ip = "172.31.0.10",
        .private_dns = "ip-172-31-0-10.ec2.internal",
    };
    const struct row_eni card = {.account = ACCOUNT,
                                 .id = eni,
                                 .region = "us-east-1",
                                 .zone = "us-east-1a",
                                 .subnet_id = row.subnet_id,
                                 .vpc_id = row.vpc_id,
                                 .mac = "02:00:00:00:00:01",
                                 .ipv4 = "172.31.0.10",
                                 .instance_id = id,
                                 .attachment_id = "eni-attach-0123456789abcdef0",
                                 .attached_at = NS_PER_S,
                                 .group_ids = {group_ids, 1}};
    const struct row_machine_seen seen = {.id = id, .state = "running"};
    return row_put(txn, &row_instance_type, &row, err) &&
           row_put(txn, &row_eni_type, &card, err) &&
           row_put(txn, &row_machine_seen_type, &seen, err);
}

static bool
fill(struct txn *txn, void *ctx, struct err *err)
{
    const struct row_account account = {.id = ACCOUNT, .state = "active"};
    const struct row_access_key key = {
        .id = KEY, .account = ACCOUNT, .secret = SECRET, .state = "active"};
    for (int i = rows_there; i < *(int *)ctx; i++) {
        if (!put_instance(txn, i, err)) {
            return false;
        }
    }
    return row_put(txn, &row_account_type, &account, err) &&
           row_put(txn, &row_access_key_type, &key, err);
}

/* ---- clients ---------------------------------------------------------------------------- */

struct load {
    const char *request;
    const volatile bool *running;
    size_t len;
    uint32_t *samples_ns;
    size_t count, bytes;
};

static int
dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        die("connect");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Reads one answer of status 200; its length. */
static size_t
read_answer(int fd, char *room, size_t size)
{
    size_t have = 0, want = SIZE_MAX;
    while (have < want) {
        ssize_t n = recv(fd, room, size - 1, 0);
        if (n <= 0) {
            die("the connection was lost");
        }
        if (want == SIZE_MAX) { /* The head comes in one piece, on loopback. */
            room[n] = '\0';
            const char *end = strstr(room, "\r\n\r\n");
            const char *length = strcasestr(room, "content-length:");
            if (!str_starts(room, "HTTP/1.1 200") || !end || !length) {
                die(room);
            }
            want = (size_t)(end - room) + 4 + strtoul(length + 15, NULL, 10);
        }
        have += (size_t)n;
    }
    return have;
}

static void *
client_run(void *ctx)
{
    struct load *load = ctx;
    int fd = dial();
    static const size_t size = 256 * 1024;
    AUTO(free) char *room = xmalloc(size);
    while (*load->running) {
        int64_t begin = now();
        if (fd_write_all(fd, load->request, load->len) != 0) {
            die("send");
        }
        load->bytes = read_answer(fd, room, size);
        if (load->count < SAMPLES) {
            load->samples_ns[load->count] = (uint32_t)MIN(now() - begin, UINT32_MAX);
        }
        load->count++;
    }
    close(fd);
    return NULL;
}

static char *
sign(const char *service, const char *body)
{
    AUTO(arena) struct arena *arena = arena_create();
    char host[64];
    (void)snprintf(host, sizeof host, "127.0.0.1:%u", port);
    const struct http_header given[] = {
        {"Host", host},
        {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}};
    const struct http_request request = {.method = "POST",
                                         .path = "/",
                                         .query = "",
                                         .headers = given,
                                         .header_count = 2,
                                         .body = body,
                                         .body_len = strlen(body)};
    const struct sigv4_signer signer = {.key_id = KEY,
                                        .secret = SECRET,
                                        .region = "us-east-1",
                                        .service = service,
                                        .now_ns = clock_real(&clock_system)};
    struct http_header out[SIGV4_SIGN_HEADERS];
    sigv4_sign(&request, &signer, arena, out);
    return xasprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n"
                     "User-Agent: bench\r\n%s: %s\r\n%s: %s\r\n%s: %s\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     host, given[1].value, out[0].name, out[0].value, out[1].name,
                     out[1].value, out[2].name, out[2].value, strlen(body), body);
}

/* ---- measuring -------------------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int64_t
clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* The CPU time of this process but for its clients and the caller. */
static int64_t
server_cpu(const pthread_t *threads)
{
    int64_t cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; threads && i < CLIENTS; i++) {
        clockid_t id;
        if (pthread_getcpuclockid(threads[i], &id) == 0) {
            cpu -= clock_of(id);
        }
    }
    return cpu - clock_of(CLOCK_THREAD_CPUTIME_ID);
}

static void
measure(const char *what, const char *service, const char *body, int64_t seconds)
{
    AUTO(free) char *request = sign(service, body);
    struct load loads[CLIENTS] = {0};
    pthread_t threads[CLIENTS];
    running = true;
    for (size_t i = 0; i < CLIENTS; i++) {
        loads[i] = (struct load){request, &running, strlen(request),
                                 xcalloc(SAMPLES, sizeof(uint32_t)), 0, 0};
        if (pthread_create(&threads[i], NULL, client_run, &loads[i]) != 0) {
            die("thread");
        }
    }
    usleep(200000);
    size_t before = 0, after = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        before += loads[i].count;
    }
    int64_t cpu = server_cpu(threads), begin = now();
    usleep((useconds_t)(seconds * 1000000));
    cpu = server_cpu(threads) - cpu;
    int64_t took = now() - begin;
    for (size_t i = 0; i < CLIENTS; i++) {
        after += loads[i].count;
    }
    running = false;
    uint32_t *all = xcalloc(CLIENTS * SAMPLES, sizeof *all);
    size_t count = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        size_t n = MIN(loads[i].count, SAMPLES);
        memcpy(all + count, loads[i].samples_ns, n * sizeof *all);
        count += n;
        free(loads[i].samples_ns);
    }
    qsort(all, count, sizeof *all, compare);
    double done = (double)(after - before);
    printf("%-28s %9.0f /s %9.1f us CPU %9.0f /s a core %8.2f ms p50 %8.2f ms p99 %8zu "
           "B\n",
           what, done * 1e9 / (double)took, (double)cpu / done / 1e3,
           done * 1e9 / (double)cpu, all[count / 2] / 1e6, all[count * 99 / 100] / 1e6,
           loads[0].bytes);
    free(all);
}

/* ---- one large account ------------------------------------------------------------------ */

#define DESCRIBE "Action=DescribeInstances&Version=2016-11-15"
#define ROWS_AT_ONCE 5000
#define SCANS 4

static void
fill_large(struct store *store, int count)
{
    struct err err = {0};
    for (int to = rows_there + ROWS_AT_ONCE; rows_there < count; to += ROWS_AT_ONCE) {
        AUTO(arena) struct arena *arena = arena_create();
        if (!store_write(store, arena, fill, &to, &err)) {
            die(err.msg);
        }
        rows_there = to;
    }
}

/* One call at a time, a few times: the median. */
static void
ask_alone(const char *what, const char *body)
{
    static const size_t size = 256 * 1024;
    AUTO(free) char *request = sign("ec2", body);
    AUTO(free) char *room = xmalloc(size);
    uint32_t took_us[5];
    size_t bytes = 0;
    int fd = dial();
    for (size_t i = 0; i < ARRAY_LEN(took_us); i++) {
        int64_t begin = now();
        if (fd_write_all(fd, request, strlen(request)) != 0) {
            die("send");
        }
        bytes = read_answer(fd, room, size);
        took_us[i] = (uint32_t)MIN((now() - begin) / 1000, UINT32_MAX);
    }
    close(fd);
    qsort(took_us, ARRAY_LEN(took_us), sizeof took_us[0], compare);
    printf("%-44s %10.1f ms %10zu B\n", what, took_us[ARRAY_LEN(took_us) / 2] / 1e3,
           bytes);
}

static void
measure_large(struct store *store, int count, int64_t seconds)
{
    static const char scan[] = DESCRIBE "&MaxResults=1000&Filter.1.Name=private-ip-address"
                                        "&Filter.1.Value.1=10.0.0.1";
    static volatile bool scanning = true;
    struct load loads[SCANS] = {0};
    pthread_t threads[SCANS];
    fill_large(store, count);
    printf("%d instances\n", rows_there);
    ask_alone("first page of 1,000", DESCRIBE "&MaxResults=1000");
    ask_alone("no MaxResults", DESCRIBE);
    ask_alone("filter by a column that none has", scan);
    ask_alone("filter by a tag that none has",
              DESCRIBE "&MaxResults=1000&Filter.1.Name=tag:Name&Filter.1.Value.1=x");
    ask_alone("filter by a MAC address that none has",
              DESCRIBE "&MaxResults=1000&Filter.1.Name=network-interface.mac-address"
                       "&Filter.1.Value.1=x");
    AUTO(free) char *request = sign("ec2", scan);
    for (size_t i = 0; i < SCANS; i++) {
        loads[i] = (struct load){request, &scanning, strlen(request),
                                 xcalloc(SAMPLES, sizeof(uint32_t)), 0, 0};
        if (pthread_create(&threads[i], NULL, client_run, &loads[i]) != 0) {
            die("thread");
        }
    }
    measure("GetCallerIdentity beside 4 scans", "sts",
            "Action=GetCallerIdentity&Version=2011-06-15", seconds);
    scanning = false;
    for (size_t i = 0; i < SCANS; i++) {
        pthread_join(threads[i], NULL);
        free(loads[i].samples_ns);
    }
}

int
main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoll(argv[1]) : 5;
    int large = argc > 2 ? atoi(argv[2]) : 0;
    struct err err = {0};
    char dir[] = "/tmp/moln-bench-XXXXXX", url[64];
    static const uint8_t key[32] = {7};
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(dir)) {
        die("make a folder");
    }
    (void)snprintf(url, sizeof url, "sqlite:%s/t.db", dir);
    const struct store_config store_config = {url, row_types,   ROW_TYPES,
                                              key, &rng_system, &clock_system};
    struct store *store = store_open(&store_config, &err);
    const struct gateway_config config = {
        .store = store,
        .clock = &clock_system,
        .rng = &rng_system,
        .cloud = &cloud,
        .rates = {.read_rate = 1000000, .read_burst = 1000000}};
    struct gateway *gateway = store ? gateway_create(&config, &err) : NULL;
    const struct gateway_listen how = {.address = "127.0.0.1:0", .threads = 1};
    if (!gateway || !gateway_listen(gateway, &how, &port, &err)) {
        die(err.msg);
    }
    static const int sizes[] = {1, 100, 1000};
    if (large) {
        measure_large(store, large, seconds);
    }
    for (size_t i = 0; !large && i < ARRAY_LEN(sizes); i++) {
        AUTO(arena) struct arena *arena = arena_create();
        int size = sizes[i];
        char what[64];
        if (!store_write(store, arena, fill, &size, &err)) {
            die(err.msg);
        }
        rows_there = size;
        if (i == 0) {
            measure("GetCallerIdentity", "sts",
                    "Action=GetCallerIdentity&Version=2011-06-15", seconds);
        }
        (void)snprintf(what, sizeof what, "DescribeInstances, %d", size);
        measure(what, "ec2", "Action=DescribeInstances&Version=2016-11-15", seconds);
    }
    gateway_destroy(gateway);
    store_close(store);
    return dir_remove(dir, &err) ? 0 : 1;
}
