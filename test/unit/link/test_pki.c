/* test_pki.c - the cloud's certificates, and tokens to join with. */
#include "test.h"

#include "base/crypto.h"
#include "link/pki.h"

#define NOW_NS (INT64_C(1790000000) * NS_PER_S)
#define DAY_NS (86400 * NS_PER_S)

struct office {
    struct arena *arena;
    uint64_t seed;
    struct rng rng;
    struct pki_pair pair;
    struct pki_ca *ca;
    struct pki_verifier *verifier;
};

static void
office_open(struct office *o, uint64_t seed)
{
    struct err err = {0};
    *o = (struct office){.arena = arena_create(), .seed = seed};
    o->rng = rng_seeded(&o->seed);
    CHECK_OK(pki_ca_make(o->arena, &o->rng, NOW_NS, "c1000000", &o->pair, &err), &err);
    o->ca = pki_ca_load(o->pair.cert_pem, o->pair.key_pem, &err);
    CHECK_OK(o->ca, &err);
    o->verifier = pki_verifier_create(o->pair.cert_pem, &err);
    CHECK_OK(o->verifier, &err);
}

static void
office_close(struct office *o)
{
    pki_verifier_destroy(o->verifier);
    pki_ca_destroy(o->ca);
    arena_destroy(o->arena);
}

/* The DER of the first certificate in 'pem'. */
static struct blob
der_of(struct office *o, const char *pem)
{
    struct err err = {0};
    struct blob der;
    const char *begin = strchr(pem, '\n');
    const char *end = strstr(pem, "-----END");
    uint8_t *data;
    CHECK(begin && end);
    CHECK_OK(
        base64_decode(o->arena, begin, (size_t)(end - begin), &data, &der.len, &err),
        &err);
    der.data = data;
    return der;
}

static const char *
sign_node(struct office *o, const char *node_id, struct pki_cert *out)
{
    struct err err = {0};
    const char *key, *csr, *pem;
    CHECK_OK(pki_key_make(o->arena, &key, &err), &err);
    CHECK_OK(pki_csr_make(o->arena, key, "whatever-the-host-says", &csr, &err), &err);
    CHECK_OK(
        pki_sign_node(o->ca, o->arena, &o->rng, NOW_NS, csr, node_id, &pem, out, &err),
        &err);
    return pem;
}

static bool
verify(struct office *o, const char *pem, enum pki_role role, int64_t now_ns,
       struct pki_cert *out)
{
    struct err err = {0};
    struct blob der = der_of(o, pem);
    bool ok = pki_verify(o->verifier, &der, 1, role, now_ns, o->arena, out, &err);
    CHECK(ok || err.code == ERR_DENIED);
    return ok;
}

TEST(pki_node_certificate_says_what_was_signed)
{
    struct office o;
    struct err err = {0};
    struct pki_cert made, seen, read, other;
    office_open(&o, 1);
    const char *pem = sign_node(&o, "node-0123456789abcdef0", &made);
    CHECK(verify(&o, pem, PKI_NODE, NOW_NS, &seen));
    CHECK_STR(seen.node_id, "node-0123456789abcdef0");
    CHECK_STR(seen.serial, made.serial);
    CHECK_EQ(seen.not_after_ns, NOW_NS + PKI_NODE_DAYS * DAY_NS);
    CHECK_OK(pki_cert_read(o.arena, pem, &read, &err), &err);
    CHECK_STR(read.serial, made.serial);
    (void)sign_node(&o, "node-0123456789abcdef0", &other);
    CHECK(strcmp(other.serial, made.serial) != 0);
    office_close(&o);
}

TEST(pki_verify_refuses_wrong_time_role_and_ca)
{
    struct office o, foreign;
    struct err err = {0};
    struct pki_cert made;
    struct pki_pair server;
    office_open(&o, 1);
    office_open(&foreign, 2);
    const char *pem = sign_node(&o, "node-1", &made);
    for (int round = 0; round < 2; round++) { /* Once anew, once from memory. */
        CHECK(verify(&o, pem, PKI_NODE, NOW_NS, NULL));
        CHECK(!verify(&o, pem, PKI_NODE, NOW_NS + 91 * DAY_NS, NULL));
        CHECK(!verify(&o, pem, PKI_NODE, NOW_NS - DAY_NS, NULL));
        CHECK(!verify(&o, pem, PKI_SERVER, NOW_NS, NULL));
        CHECK(!verify(&foreign, pem, PKI_NODE, NOW_NS, NULL));
    }
    CHECK_OK(pki_server_make(o.ca, o.arena, &o.rng, NOW_NS, &server, &err), &err);
    CHECK(verify(&o, server.cert_pem, PKI_SERVER, NOW_NS, NULL));
    CHECK(!verify(&o, server.cert_pem, PKI_NODE, NOW_NS, NULL));
    CHECK(!verify(&o, o.pair.cert_pem, PKI_NODE, NOW_NS, NULL));
    CHECK(!pki_verify(o.verifier, NULL, 0, PKI_NODE, NOW_NS, o.arena, NULL, &err));
    office_close(&o);
    office_close(&foreign);
}

TEST(pki_sign_refuses_broken_requests)
{
    struct office o;
    struct err err = {0};
    struct pki_cert made;
    const char *key, *csr, *pem;
    office_open(&o, 1);
    CHECK_OK(pki_key_make(o.arena, &key, &err), &err);
    CHECK_OK(pki_csr_make(o.arena, key, "host", &csr, &err), &err);
    char *bent = arena_strdup(o.arena, csr);
    char *tail = strstr(bent, "-----END") - 12; /* In the signature. */
    *tail = *tail == 'A' ? 'B' : 'A';
    const char *bad[] = {NULL, "", "-----BEGIN NEW CERTIFICATE REQUEST-----\n", bent,
                         o.pair.cert_pem};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!pki_sign_node(o.ca, o.arena, &o.rng, NOW_NS, bad[i], "node-1", &pem,
                             &made, &err));
        CHECK_EQ(err.code, ERR_INVALID);
    }
    office_close(&o);
}

TEST(pki_chain_find_wants_the_very_ca)
{
    struct office o;
    struct err err = {0};
    struct pki_cert made;
    const char *pem;
    office_open(&o, 1);
    struct blob chain[] = {der_of(&o, sign_node(&o, "node-1", &made)),
                           der_of(&o, o.pair.cert_pem)};
    CHECK_OK(pki_chain_find(chain, 2, pki_ca_sha256(o.ca), o.arena, &pem, &err), &err);
    CHECK_STR(pem, o.pair.cert_pem);
    CHECK(!pki_chain_find(chain, 1, pki_ca_sha256(o.ca), o.arena, &pem, &err));
    CHECK(!pki_chain_find(chain, 2, "", o.arena, &pem, &err));
    office_close(&o);
}

TEST(token_survives_text_and_shows_any_mistyped_letter)
{
    uint64_t seed = 3;
    struct rng rng = rng_seeded(&seed);
    struct join_token token, back;
    struct err err = {0};
    char text[TOKEN_TEXT_LEN], padded[TOKEN_TEXT_LEN + 8], ca[SHA256_HEX_LEN];
    sha256_hex("ca", 2, ca);
    token_make(&rng, ca, &token);
    token_format(&token, text);
    snprintf(padded, sizeof padded, "  %s\r\n", text);
    CHECK_OK(token_parse(padded, &back, &err), &err);
    CHECK_STR(back.ca_sha256, ca);
    CHECK_STR(back.id, token.id);
    CHECK_STR(back.secret, token.secret);

    for (size_t i = 0; text[i]; i++) {
        char was = text[i];
        text[i] = was == 'a' ? 'b' : 'a';
        CHECK(!token_parse(text, &back, &err));
        text[i] = 0; /* Cut short. */
        CHECK(!token_parse(text, &back, &err));
        text[i] = was;
    }
    snprintf(padded, sizeof padded, "%s x", text);
    CHECK(!token_parse(padded, &back, &err));
    snprintf(padded, sizeof padded, "%sa", text);
    CHECK(!token_parse(padded, &back, &err));
}
