/* pki.h - the cloud's own certificate authority, and tokens to join with.
 *
 * Purpose:  ECDSA P-256 keys; a control CA made once; a server certificate; node
 *           certificates (CN = node id, 90 days, random serial), signed from the node's
 *           own request; their check. Tokens carry the CA's SHA-256, so that a node
 *           knows whom it speaks to before it says anything.
 * Place:    above base/, over GnuTLS. Knows no sockets and no rows: who stores serials
 *           and tokens, and which are good, is control's.
 * Time:     handed in; certificates are valid from an hour before 'now_ns'.
 * Memory:   text that is handed out lies in the caller's arena.
 * Threads:  any; a pki_ca is read-only once loaded, a pki_verifier belongs to one. */
#pragma once
#include "base/desc.h"
#include "base/world.h"

#define PKI_NODE_DAYS 90
#define PKI_SERIAL_HEX_LEN 33                   /* 16 bytes in hex, and the NUL. */
#define PKI_SERVER_NAME "control.moln.internal" /* In the server's certificate. */

struct pki_ca;

struct pki_pair {
    const char *cert_pem, *key_pem;
};

struct pki_cert {
    const char *node_id;             /* Common name. */
    char serial[PKI_SERIAL_HEX_LEN]; /* Lower-case hex. */
    int64_t not_before_ns, not_after_ns;
};

/* ---- control --------------------------------------------------------------------- */

/* A new CA, valid for 20 years. */
MUST_CHECK bool pki_ca_make(struct arena *arena, const struct rng *rng, int64_t now_ns,
                            const char *cloud_id, struct pki_pair *out,
                            struct err *err);
MUST_CHECK struct pki_ca *pki_ca_load(const char *cert_pem, const char *key_pem,
                                      struct err *err);
void pki_ca_destroy(struct pki_ca *ca); /* NULL is a no-op. */
AUTO_DEFINE(pki_ca, struct pki_ca *, pki_ca_destroy)
const char *pki_ca_pem(const struct pki_ca *ca);    /* Its certificate. */
const char *pki_ca_sha256(const struct pki_ca *ca); /* Hex, of the DER; in tokens. */

/* A server key and certificate under 'ca'; cheap, so made anew at each start. */
MUST_CHECK bool pki_server_make(const struct pki_ca *ca, struct arena *arena,
                                const struct rng *rng, int64_t now_ns,
                                struct pki_pair *out, struct err *err);
/* Signs a node's request. Only its public key is believed (ECDSA P-256; the request's
 * own signature is checked); the name is 'node_id'. */
MUST_CHECK bool pki_sign_node(const struct pki_ca *ca, struct arena *arena,
                              const struct rng *rng, int64_t now_ns,
                              const char *csr_pem, const char *node_id,
                              const char **out_cert_pem, struct pki_cert *out,
                              struct err *err);

/* ---- node ------------------------------------------------------------------------ */

MUST_CHECK bool pki_key_make(struct arena *arena, const char **out_key_pem,
                             struct err *err);
MUST_CHECK bool pki_csr_make(struct arena *arena, const char *key_pem,
                             const char *common_name, const char **out_csr_pem,
                             struct err *err);

/* ---- both ------------------------------------------------------------------------ */

/* Name, serial and dates of a PEM certificate; its signature is not looked at. */
MUST_CHECK bool pki_cert_read(struct arena *arena, const char *cert_pem,
                              struct pki_cert *out, struct err *err);

enum pki_role { PKI_SERVER, PKI_NODE };

/* Checks chains against one CA. It remembers leaves whose signature was good, so that a
 * node that comes back costs no second look (dates are looked at each time). */
struct pki_verifier;

MUST_CHECK struct pki_verifier *pki_verifier_create(const char *ca_pem,
                                                    struct err *err);
void pki_verifier_destroy(struct pki_verifier *v); /* NULL is a no-op. */
AUTO_DEFINE(pki_verifier, struct pki_verifier *, pki_verifier_destroy)
/* Whether the chain (DER, leaf first) leads to the CA, is good at 'now_ns' and was made
 * for 'role'. ERR_DENIED says why not. 'out' may be NULL. */
MUST_CHECK bool pki_verify(struct pki_verifier *v, const struct blob *chain,
                           size_t count, enum pki_role role, int64_t now_ns,
                           struct arena *arena, struct pki_cert *out, struct err *err);
/* The certificate of the chain whose SHA-256 is 'ca_sha256' (hex), as PEM: the CA that
 * a token names. ERR_DENIED: it is not there. */
MUST_CHECK bool pki_chain_find(const struct blob *chain, size_t count,
                               const char *ca_sha256, struct arena *arena,
                               const char **out_pem, struct err *err);

/* ---- tokens ---------------------------------------------------------------------- */

/* moln1-CA-ID-SECRET-CHECK, all hex: 64 of the CA, 16 of the id, 32 of the secret, 8 of
 * the SHA-256 of what stands before. Spaces and a line end around it are skipped. */
#define TOKEN_TEXT_LEN 136
struct join_token {
    char ca_sha256[65];
    char id[24]; /* tok-... */
    char secret[33];
};

void token_make(const struct rng *rng, const char *ca_sha256, struct join_token *out);
void token_format(const struct join_token *token, char out[TOKEN_TEXT_LEN]);
/* ERR_INVALID when it was cut, mistyped, or is something else. */
MUST_CHECK bool token_parse(const char *text, struct join_token *out, struct err *err);
/* What is kept at rest: hex SHA-256 of the secret. Compare with secret_eq. */
void token_secret_hash(const char *secret, char out_hex[65]);
