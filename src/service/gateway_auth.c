/* gateway_auth.c - whose request it is.
 *
 * Keys and the state of their accounts are cached for a second, and with them the
 * derived signing keys: four HMACs and two rows fewer a request. An operator's change
 * through this process is seen at once (gateway_forget), one through another within
 * that second. */
#include "base/map.h"
#include "service/gateway_parts.h"

#define FRESH_NS NS_PER_S
#define KEYS_MAX 10000 /* Beyond, the cache starts anew. */
#define DERIVED 4      /* Signing keys kept of one access key. */

struct derived {
    char scope[96]; /* "20260131/us-east-1/ec2" */
    uint8_t key[SIGV4_KEY_LEN];
};

struct known_key {
    char account[ACCOUNT_LEN], user_id[32];
    char secret[64];
    bool active, disabled;
    int64_t loaded_ns; /* Of the monotonic clock. */
    struct derived derived[DERIVED];
    unsigned next_derived;
};

struct keys {
    pthread_mutex_t lock;
    struct map *map; /* Key id to struct known_key. */
};

static void
known_key_drop(void *key)
{
    explicit_bzero(key, sizeof(struct known_key));
    free(key);
}

struct keys *
keys_create(void)
{
    struct keys *keys = xcalloc(1, sizeof *keys);
    pthread_mutex_init(&keys->lock, NULL);
    keys->map = map_create(known_key_drop);
    return keys;
}

void
keys_destroy(struct keys *keys)
{
    if (keys) {
        map_destroy(keys->map);
        pthread_mutex_destroy(&keys->lock);
        free(keys);
    }
}

void
keys_forget(struct keys *keys)
{
    pthread_mutex_lock(&keys->lock);
    map_destroy(keys->map);
    keys->map = map_create(known_key_drop);
    pthread_mutex_unlock(&keys->lock);
}

/* ---- loading --------------------------------------------------------------------- */

struct load {
    const char *key_id;
    struct known_key *key;
    bool found;
};

static void
copy_text(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text ? text : "");
}

static bool
load_key(struct txn *txn, void *ctx, struct err *err)
{
    struct load *load = ctx;
    const void *found;
    const struct row_access_key key = {.id = load->key_id};
    load->found = false;
    if (!row_get(txn, &row_access_key_type, &key, &found, err)) {
        return false;
    }
    const struct row_access_key *row = found;
    if (!row) {
        return true;
    }
    memset(load->key, 0, sizeof *load->key);
    copy_text(load->key->account, sizeof load->key->account, row->account);
    copy_text(load->key->secret, sizeof load->key->secret, row->secret);
    load->key->active = str_eq(row->state, "active");
    load->found = true;
    if (strcmp(load->key->account, "operator") == 0) {
        return true;
    }
    const struct row_account account_key = {.id = row->account};
    if (!row_get(txn, &row_account_type, &account_key, &found, err)) {
        return false;
    }
    const struct row_account *account = found;
    load->found = account && !account->deleted;
    if (load->found) {
        load->key->disabled = !str_eq(account->state, "active");
        copy_text(load->key->user_id, sizeof load->key->user_id, account->user_id);
    }
    return true;
}

static void
derive(struct known_key *key, const struct sigv4_claim *claim,
       uint8_t out[SIGV4_KEY_LEN])
{
    char scope[sizeof key->derived[0].scope];
    int len = snprintf(scope, sizeof scope, "%s/%s/%s", claim->date, claim->region,
                       claim->service);
    bool fits = len > 0 && (size_t)len < sizeof scope;
    for (unsigned i = 0; fits && i < DERIVED; i++) {
        if (strcmp(key->derived[i].scope, scope) == 0) {
            memcpy(out, key->derived[i].key, SIGV4_KEY_LEN);
            return;
        }
    }
    sigv4_signing_key(key->secret, claim->date, claim->region, claim->service, out);
    if (fits) {
        struct derived *d = &key->derived[key->next_derived++ % DERIVED];
        memcpy(d->scope, scope, sizeof scope);
        memcpy(d->key, out, SIGV4_KEY_LEN);
    }
}

/* The cached key if it is fresh; the lock is held. */
static struct known_key *
fresh_key(struct keys *keys, const char *key_id, int64_t mono_ns)
{
    struct known_key *key = map_get(keys->map, key_id);
    return key && mono_ns - key->loaded_ns < FRESH_NS ? key : NULL;
}

/* Keeps 'key' (taken over); derived keys survive where the secret is the same. */
static void
keep_key(struct keys *keys, const char *key_id, struct known_key *key)
{
    struct known_key *old = map_get(keys->map, key_id);
    if (old && strcmp(old->secret, key->secret) == 0) {
        memcpy(key->derived, old->derived, sizeof key->derived);
        key->next_derived = old->next_derived;
    }
    if (map_count(keys->map) >= KEYS_MAX) {
        map_destroy(keys->map);
        keys->map = map_create(known_key_drop);
    }
    map_put(keys->map, key_id, key);
}

/* Copies what is known of the claim's key to 'out' (without its secret) and its signing
 * key. '*out_found' false: nobody has it. */
static bool
find_key(struct visit *visit, struct known_key *out, uint8_t signing[SIGV4_KEY_LEN],
         bool *out_found)
{
    struct keys *keys = visit->gateway->keys;
    const char *key_id = visit->claim.key_id;
    int64_t mono_ns = clock_mono(visit->gateway->config.clock);
    pthread_mutex_lock(&keys->lock);
    struct known_key *key = fresh_key(keys, key_id, mono_ns);
    if (!key) {
        pthread_mutex_unlock(&keys->lock);
        key = xcalloc(1, sizeof *key);
        struct load load = {.key_id = key_id, .key = key};
        if (!store_read(visit->gateway->config.store, visit->request->arena, load_key,
                        &load, &visit->err) ||
            !load.found) {
            known_key_drop(key);
            *out_found = false;
            return visit->err.code == ERR_NONE;
        }
        key->loaded_ns = mono_ns;
        pthread_mutex_lock(&keys->lock);
        keep_key(keys, key_id, key);
    }
    derive(key, &visit->claim, signing);
    *out = *key;
    pthread_mutex_unlock(&keys->lock);
    explicit_bzero(out->secret, sizeof out->secret);
    explicit_bzero(out->derived, sizeof out->derived);
    *out_found = true;
    return true;
}

/* ---- refusing, in each service's words ------------------------------------------- */

#define NOT_VALIDATED "AWS was not able to validate the provided access credentials"
#define TOKEN_INVALID "The security token included in the request is invalid."

static bool
refuse_key(struct visit *visit)
{
    switch (visit_protocol(visit)) {
    case PROTOCOL_EC2:
        return err_set(&visit->err, ERR_AUTH_FAILURE, NOT_VALIDATED);
    case PROTOCOL_QUERY:
        return err_set(&visit->err, ERR_INVALID_CLIENT_TOKEN_ID, TOKEN_INVALID);
    default:
        return err_set(&visit->err, ERR_UNRECOGNIZED_CLIENT, TOKEN_INVALID);
    }
}

/* sigv4's generic codes as the service at hand has them. */
static bool
reword(struct visit *visit)
{
    struct err *err = &visit->err;
    enum protocol protocol = visit_protocol(visit);
    bool ec2 = protocol == PROTOCOL_EC2, query = protocol == PROTOCOL_QUERY;
    switch (err->code) {
    case ERR_REQUEST_EXPIRED:
        if (ec2) {
            return err_set(err, ERR_REQUEST_EXPIRED, "Request has expired.");
        }
        err->code = query ? ERR_SIGNATURE_DOES_NOT_MATCH : ERR_INVALID_SIGNATURE;
        return false;
    case ERR_SIGNATURE_DOES_NOT_MATCH:
        if (ec2) {
            return err_set(err, ERR_AUTH_FAILURE, NOT_VALIDATED);
        }
        err->code = query ? ERR_SIGNATURE_DOES_NOT_MATCH : ERR_INVALID_SIGNATURE;
        return false;
    case ERR_MISSING_AUTHENTICATION_TOKEN:
        err->code = ec2 || query ? err->code : ERR_MISSING_AUTH_TOKEN_JSON;
        return false;
    case ERR_INCOMPLETE_SIGNATURE:
        err->code = ec2 || query ? err->code : ERR_INCOMPLETE_SIGNATURE_JSON;
        return false;
    default:
        return false;
    }
}

/* ---- the visit ------------------------------------------------------------------- */

/* Uploads and streams are paths, each of one scope: a signature made for a service's
 * calls opens none of them. */
static bool
check_path_scope(struct visit *visit)
{
    const char *scope =
        str_starts(visit->request->path, "/moln/") ? "moln" : "moln-data";
    return !visit->special || strcmp(visit->claim.service, scope) == 0 ||
           err_set(&visit->err, ERR_INVALID_SIGNATURE,
                   "Credential should be scoped to the service '%s' on this path.",
                   scope);
}

/* Whether the scope names a service and a region that we have. */
static bool
check_scope(struct visit *visit)
{
    const struct sigv4_claim *claim = &visit->claim;
    if (!check_path_scope(visit)) {
        return false;
    }
    visit->service = service_named(claim->service);
    if (!visit->service && strcmp(claim->service, "moln-data") != 0) {
        return err_set(&visit->err, ERR_SIGNATURE_DOES_NOT_MATCH,
                       "Credential should be scoped to a service that is served here: "
                       "ec2, sts, moln or moln-data, not '%.64s'.",
                       claim->service);
    }
    if (!config_region(visit->gateway->config.cloud, claim->region)) {
        (void)err_set(&visit->err, ERR_SIGNATURE_DOES_NOT_MATCH,
                      "Credential should be scoped to a valid region, not '%.64s'.",
                      claim->region);
        if (visit_protocol(visit) == PROTOCOL_EC2) {
            visit->err.code = ERR_AUTH_FAILURE;
        } else if (visit_protocol(visit) == PROTOCOL_JSON) {
            visit->err.code = ERR_INVALID_SIGNATURE;
        }
        return false;
    }
    return true;
}

/* Operators call the operators' service only, tenants all the others. */
static bool
check_side(struct visit *visit, bool is_operator)
{
    bool operators_scope = strcmp(visit->claim.service, "moln") == 0;
    return is_operator == operators_scope || refuse_key(visit);
}

static void
become(struct visit *visit, const struct known_key *key)
{
    struct identity *who = &visit->who;
    copy_text(who->key_id, sizeof who->key_id, visit->claim.key_id);
    copy_text(who->account, sizeof who->account, key->account);
    who->is_operator = strcmp(key->account, "operator") == 0;
    (void)snprintf(who->user_arn, sizeof who->user_arn, "arn:aws:iam::%s:root",
                   key->account);
    visit->known = true;
}

bool
visit_authenticate(struct visit *visit, bool allow_unsigned)
{
    struct err *err = &visit->err;
    struct arena *arena = visit->request->arena;
    if (!sigv4_read(visit->request, arena, &visit->claim, err)) {
        return reword(visit);
    }
    if (!check_scope(visit)) {
        return false;
    }
    if (http_header(visit->request, "x-amz-security-token")) {
        return refuse_key(visit);
    }
    if (!sigv4_check_time(&visit->claim, visit->now_ns, err)) {
        return reword(visit);
    }
    struct known_key key;
    uint8_t signing[SIGV4_KEY_LEN];
    bool found;
    if (!find_key(visit, &key, signing, &found)) {
        return false;
    }
    if (!found || !key.active) {
        return refuse_key(visit);
    }
    bool good = sigv4_verify(visit->request, &visit->claim, signing, allow_unsigned,
                             arena, err);
    explicit_bzero(signing, sizeof signing);
    if (!good) {
        return reword(visit);
    }
    bool is_operator = strcmp(key.account, "operator") == 0;
    if (!check_side(visit, is_operator)) {
        return false;
    }
    become(visit, &key);
    if (key.disabled) {
        return err_set(err, ERR_BLOCKED,
                       "Your account is currently blocked. Ask the operator of this "
                       "cloud.");
    }
    return true;
}
