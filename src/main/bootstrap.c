/* bootstrap.c - see bootstrap.h. */
#include "main/bootstrap.h"

#include "base/crypto.h"
#include "core/access_key.h"
#include "core/id.h"
#include "link/pki.h"
#include "service/ec2/common.h"

struct boot {
    const struct rng *rng;
    int64_t now_ns;
    struct bootstrap *out;
    const struct cloud_config *cloud;
};

static bool
boot_cloud(struct txn *txn, struct boot *boot, struct err *err)
{
    struct arena *arena = txn_arena(txn);
    const struct row_cloud *cloud;
    struct row_cloud key = {.id = "cloud"};
    if (!row_get(txn, &row_cloud_type, &key, (const void **)&cloud, err)) {
        return false;
    }
    if (!cloud) {
        uint8_t random[4];
        char id[9];
        struct pki_pair ca;
        boot->rng->fill(boot->rng->ctx, random, sizeof random);
        hex_encode(random, sizeof random, id);
        if (!pki_ca_make(arena, boot->rng, boot->now_ns, id, &ca, err)) {
            return false;
        }
        struct row_cloud *fresh = ARENA_NEW(arena, struct row_cloud);
        *fresh = (struct row_cloud){
            .id = "cloud",
            .cloud_id = arena_strdup(arena, id),
            .created_at = boot->now_ns,
            .ca_cert_pem = ca.cert_pem,
            .ca_key_pem = ca.key_pem,
        };
        if (!row_insert(txn, &row_cloud_type, fresh, err)) {
            return false;
        }
        cloud = fresh;
    }
    AUTO(pki_ca)
    struct pki_ca *ca = pki_ca_load(cloud->ca_cert_pem, cloud->ca_key_pem, err);
    if (!ca) {
        return false;
    }
    snprintf(boot->out->cloud_id, sizeof boot->out->cloud_id, "%s", cloud->cloud_id);
    snprintf(boot->out->ca_sha256, sizeof boot->out->ca_sha256, "%s",
             pki_ca_sha256(ca));
    return true;
}

/* An active key of 'account'; made when it has none. */
static bool
boot_key(struct txn *txn, struct boot *boot, const char *account, char *out_id,
         size_t id_size, char *out_secret, size_t secret_size, struct err *err)
{
    struct row_access_key prefix = {.account = account};
    struct row_query query = {
        .index = "by_account", .prefix = &prefix, .prefix_fields = 1};
    struct row_list keys;
    if (!row_list(txn, &row_access_key_type, &query, &keys, err)) {
        return false;
    }
    for (size_t i = 0; i < keys.count; i++) {
        const struct row_access_key *key = keys.rows[i];
        if (str_eq(key->state, "active")) {
            snprintf(out_id, id_size, "%s", key->id);
            snprintf(out_secret, secret_size, "%s", key->secret);
            return true;
        }
    }
    if (keys.count) {
        return true; /* All switched off on purpose: nothing is made behind the back. */
    }
    char id[ACCESS_KEY_ID_LEN], secret[ACCESS_KEY_SECRET_LEN];
    access_key_make(boot->rng, str_eq(account, "operator"), id, secret);
    struct row_access_key key = {
        .id = id,
        .account = account,
        .secret = secret,
        .state = "active",
        .created_at = boot->now_ns,
        .name = str_eq(account, "operator") ? "first" : "",
    };
    snprintf(out_id, id_size, "%s", id);
    snprintf(out_secret, secret_size, "%s", secret);
    return row_insert(txn, &row_access_key_type, &key, err);
}

/* The account made first: the oldest that is not gone. '*out_id' NULL when there is
 * none. */
static bool
first_account(struct txn *txn, const char **out_id, struct err *err)
{
    struct row_list accounts;
    struct row_query query = {0};
    if (!row_list(txn, &row_account_type, &query, &accounts, err)) {
        return false;
    }
    const struct row_account *first = NULL;
    for (size_t i = 0; i < accounts.count; i++) {
        const struct row_account *account = accounts.rows[i];
        if (!account->deleted && (!first || account->created_at < first->created_at)) {
            first = account;
        }
    }
    *out_id = first ? first->id : NULL;
    return true;
}

static bool
boot_account(struct txn *txn, struct boot *boot, struct err *err)
{
    const char *account;
    if (!first_account(txn, &account, err)) {
        return false;
    }
    if (!account) {
        char id[13];
        id_make_account(boot->rng, id);
        account = arena_strdup(txn_arena(txn), id);
        struct row_account row = {
            .id = account,
            .name = "default",
            .state = "active",
            .created_at = boot->now_ns,
            .user_id = account,
        };
        if (!row_insert(txn, &row_account_type, &row, err)) {
            return false;
        }
    }
    struct bootstrap *out = boot->out;
    return boot_key(txn, boot, account, out->tenant_id, sizeof out->tenant_id,
                    out->tenant_secret, sizeof out->tenant_secret, err) &&
           boot_key(txn, boot, "operator", out->operator_id, sizeof out->operator_id,
                    out->operator_secret, sizeof out->operator_secret, err);
}

static bool
boot_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct boot *boot = ctx;
    return boot_cloud(txn, boot, err) && boot_account(txn, boot, err);
}

bool
bootstrap_run(struct store *store, const struct clock *clock, const struct rng *rng,
              struct bootstrap *out, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct boot boot = {.rng = rng, .now_ns = clock_real(clock), .out = out};
    return store_write(store, arena, boot_txn, &boot, err);
}

static bool
networks_txn(struct txn *txn, void *ctx, struct err *err)
{
    const struct boot *boot = ctx;
    const char *account;
    if (!first_account(txn, &account, err)) {
        return false;
    }
    for (size_t i = 0; account && i < boot->cloud->region_count; i++) {
        struct call call = {
            .arena = txn_arena(txn),
            .txn = txn,
            .config = boot->cloud,
            .rng = boot->rng,
            .now_ns = boot->now_ns,
            .account = account,
            .region = boot->cloud->regions[i].name,
        };
        const char *vpc_id;
        if (!default_vpc_ensure(&call, account, call.region, &vpc_id, err)) {
            return false;
        }
    }
    return true;
}

bool
bootstrap_networks(struct store *store, const struct clock *clock,
                   const struct rng *rng, const struct cloud_config *cloud,
                   struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct boot boot = {.rng = rng, .now_ns = clock_real(clock), .cloud = cloud};
    return store_write(store, arena, networks_txn, &boot, err);
}
