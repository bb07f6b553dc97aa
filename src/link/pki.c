/* pki.c - keys and certificates; tokens are in token.c. See pki.h. */
#include "link/pki.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include "base/crypto.h"
#include "base/map.h"

#define SERIAL_BYTES 16
#define DAY_S INT64_C(86400)
#define CA_DAYS 7300
#define SERVER_DAYS 365
#define BACKDATE_S 3600 /* A node whose clock is a little behind is not shut out. */
#define PEM_MAX (64u << 10)
#define VERIFIER_KNOWN_MAX 200000u

AUTO_DEFINE(crt, gnutls_x509_crt_t, gnutls_x509_crt_deinit)
AUTO_DEFINE(crq, gnutls_x509_crq_t, gnutls_x509_crq_deinit)
AUTO_DEFINE(key, gnutls_x509_privkey_t, gnutls_x509_privkey_deinit)
AUTO_DEFINE(pubkey, gnutls_pubkey_t, gnutls_pubkey_deinit)

struct pki_ca {
    gnutls_x509_crt_t cert;
    gnutls_x509_privkey_t key;
    char *pem;
    char sha256[SHA256_HEX_LEN];
};

struct pki_verifier {
    gnutls_x509_crt_t ca;
    struct map *known; /* SHA-256 of a leaf to its role + 1. */
};

static bool
pki_err(struct err *err, int rc, const char *what)
{
    return err_set(err, ERR_INVALID, "%s: %s", what, gnutls_strerror(rc));
}

static gnutls_datum_t
datum_of(const char *text)
{
    return (gnutls_datum_t){(uint8_t *)(uintptr_t)text, (unsigned)strlen(text)};
}

static char *
datum_take(struct arena *arena, gnutls_datum_t *d)
{
    char *text = arena_strndup(arena, (const char *)d->data, d->size);
    gnutls_memset(d->data, 0, d->size); /* It may be a key. */
    gnutls_free(d->data);
    d->data = NULL;
    return text;
}

/* ---- reading and writing PEM ----------------------------------------------------- */

static bool
cert_load(const char *pem, gnutls_x509_crt_t *out, struct err *err)
{
    if (!pem || strnlen(pem, PEM_MAX) == PEM_MAX) {
        return err_set(err, ERR_INVALID, "certificate: none, or too long");
    }
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    gnutls_datum_t d = datum_of(pem);
    int rc = gnutls_x509_crt_init(&cert);
    if (rc >= 0) {
        rc = gnutls_x509_crt_import(cert, &d, GNUTLS_X509_FMT_PEM);
    }
    if (rc < 0) {
        return pki_err(err, rc, "certificate");
    }
    *out = take_crt(&cert);
    return true;
}

static bool
key_load(const char *pem, gnutls_x509_privkey_t *out, struct err *err)
{
    if (!pem || strnlen(pem, PEM_MAX) == PEM_MAX) {
        return err_set(err, ERR_INVALID, "key: none, or too long");
    }
    AUTO(key) gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t d = datum_of(pem);
    int rc = gnutls_x509_privkey_init(&key);
    if (rc >= 0) {
        rc = gnutls_x509_privkey_import2(key, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    if (rc < 0) {
        return pki_err(err, rc, "key");
    }
    *out = take_key(&key);
    return true;
}

static bool
key_generate(gnutls_x509_privkey_t *out, struct err *err)
{
    AUTO(key) gnutls_x509_privkey_t key = NULL;
    int rc = gnutls_x509_privkey_init(&key);
    if (rc >= 0) {
        rc = gnutls_x509_privkey_generate(
            key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    }
    if (rc < 0) {
        return pki_err(err, rc, "make a key");
    }
    *out = take_key(&key);
    return true;
}

static bool
key_export(gnutls_x509_privkey_t key, struct arena *arena, const char **out,
           struct err *err)
{
    gnutls_datum_t d = {0};
    int rc = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL,
                                               GNUTLS_PKCS_PLAIN, &d);
    if (rc < 0) {
        return pki_err(err, rc, "write a key");
    }
    *out = datum_take(arena, &d);
    return true;
}

static bool
cert_export(gnutls_x509_crt_t cert, struct arena *arena, const char **out,
            struct err *err)
{
    gnutls_datum_t d = {0};
    int rc = gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &d);
    if (rc < 0) {
        return pki_err(err, rc, "write a certificate");
    }
    *out = datum_take(arena, &d);
    return true;
}

/* ---- making certificates --------------------------------------------------------- */

struct cert_plan {
    const char *name;    /* Common name. */
    const char *dns;     /* Alternative name, or NULL. */
    const char *purpose; /* OID, or NULL for a CA. */
    unsigned usage;
    int64_t days;
};

static int
cert_fill(gnutls_x509_crt_t cert, const struct cert_plan *plan, const struct rng *rng,
          int64_t now_ns)
{
    uint8_t serial[SERIAL_BYTES], key_id[SHA256_LEN];
    size_t key_id_len = sizeof key_id;
    rng->fill(rng->ctx, serial, sizeof serial);
    serial[0] =
        (uint8_t)((serial[0] & 0x7f) | 0x40); /* Positive, and of full length. */
    time_t now = (time_t)(now_ns / NS_PER_S);

    int rc = gnutls_x509_crt_set_version(cert, 3);
    rc = rc < 0 ? rc : gnutls_x509_crt_set_serial(cert, serial, sizeof serial);
    rc = rc < 0 ? rc : gnutls_x509_crt_set_activation_time(cert, now - BACKDATE_S);
    rc = rc < 0 ? rc
                : gnutls_x509_crt_set_expiration_time(cert, now + plan->days * DAY_S);
    rc = rc < 0
             ? rc
             : gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0,
                                             plan->name, (unsigned)strlen(plan->name));
    rc = rc < 0 ? rc
                : gnutls_x509_crt_set_basic_constraints(cert, plan->purpose == NULL,
                                                        plan->purpose ? -1 : 0);
    rc = rc < 0 ? rc : gnutls_x509_crt_set_key_usage(cert, plan->usage);
    if (rc >= 0 && plan->purpose) {
        rc = gnutls_x509_crt_set_key_purpose_oid(cert, plan->purpose, 0);
    }
    if (rc >= 0 && plan->dns) {
        rc = gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_DNSNAME, plan->dns,
                                                  (unsigned)strlen(plan->dns),
                                                  GNUTLS_FSAN_SET);
    }
    rc = rc < 0 ? rc
                : gnutls_x509_crt_get_key_id(cert, GNUTLS_KEYID_USE_SHA256, key_id,
                                             &key_id_len);
    return rc < 0 ? rc : gnutls_x509_crt_set_subject_key_id(cert, key_id, key_id_len);
}

static bool
cert_sign(gnutls_x509_crt_t cert, gnutls_x509_crt_t issuer, gnutls_x509_privkey_t key,
          struct err *err)
{
    int rc = gnutls_x509_crt_sign2(cert, issuer, key, GNUTLS_DIG_SHA256, 0);
    return rc < 0 ? pki_err(err, rc, "sign a certificate") : true;
}

bool
pki_ca_make(struct arena *arena, const struct rng *rng, int64_t now_ns,
            const char *cloud_id, struct pki_pair *out, struct err *err)
{
    AUTO(key) gnutls_x509_privkey_t key = NULL;
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    struct cert_plan plan = {
        .name = arena_printf(arena, "moln control CA %s", cloud_id),
        .usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN,
        .days = CA_DAYS,
    };
    if (!key_generate(&key, err)) {
        return false;
    }
    int rc = gnutls_x509_crt_init(&cert);
    rc = rc < 0 ? rc : gnutls_x509_crt_set_key(cert, key);
    rc = rc < 0 ? rc : cert_fill(cert, &plan, rng, now_ns);
    if (rc < 0) {
        return pki_err(err, rc, "make the control CA");
    }
    struct pki_pair pair;
    if (!cert_sign(cert, cert, key, err) ||
        !cert_export(cert, arena, &pair.cert_pem, err) ||
        !key_export(key, arena, &pair.key_pem, err)) {
        return false;
    }
    *out = pair;
    return true;
}

struct pki_ca *
pki_ca_load(const char *cert_pem, const char *key_pem, struct err *err)
{
    AUTO(pki_ca) struct pki_ca *ca = xcalloc(1, sizeof *ca);
    if (!cert_load(cert_pem, &ca->cert, err) || !key_load(key_pem, &ca->key, err)) {
        return NULL;
    }
    gnutls_datum_t der = {0};
    int rc = gnutls_x509_crt_export2(ca->cert, GNUTLS_X509_FMT_DER, &der);
    if (rc < 0) {
        pki_err(err, rc, "the control CA");
        return NULL;
    }
    sha256_hex(der.data, der.size, ca->sha256);
    gnutls_free(der.data);
    ca->pem = xstrdup(cert_pem);
    return take_pki_ca(&ca);
}

void
pki_ca_destroy(struct pki_ca *ca)
{
    if (!ca) {
        return;
    }
    if (ca->cert) {
        gnutls_x509_crt_deinit(ca->cert);
    }
    if (ca->key) {
        gnutls_x509_privkey_deinit(ca->key);
    }
    free(ca->pem);
    free(ca);
}

const char *
pki_ca_pem(const struct pki_ca *ca)
{
    return ca->pem;
}

const char *
pki_ca_sha256(const struct pki_ca *ca)
{
    return ca->sha256;
}

bool
pki_server_make(const struct pki_ca *ca, struct arena *arena, const struct rng *rng,
                int64_t now_ns, struct pki_pair *out, struct err *err)
{
    AUTO(key) gnutls_x509_privkey_t key = NULL;
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    struct cert_plan plan = {
        .name = PKI_SERVER_NAME,
        .dns = PKI_SERVER_NAME,
        .purpose = GNUTLS_KP_TLS_WWW_SERVER,
        .usage = GNUTLS_KEY_DIGITAL_SIGNATURE,
        .days = SERVER_DAYS,
    };
    if (!key_generate(&key, err)) {
        return false;
    }
    int rc = gnutls_x509_crt_init(&cert);
    rc = rc < 0 ? rc : gnutls_x509_crt_set_key(cert, key);
    rc = rc < 0 ? rc : cert_fill(cert, &plan, rng, now_ns);
    if (rc < 0) {
        return pki_err(err, rc, "make the server certificate");
    }
    const char *leaf;
    struct pki_pair pair;
    if (!cert_sign(cert, ca->cert, ca->key, err) ||
        !cert_export(cert, arena, &leaf, err) ||
        !key_export(key, arena, &pair.key_pem, err)) {
        return false;
    }
    /* With the CA behind it: a joining node knows only the CA's digest. */
    pair.cert_pem = arena_printf(arena, "%s%s", leaf, ca->pem);
    *out = pair;
    return true;
}

/* The public key of a request whose own signature is good, and which is of our kind. */
static bool
csr_load(const char *csr_pem, gnutls_x509_crq_t *out, struct err *err)
{
    if (!csr_pem || strnlen(csr_pem, PEM_MAX) == PEM_MAX) {
        return err_set(err, ERR_INVALID, "certificate request: none, or too long");
    }
    AUTO(crq) gnutls_x509_crq_t csr = NULL;
    gnutls_datum_t d = datum_of(csr_pem);
    int rc = gnutls_x509_crq_init(&csr);
    rc = rc < 0 ? rc : gnutls_x509_crq_import(csr, &d, GNUTLS_X509_FMT_PEM);
    rc = rc < 0 ? rc : gnutls_x509_crq_verify(csr, 0);
    if (rc < 0) {
        return pki_err(err, rc, "certificate request");
    }
    AUTO(pubkey) gnutls_pubkey_t key = NULL;
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    rc = gnutls_pubkey_init(&key);
    rc = rc < 0 ? rc : gnutls_pubkey_import_x509_crq(key, csr, 0);
    rc = rc < 0 ? rc : gnutls_pubkey_export_ecc_raw(key, &curve, NULL, NULL);
    if (rc < 0 || curve != GNUTLS_ECC_CURVE_SECP256R1) {
        return err_set(err, ERR_INVALID, "certificate request: not a P-256 key");
    }
    *out = take_crq(&csr);
    return true;
}

static bool cert_describe(gnutls_x509_crt_t cert, struct arena *arena,
                          struct pki_cert *out, struct err *err);

bool
pki_sign_node(const struct pki_ca *ca, struct arena *arena, const struct rng *rng,
              int64_t now_ns, const char *csr_pem, const char *node_id,
              const char **out_cert_pem, struct pki_cert *out, struct err *err)
{
    AUTO(crq) gnutls_x509_crq_t csr = NULL;
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    struct cert_plan plan = {
        .name = node_id,
        .purpose = GNUTLS_KP_TLS_WWW_CLIENT,
        .usage = GNUTLS_KEY_DIGITAL_SIGNATURE,
        .days = PKI_NODE_DAYS,
    };
    if (!csr_load(csr_pem, &csr, err)) {
        return false;
    }
    AUTO(pubkey) gnutls_pubkey_t key = NULL;
    int rc = gnutls_pubkey_init(&key);
    rc = rc < 0 ? rc : gnutls_pubkey_import_x509_crq(key, csr, 0);
    rc = rc < 0 ? rc : gnutls_x509_crt_init(&cert);
    rc = rc < 0 ? rc : gnutls_x509_crt_set_pubkey(cert, key);
    rc = rc < 0 ? rc : cert_fill(cert, &plan, rng, now_ns);
    if (rc < 0) {
        return pki_err(err, rc, "make a node certificate");
    }
    const char *pem;
    struct pki_cert made;
    if (!cert_sign(cert, ca->cert, ca->key, err) ||
        !cert_export(cert, arena, &pem, err) ||
        !cert_describe(cert, arena, &made, err)) {
        return false;
    }
    *out_cert_pem = pem;
    *out = made;
    return true;
}

/* ---- the node's side ------------------------------------------------------------- */

bool
pki_key_make(struct arena *arena, const char **out_key_pem, struct err *err)
{
    AUTO(key) gnutls_x509_privkey_t key = NULL;
    return key_generate(&key, err) && key_export(key, arena, out_key_pem, err);
}

bool
pki_csr_make(struct arena *arena, const char *key_pem, const char *common_name,
             const char **out_csr_pem, struct err *err)
{
    AUTO(key) gnutls_x509_privkey_t key = NULL;
    AUTO(crq) gnutls_x509_crq_t csr = NULL;
    if (!key_load(key_pem, &key, err)) {
        return false;
    }
    gnutls_datum_t d = {0};
    int rc = gnutls_x509_crq_init(&csr);
    rc = rc < 0 ? rc : gnutls_x509_crq_set_version(csr, 1);
    rc = rc < 0 ? rc
                : gnutls_x509_crq_set_dn_by_oid(csr, GNUTLS_OID_X520_COMMON_NAME, 0,
                                                common_name,
                                                (unsigned)strlen(common_name));
    rc = rc < 0 ? rc : gnutls_x509_crq_set_key(csr, key);
    rc = rc < 0 ? rc : gnutls_x509_crq_sign2(csr, key, GNUTLS_DIG_SHA256, 0);
    rc = rc < 0 ? rc : gnutls_x509_crq_export2(csr, GNUTLS_X509_FMT_PEM, &d);
    if (rc < 0) {
        return pki_err(err, rc, "make a certificate request");
    }
    *out_csr_pem = datum_take(arena, &d);
    return true;
}

/* ---- reading and checking -------------------------------------------------------- */

static bool
cert_describe(gnutls_x509_crt_t cert, struct arena *arena, struct pki_cert *out,
              struct err *err)
{
    char name[128];
    size_t name_len = sizeof name;
    uint8_t serial[SERIAL_BYTES];
    size_t serial_len = sizeof serial;
    struct pki_cert c = {0};

    int rc = gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0,
                                           name, &name_len);
    rc = rc < 0 ? rc : gnutls_x509_crt_get_serial(cert, serial, &serial_len);
    if (rc < 0 || memchr(name, 0, name_len)) {
        return err_set(err, ERR_INVALID, "certificate: no plain name or serial");
    }
    hex_encode(serial, serial_len, c.serial);
    c.node_id = arena_strndup(arena, name, name_len);
    c.not_before_ns = (int64_t)gnutls_x509_crt_get_activation_time(cert) * NS_PER_S;
    c.not_after_ns = (int64_t)gnutls_x509_crt_get_expiration_time(cert) * NS_PER_S;
    *out = c;
    return true;
}

bool
pki_cert_read(struct arena *arena, const char *cert_pem, struct pki_cert *out,
              struct err *err)
{
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    return cert_load(cert_pem, &cert, err) && cert_describe(cert, arena, out, err);
}

static bool
cert_has_role(gnutls_x509_crt_t cert, enum pki_role role)
{
    const char *want =
        role == PKI_SERVER ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT;
    char oid[64];
    size_t len = sizeof oid;
    /* Ours carry exactly one purpose. */
    return gnutls_x509_crt_get_key_purpose_oid(cert, 0, oid, &len, NULL) >= 0 &&
           str_eq(oid, want) &&
           (role != PKI_SERVER ||
            gnutls_x509_crt_check_hostname(cert, PKI_SERVER_NAME));
}

static bool
cert_load_der(const struct blob *blob, gnutls_x509_crt_t *out, struct err *err)
{
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    gnutls_datum_t der = {(uint8_t *)(uintptr_t)blob->data, (unsigned)blob->len};
    int rc = gnutls_x509_crt_init(&cert);
    rc = rc < 0 ? rc : gnutls_x509_crt_import(cert, &der, GNUTLS_X509_FMT_DER);
    if (rc < 0) {
        return err_set(err, ERR_DENIED, "certificate: %s", gnutls_strerror(rc));
    }
    *out = take_crt(&cert);
    return true;
}

/* Whether 'cert' is signed by 'ca', whatever the time. */
static bool
cert_check_issuer(gnutls_x509_crt_t cert, gnutls_x509_crt_t ca, struct err *err)
{
    unsigned status = 0;
    int rc = gnutls_x509_crt_list_verify(&cert, 1, &ca, 1, NULL, 0,
                                         GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status);
    if (rc < 0 || status) {
        return err_set(err, ERR_DENIED, "certificate: not of this cloud's CA");
    }
    return true;
}

struct pki_verifier *
pki_verifier_create(const char *ca_pem, struct err *err)
{
    AUTO(pki_verifier) struct pki_verifier *v = xcalloc(1, sizeof *v);
    if (!cert_load(ca_pem, &v->ca, err)) {
        return NULL;
    }
    v->known = map_create(NULL);
    return take_pki_verifier(&v);
}

void
pki_verifier_destroy(struct pki_verifier *v)
{
    if (v) {
        if (v->ca) {
            gnutls_x509_crt_deinit(v->ca);
        }
        map_destroy(v->known);
        free(v);
    }
}

/* Signature and purpose, from memory where this very leaf was seen before. */
static bool
verifier_prove(struct pki_verifier *v, gnutls_x509_crt_t cert, const struct blob *der,
               enum pki_role role, struct err *err)
{
    char digest[SHA256_HEX_LEN];
    sha256_hex(der->data, der->len, digest);
    void *proof = (void *)(uintptr_t)(role + 1);
    if (map_get(v->known, digest) == proof) {
        return true;
    }
    if (!cert_check_issuer(cert, v->ca, err)) {
        return false;
    }
    if (!cert_has_role(cert, role)) {
        return err_set(err, ERR_DENIED, "certificate: made for something else");
    }
    if (map_count(v->known) >= VERIFIER_KNOWN_MAX) {
        map_destroy(v->known);
        v->known = map_create(NULL);
    }
    map_put(v->known, digest, proof);
    return true;
}

bool
pki_verify(struct pki_verifier *v, const struct blob *chain, size_t count,
           enum pki_role role, int64_t now_ns, struct arena *arena,
           struct pki_cert *out, struct err *err)
{
    if (count == 0) {
        return err_set(err, ERR_DENIED, "certificate: none was shown");
    }
    AUTO(crt) gnutls_x509_crt_t cert = NULL;
    struct pki_cert c;
    if (!cert_load_der(&chain[0], &cert, err) ||
        !verifier_prove(v, cert, &chain[0], role, err) ||
        !cert_describe(cert, arena, &c, err)) {
        return false;
    }
    if (now_ns < c.not_before_ns || now_ns >= c.not_after_ns) {
        return err_set(err, ERR_DENIED, "certificate: %s",
                       now_ns < c.not_before_ns ? "not valid yet" : "expired");
    }
    if (out) {
        *out = c;
    }
    return true;
}

bool
pki_chain_find(const struct blob *chain, size_t count, const char *ca_sha256,
               struct arena *arena, const char **out_pem, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        char digest[SHA256_HEX_LEN];
        sha256_hex(chain[i].data, chain[i].len, digest);
        if (strlen(ca_sha256) == SHA256_HEX_LEN - 1 &&
            secret_eq(digest, ca_sha256, SHA256_HEX_LEN - 1)) {
            AUTO(crt) gnutls_x509_crt_t cert = NULL;
            return cert_load_der(&chain[i], &cert, err) &&
                   cert_export(cert, arena, out_pem, err);
        }
    }
    return err_set(err, ERR_DENIED, "the control plane's CA is not the token's");
}
