/* pki_plain.c - link/pki.h without keys: certificates are lines of text that say who made
 * them. Names, serials, dates and the CA are checked as ever; only forging is easy. See
 * tls_plain.c. */
#include "base/arena.h"
#include "base/crypto.h"
#include "link/pki.h"

#define DAY_NS (24 * 3600 * NS_PER_S)

struct pki_ca {
    char *pem;
    char sha256[SHA256_HEX_LEN];
};

struct pki_verifier {
    char sha256[SHA256_HEX_LEN];
};

static void
line_sha256(const char *line, size_t len, char out[SHA256_HEX_LEN])
{
    while (len && line[len - 1] == '\n') {
        len--;
    }
    sha256_hex(line, len, out);
}

/* ---- control --------------------------------------------------------------------- */

bool
pki_ca_make(struct arena *arena, const struct rng *rng, int64_t now_ns UNUSED,
            const char *cloud_id, struct pki_pair *out, struct err *err UNUSED)
{
    out->cert_pem =
        arena_printf(arena, "ca %s %016" PRIx64 "\n", cloud_id, rng_u64(rng));
    out->key_pem = "key\n";
    return true;
}

struct pki_ca *
pki_ca_load(const char *cert_pem, const char *key_pem UNUSED, struct err *err UNUSED)
{
    struct pki_ca *ca = xcalloc(1, sizeof *ca);
    ca->pem = xstrdup(cert_pem);
    line_sha256(cert_pem, strlen(cert_pem), ca->sha256);
    return ca;
}

void
pki_ca_destroy(struct pki_ca *ca)
{
    if (ca) {
        free(ca->pem);
        free(ca);
    }
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

/* A leaf: its role, whose it is, serial, dates, and the CA. */
static const char *
leaf(const struct pki_ca *ca, struct arena *arena, const struct rng *rng,
     int64_t now_ns, const char *role, const char *name)
{
    return arena_printf(
        arena, "%s %s %016" PRIx64 "%016" PRIx64 " %" PRId64 " %" PRId64 " %s\n", role,
        name, rng_u64(rng), rng_u64(rng), now_ns - 3600 * NS_PER_S,
        now_ns + PKI_NODE_DAYS * DAY_NS, ca->sha256);
}

bool
pki_server_make(const struct pki_ca *ca, struct arena *arena, const struct rng *rng,
                int64_t now_ns, struct pki_pair *out, struct err *err UNUSED)
{
    out->cert_pem = arena_printf(
        arena, "%s%s", leaf(ca, arena, rng, now_ns, "server", "control"), ca->pem);
    out->key_pem = "key\n";
    return true;
}

bool
pki_sign_node(const struct pki_ca *ca, struct arena *arena, const struct rng *rng,
              int64_t now_ns, const char *csr_pem, const char *node_id,
              const char **out_cert_pem, struct pki_cert *out, struct err *err)
{
    if (!str_starts(csr_pem, "request ")) {
        return err_set(err, ERR_INVALID, "that is no request");
    }
    *out_cert_pem = leaf(ca, arena, rng, now_ns, "node", node_id);
    return pki_cert_read(arena, *out_cert_pem, out, err);
}

/* ---- node ------------------------------------------------------------------------ */

bool
pki_key_make(struct arena *arena, const char **out_key_pem, struct err *err UNUSED)
{
    *out_key_pem = arena_strdup(arena, "key\n");
    return true;
}

bool
pki_csr_make(struct arena *arena, const char *key_pem UNUSED, const char *common_name,
             const char **out_csr_pem, struct err *err UNUSED)
{
    *out_csr_pem = arena_printf(arena, "request %s\n", common_name);
    return true;
}

/* ---- both ------------------------------------------------------------------------ */

struct parsed {
    char role[16], name[64], serial[PKI_SERIAL_HEX_LEN], ca[SHA256_HEX_LEN];
    int64_t from_ns, until_ns;
};

static bool
parse(const char *text, struct parsed *out, struct err *err)
{
    return sscanf(text, "%15s %63s %32s %" SCNd64 " %" SCNd64 " %64s", out->role,
                  out->name, out->serial, &out->from_ns, &out->until_ns,
                  out->ca) == 6 ||
           err_set(err, ERR_INVALID, "that is no certificate");
}

static void
cert_out(struct arena *arena, const struct parsed *p, struct pki_cert *out)
{
    *out = (struct pki_cert){.node_id = arena_strdup(arena, p->name),
                             .not_before_ns = p->from_ns,
                             .not_after_ns = p->until_ns};
    memcpy(out->serial, p->serial, sizeof out->serial);
}

bool
pki_cert_read(struct arena *arena, const char *cert_pem, struct pki_cert *out,
              struct err *err)
{
    struct parsed p;
    if (!parse(cert_pem, &p, err)) {
        return false;
    }
    cert_out(arena, &p, out);
    return true;
}

struct pki_verifier *
pki_verifier_create(const char *ca_pem, struct err *err UNUSED)
{
    struct pki_verifier *v = xcalloc(1, sizeof *v);
    line_sha256(ca_pem, strlen(ca_pem), v->sha256);
    return v;
}

void
pki_verifier_destroy(struct pki_verifier *v)
{
    free(v);
}

bool
pki_verify(struct pki_verifier *v, const struct blob *chain, size_t count,
           enum pki_role role, int64_t now_ns, struct arena *arena,
           struct pki_cert *out, struct err *err)
{
    struct parsed p;
    if (!count) {
        return err_set(err, ERR_DENIED, "no certificate");
    }
    const char *text = arena_strndup(arena, (const char *)chain[0].data, chain[0].len);
    if (!parse(text, &p, err)) {
        return false;
    }
    if (!str_eq(p.ca, v->sha256) ||
        !str_eq(p.role, role == PKI_NODE ? "node" : "server")) {
        return err_set(err, ERR_DENIED, "a certificate of another cloud");
    }
    if (now_ns < p.from_ns || now_ns > p.until_ns) {
        return err_set(err, ERR_DENIED, "the certificate is out of date");
    }
    if (out) {
        cert_out(arena, &p, out);
    }
    return true;
}

bool
pki_chain_find(const struct blob *chain, size_t count, const char *ca_sha256,
               struct arena *arena, const char **out_pem, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        char hex[SHA256_HEX_LEN];
        line_sha256((const char *)chain[i].data, chain[i].len, hex);
        if (str_eq(hex, ca_sha256)) {
            *out_pem = arena_printf(arena, "%.*s\n", (int)chain[i].len,
                                    (const char *)chain[i].data);
            return true;
        }
    }
    return err_set(err, ERR_DENIED, "the control plane is not the one of the token");
}
