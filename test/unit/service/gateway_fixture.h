/* gateway_fixture.h - a gateway over a store of its own, with one tenant and one
 * operator. */
#pragma once
#include "base/file.h"
#include "core/config.h"
#include "service/gateway.h"
#include "store/blobs.h"
#include "store/rows.h"
#include <signal.h>

#define TENANT "123456789012"
#define TENANT_KEY "AKIATESTTESTTEST0001"
#define TENANT_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define OPERATOR_KEY "MOLNTESTTESTTEST0001"
#define OPERATOR_SECRET "operatorsecretoperatorsecretoperatorsecr"

struct gateway_fixture {
    char dir[64], url[128], blobs_dir[128];
    uint8_t key[32];
    struct store *store;
    struct blob_store *blobs;
    struct gateway *gateway;
};

static const struct zone_config fixture_zones[] = {{"us-east-1a", "use1-az1"}};
static const struct region_config fixture_regions[] = {
    {"us-east-1", "ec2.us-east-1.amazonaws.com", fixture_zones, 1}};
static const struct cloud_config fixture_cloud = {
    .regions = fixture_regions,
    .region_count = 1,
    .default_quota_vcpus = 32,
    .default_quota_instances = 20,
    .default_quota_disk_gib = 1,
    .cloud_id = "0badcafe",
    .endpoint_url = "http://127.0.0.1:6656",
};

static inline bool
fixture_rows(struct txn *txn, void *ctx UNUSED, struct err *err)
{
    const struct row_account account = {
        .id = TENANT, .name = "tenant", .state = "active", .user_id = "AIDATENANT"};
    const struct row_access_key tenant = {.id = TENANT_KEY,
                                          .account = TENANT,
                                          .secret = TENANT_SECRET,
                                          .state = "active"};
    const struct row_access_key operator_key = {.id = OPERATOR_KEY,
                                                .account = "operator",
                                                .secret = OPERATOR_SECRET,
                                                .state = "active"};
    static const char *enis[] = {"eni-0123456789abcdef0"};
    const struct row_instance instance = {.account = TENANT,
                                          .id = "i-0123456789abcdef0",
                                          .region = "us-east-1",
                                          .zone = "us-east-1a",
                                          .want_state = "running",
                                          .node_id = "node-1",
                                          .private_ip = "172.31.0.4",
                                          .eni_ids = {enis, 1}};
    const struct row_machine_seen seen = {
        .id = "i-0123456789abcdef0", .node_id = "node-1", .state = "running"};
    return row_put(txn, &row_instance_type, &instance, err) &&
           row_put(txn, &row_machine_seen_type, &seen, err) &&
           row_put(txn, &row_account_type, &account, err) &&
           row_put(txn, &row_access_key_type, &tenant, err) &&
           row_put(txn, &row_access_key_type, &operator_key, err);
}

static inline bool
fixture_echo(void *ctx UNUSED, const struct stream_request *request UNUSED, int fd,
             struct err *err UNUSED)
{
    (void)fd_write_all(fd, "hello from the instance\n", 24);
    close(fd);
    return true;
}

static inline bool
fixture_open(struct gateway_fixture *f, const struct clock *clock,
             const struct rng *rng, struct err *err)
{
    *f = (struct gateway_fixture){.dir = "/tmp/moln-gateway-XXXXXX"};
    if (!mkdtemp(f->dir)) {
        return err_sys(err, 1, "make a folder");
    }
    (void)snprintf(f->url, sizeof f->url, "sqlite:%s/t.db", f->dir);
    (void)snprintf(f->blobs_dir, sizeof f->blobs_dir, "%s/blobs", f->dir);
    const struct store_config config = {.url = f->url,
                                        .types = row_types,
                                        .type_count = ROW_TYPES,
                                        .master_key = f->key,
                                        .rng = rng,
                                        .clock = clock};
    f->store = store_open(&config, err);
    f->blobs = f->store ? blob_store_open(f->blobs_dir, err) : NULL;
    if (!f->blobs) {
        return false;
    }
    AUTO(arena) struct arena *arena = arena_create();
    const struct gateway_config gateway = {.store = f->store,
                                           .clock = clock,
                                           .rng = rng,
                                           .cloud = &fixture_cloud,
                                           .blobs = f->blobs,
                                           .ops = {.open_stream = fixture_echo}};
    f->gateway = gateway_create(&gateway, err);
    return f->gateway && store_write(f->store, arena, fixture_rows, NULL, err);
}

static inline void
fixture_close(struct gateway_fixture *f)
{
    struct err err = {0};
    gateway_destroy(f->gateway);
    blob_store_close(f->blobs);
    store_close(f->store);
    (void)!dir_remove(f->dir, &err);
}
