/* molnd.c - the control plane: gateway, services, controllers and nodes in one process.
 *
 * Never root while it works, never touches a device. One libuv loop (nodes and
 * controllers), the store's writer, and the gateway's threads; SIGTERM ends all of them
 * in that order, and any other end is no worse: everything durable is in the store. */
#include "base/file.h"
#include "base/log.h"
#include "control/control.h"
#include "core/pool.h"
#include "main/bootstrap.h"
#include "main/settings.h"
#include "main/state.h"
#include "service/gateway.h"
#include "store/master_key.h"

#include <errno.h>
#include <signal.h>

#define KEEP_FREE_BYTES GIB /* Of the disk that images and uploads lie on. */

struct molnd {
    struct arena *arena;
    struct settings settings;
    struct state state;
    struct bootstrap boot;
    uv_loop_t loop;
    struct store *store;
    struct blob_store *blobs;
    struct pool *pool;
    struct control *control;
    struct gateway *gateway;
    size_t processes; /* That serve this cloud. */
    uv_signal_t signals[2];
};

/* ---- doors of the gateway -------------------------------------------------------- */

static void
on_live(void *ctx, const struct live_ask *ask, int64_t timeout_ns, struct arena *arena,
        const void **out, size_t *out_len)
{
    struct molnd *m = ctx;
    struct err err = {0};
    char *data;
    size_t len;
    *out = NULL;
    *out_len = 0;
    if (!nodes_call(control_nodes(m->control), ask->node_id, ask->what, ask->object,
                    timeout_ns, &data, &len, &err)) {
        log_warn("%s of %s: %s", ask->what, ask->object, err.msg);
        return;
    }
    *out = arena_memdup(arena, data, len);
    *out_len = len;
    free(data);
}

static bool
on_stream(void *ctx, const struct stream_request *request, int fd,
          struct err *err UNUSED)
{
    struct molnd *m = ctx;
    struct nodes_stream stream = {
        .node_id = request->node_id,
        .ticket = request->ticket,
        .what = request->what,
        .instance_id = request->instance_id,
        .address = request->address,
        .port_id = request->eni_id,
        .port = request->port,
    };
    nodes_stream(control_nodes(m->control), &stream, fd);
    return true;
}

/* From a guest, through an endpoint of its VPC. */
static bool
on_caller(void *ctx, int fd, const char *address, int port, struct err *err)
{
    struct molnd *m = ctx;
    if (!m->gateway) {
        close(fd);
        return err_set(err, ERR_UNAVAILABLE, "the API is not served yet");
    }
    return gateway_take(m->gateway, fd, address, port, err);
}

static void
on_key_changed(void *ctx, const struct row_type *type, const void *key UNUSED)
{
    struct molnd *m = ctx;
    if (type == &row_access_key_type || type == &row_account_type) {
        gateway_forget(m->gateway);
    }
}

static void
on_sharing(void *ctx, size_t processes)
{
    struct molnd *m = ctx;
    m->processes = processes;
    if (m->gateway) { /* Else it is told as it starts. */
        gateway_share(m->gateway, processes);
    }
}

/* ---- starting -------------------------------------------------------------------- */

static bool
first_blob(struct txn *txn, void *ctx, struct err *err)
{
    const char **out = ctx;
    struct row_query query = {0};
    struct row_list blobs;
    *out = NULL;
    if (!row_list(txn, &row_blob_type, &query, &blobs, err)) {
        return false;
    }
    for (size_t i = 0; i < blobs.count && !*out; i++) {
        const struct row_blob *blob = blobs.rows[i];
        *out = str_eq(blob->state, "ready") ? blob->id : NULL;
    }
    return true;
}

/* Processes that share rows must share blobs: one that has a folder of its own would serve
 * images that it has not got. */
static bool
check_blobs(struct molnd *m, const char *dir, struct err *err)
{
    const char *id;
    AUTO(fd) int fd = -1;
    uint64_t size;
    struct err missing = {0};
    if (!store_shared(m->store)) {
        return true;
    }
    if (!m->settings.blobs) {
        log_warn("images lie in %s, where no other control process sees them: see "
                 "--blobs",
                 dir);
    }
    if (!store_read(m->store, m->arena, first_blob, &id, err)) {
        return false;
    }
    if (id && !blob_open(m->blobs, id, &fd, &size, &missing)) {
        log_error(
            "%s lacks this cloud's images (%s): --blobs must name the folder that "
            "all control processes share",
            dir, id);
    }
    return true;
}

static bool
open_store(struct molnd *m, struct err *err)
{
    uint8_t key[SEAL_KEY_LEN];
    const char *key_file =
        m->settings.master_key
            ? m->settings.master_key
            : arena_printf(m->arena, "%s/master.key", m->state.control);
    if (!master_key_load(key_file, &rng_system, key, err)) {
        return false;
    }
    const char *url = m->settings.store ? m->settings.store
                                        : arena_printf(m->arena, "sqlite:%s/moln.db",
                                                       m->state.control);
    struct store_config config = {
        .url = url,
        .types = row_types,
        .type_count = ROW_TYPES,
        .master_key = key,
        .rng = &rng_system,
        .clock = &clock_system,
    };
    m->store = store_open(&config, err);
    explicit_bzero(key, sizeof key);
    if (!m->store) {
        return err->code == ERR_DENIED && master_key_unsettled(key_file)
                   ? err_wrap(err, "'moln store rekey' was cut short, run it again")
                   : false;
    }
    const char *blobs = m->settings.blobs
                            ? m->settings.blobs
                            : arena_printf(m->arena, "%s/blobs", m->state.control);
    m->blobs = blob_store_open(blobs, err);
    if (m->blobs) {
        blob_store_keep_free(m->blobs, KEEP_FREE_BYTES);
    }
    return m->blobs && check_blobs(m, blobs, err) &&
           bootstrap_run(m->store, &clock_system, &rng_system, &m->boot, err);
}

static bool
write_keys(struct molnd *m, int fd, const char *id, const char *secret, struct err *err)
{
    if (lseek(fd, 0, SEEK_END) > 0 || str_empty(id)) {
        return true; /* There already, or switched off by the operator. */
    }
    return state_fill(fd,
                      arena_printf(m->arena,
                                   "[default]\naws_access_key_id = %s\n"
                                   "aws_secret_access_key = %s\nregion = %s\n",
                                   id, secret, m->settings.region),
                      err);
}

/* Where others reach what --link listens on: a name of this host when it is all of its
 * addresses. */
static bool
link_address(struct molnd *m, struct nodes_config *config, struct err *err)
{
    char name[256];
    if (m->settings.link_address) {
        return settings_address(m->arena, m->settings.link_address, &config->link_host,
                                &config->link_port, err) ||
               err_wrap(err, "--link-address");
    }
    config->link_host = config->tcp_host;
    if (str_eq(config->tcp_host, "0.0.0.0") || str_eq(config->tcp_host, "::")) {
        if (gethostname(name, sizeof name) != 0) {
            return err_sys(err, errno, "this host's name");
        }
        config->link_host = arena_strdup(m->arena, name);
    }
    return true;
}

static bool
start_control(struct molnd *m, struct err *err)
{
    char id[33] = "";
    struct cloud_config *cloud = &m->settings.cloud;
    cloud->cloud_id = m->boot.cloud_id;
    cloud->ca_sha256 = m->boot.ca_sha256;
    cloud->flow_logs_dir =
        m->settings.flow_logs
            ? m->settings.flow_logs
            : arena_printf(m->arena, "%s/flow-logs", m->state.control);
    struct nodes_config config = {
        .loop = &m->loop,
        .store = m->store,
        .blobs = m->blobs,
        .clock = &clock_system,
        .rng = &rng_system,
        .cloud = cloud,
        .pool = m->pool,
        .unix_path = state_path(&m->state, "link.sock"),
        .region = m->settings.region,
        .zone = m->settings.zone,
        .alone = !store_shared(m->store),
        .sharing = on_sharing,
        .sharing_ctx = m,
        .caller = on_caller,
        .caller_ctx = m,
    };
    if (m->settings.link &&
        !settings_address(m->arena, m->settings.link, &config.tcp_host,
                          &config.tcp_port, err)) {
        return err_wrap(err, "--link");
    }
    if (!link_address(m, &config, err) ||
        (!config.alone && !state_control_id(&m->state, &rng_system, id, err))) {
        return false;
    }
    config.control_id = config.alone ? NULL : id;
    m->control = control_create(&config, err);
    if (m->control && config.tcp_host) {
        log_info("nodes join at %s:%d", config.tcp_host,
                 nodes_port(control_nodes(m->control)));
    }
    return m->control != NULL;
}

/* The endpoint file is the sign that the cloud answers: it is written last. */
static bool
start_gateway(struct molnd *m, struct err *err)
{
    const char *host;
    int port;
    uint16_t real_port;
    if (!settings_address(m->arena, m->settings.listen, &host, &port, err)) {
        return err_wrap(err, "--listen");
    }
    struct gateway_config config = {
        .store = m->store,
        .clock = &clock_system,
        .rng = &rng_system,
        .cloud = &m->settings.cloud,
        .pool = m->pool,
        .blobs = m->blobs,
        .ops = {.live = on_live, .open_stream = on_stream, .ctx = m},
        .rates = {.read_rate = m->settings.read_rate,
                  .write_rate = m->settings.write_rate},
    };
    struct gateway_listen listen = {
        .address = m->settings.listen,
        .cert_file = m->settings.tls_cert,
        .key_file = m->settings.tls_key,
    };
    m->gateway = gateway_create(&config, err);
    if (!m->gateway || !gateway_listen(m->gateway, &listen, &real_port, err)) {
        return false;
    }
    gateway_share(m->gateway, m->processes);
    store_watch(m->store, on_key_changed, m);
    const char *shown = str_eq(host, "0.0.0.0") ? "127.0.0.1" : host;
    const char *url =
        arena_printf(m->arena, strchr(shown, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
                     m->settings.tls_cert ? "https" : "http", shown, real_port);
    m->settings.cloud.endpoint_url = url;
    log_info("serving %s at %s", m->settings.region, url);
    return file_write(state_path(&m->state, "endpoint"),
                      arena_printf(m->arena, "%s\n", url), strlen(url) + 1, 0644, err);
}

/* ---- ending ---------------------------------------------------------------------- */

static void
on_control_closed(void *ctx)
{
    struct molnd *m = ctx;
    for (size_t i = 0; i < ARRAY_LEN(m->signals); i++) {
        uv_close((uv_handle_t *)&m->signals[i], NULL);
    }
}

static void
on_signal(uv_signal_t *handle, int signum)
{
    struct molnd *m = handle->data;
    log_info("ending on signal %d", signum);
    for (size_t i = 0; i < ARRAY_LEN(m->signals); i++) {
        uv_signal_stop(&m->signals[i]);
    }
    store_unwatch(m->store, on_key_changed, m);
    gateway_stop(m->gateway);
    control_close(m->control, on_control_closed, m);
}

static bool
molnd_start(struct molnd *m, struct err *err)
{
    if (!state_open(&m->state, m->settings.state, m->settings.user, err) ||
        !open_store(m, err) ||
        !bootstrap_networks(m->store, &clock_system, &rng_system, &m->settings.cloud,
                            err) ||
        !write_keys(m, m->state.credentials_fd, m->boot.tenant_id,
                    m->boot.tenant_secret, err) ||
        !write_keys(m, m->state.operator_fd, m->boot.operator_id,
                    m->boot.operator_secret, err) ||
        !(m->pool = pool_create(m->store, &m->settings.cloud, err)) ||
        !start_control(m, err) || !start_gateway(m, err)) {
        return false;
    }
    const int signums[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < ARRAY_LEN(m->signals); i++) {
        m->signals[i].data = m;
        uv_signal_init(&m->loop, &m->signals[i]);
        uv_signal_start(&m->signals[i], on_signal, signums[i]);
    }
    return true;
}

int
main(int argc, char **argv)
{
    struct molnd m = {.arena = arena_create()};
    struct err err = {0};
    bool done = false;
    log_init("molnd", LOG_INFO, 2);
    signal(SIGPIPE, SIG_IGN);
    if (!settings_read(m.arena, argc, argv, &m.settings, &done, &err)) {
        fprintf(stderr, "molnd: %s\n", err.msg);
        return 2;
    }
    if (done) {
        return 0;
    }
    if (m.settings.debug) {
        log_init("molnd", LOG_DEBUG, 2);
    }
    uv_loop_init(&m.loop);
    if (!molnd_start(&m, &err)) {
        log_error("cannot start: %s", err.msg);
        return 1;
    }
    uv_run(&m.loop, UV_RUN_DEFAULT);
    gateway_destroy(m.gateway);
    struct store_counts counts = store_counts(m.store);
    log_info("wrote %" PRIu64 " rows in %" PRIu64 " transactions and %" PRIu64
             " commits",
             counts.rows, counts.transactions, counts.commits);
    pool_destroy(m.pool);
    store_close(m.store);
    blob_store_close(m.blobs);
    uv_loop_close(&m.loop);
    state_close(&m.state);
    arena_destroy(m.arena);
    log_info("ended");
    return 0;
}
