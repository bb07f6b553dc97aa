/* key_material.c - making SSH keys; see key_material.h. Reading them is key_read.c. */
#include "service/ec2/key_material.h"
#include "base/crypto.h"
#include "service/ec2/key_wire.h"
#include <nettle/bignum.h>
#include <nettle/eddsa.h>
#include <nettle/rsa.h>

#define RSA_BITS 2048
#define PEM_LINE 64
#define OPENSSH_LINE 70
#define OPENSSH_BLOCK \
    8 /* The private part is padded to this when it is not encrypted. */

const char *
key_kind_name(enum key_kind kind)
{
    return kind == KEY_RSA ? "rsa" : "ed25519";
}

static void
der_mpz(struct buf *out, const mpz_t n)
{
    uint8_t bytes[RSA_BITS / 8 + 1];
    size_t len = MAX(nettle_mpz_sizeinbase_256_u(n), 1);
    nettle_mpz_get_str_256(len, bytes, n);
    der_number(out, bytes, len);
    explicit_bzero(bytes, sizeof bytes);
}

static void
random_fill(void *ctx, size_t length, uint8_t *dst)
{
    const struct rng *rng = ctx;
    rng->fill(rng->ctx, dst, length);
}

/* RFC 8017, A.1.2. */
static void
rsa_private_der(struct buf *out, const struct rsa_public_key *pub,
                const struct rsa_private_key *key)
{
    AUTO(buf) struct buf body = {0};
    der_number(&body, (const uint8_t *)"", 1);
    der_mpz(&body, pub->n);
    der_mpz(&body, pub->e);
    der_mpz(&body, key->d);
    der_mpz(&body, key->p);
    der_mpz(&body, key->q);
    der_mpz(&body, key->a);
    der_mpz(&body, key->b);
    der_mpz(&body, key->c);
    der_put(out, 0x30, body.data, body.len);
    explicit_bzero(body.data, body.len);
}

/* SHA-1 of the PKCS#8 form. */
static const char *
rsa_private_fingerprint(struct arena *arena, const struct buf *pkcs1)
{
    AUTO(buf) struct buf body = {0};
    AUTO(buf) struct buf pkcs8 = {0};
    uint8_t digest[20];
    der_number(&body, (const uint8_t *)"", 1);
    buf_put(&body, der_rsa_algorithm, sizeof der_rsa_algorithm);
    der_put(&body, 0x04, pkcs1->data, pkcs1->len);
    der_put(&pkcs8, 0x30, body.data, body.len);
    sha1(pkcs8.data, pkcs8.len, digest);
    explicit_bzero(body.data, body.len);
    explicit_bzero(pkcs8.data, pkcs8.len);
    return colon_hex(arena, digest, sizeof digest);
}

static const char *
rsa_public_line(struct arena *arena, const struct rsa_public_key *pub,
                const char *comment)
{
    AUTO(buf) struct buf wire = {0};
    uint8_t n[RSA_BITS / 8], e[8];
    size_t n_len = nettle_mpz_sizeinbase_256_u(pub->n);
    size_t e_len = nettle_mpz_sizeinbase_256_u(pub->e);
    nettle_mpz_get_str_256(n_len, n, pub->n);
    nettle_mpz_get_str_256(e_len, e, pub->e);
    ssh_string(&wire, "ssh-rsa", 7);
    ssh_number(&wire, e, e_len);
    ssh_number(&wire, n, n_len);
    return openssh_line(arena, "ssh-rsa", &wire, comment);
}

static bool
make_rsa(struct arena *arena, const struct rng *rng, const char *comment,
         struct key_material *out, struct err *err)
{
    AUTO(buf) struct buf pkcs1 = {0};
    struct rsa_public_key pub;
    struct rsa_private_key key;
    struct rng source = *rng;
    rsa_public_key_init(&pub);
    rsa_private_key_init(&key);
    static const uint8_t exponent[] = {1, 0, 1}; /* 65,537 */
    nettle_mpz_set_str_256_u(pub.e, sizeof exponent, exponent);
    bool made =
        rsa_generate_keypair(&pub, &key, &source, random_fill, NULL, NULL, RSA_BITS, 0);
    if (made) {
        rsa_private_der(&pkcs1, &pub, &key);
        *out = (struct key_material){
            .kind = KEY_RSA,
            .fingerprint = rsa_private_fingerprint(arena, &pkcs1),
            .public_key = rsa_public_line(arena, &pub, comment),
            .private_pem = pem_text(arena, "RSA PRIVATE KEY", &pkcs1, PEM_LINE),
        };
        explicit_bzero(pkcs1.data, pkcs1.len);
    }
    rsa_public_key_clear(&pub);
    rsa_private_key_clear(&key);
    return made || err_set(err, ERR_INTERNAL, "an RSA key could not be made");
}

static void
ed25519_wire(struct buf *out, const uint8_t public_key[ED25519_KEY_SIZE])
{
    ssh_string(out, "ssh-ed25519", 11);
    ssh_string(out, public_key, ED25519_KEY_SIZE);
}

/* OpenSSH's PROTOCOL.key, with one key and no passphrase. */
static void
openssh_private(struct buf *out, const struct rng *rng, const struct buf *wire,
                const uint8_t seed[ED25519_KEY_SIZE],
                const uint8_t public_key[ED25519_KEY_SIZE], const char *comment)
{
    AUTO(buf) struct buf secret = {0};
    uint32_t check = (uint32_t)rng_u64(rng);
    ssh_u32(&secret, check);
    ssh_u32(&secret, check);
    buf_put(&secret, wire->data, wire->len);
    ssh_u32(&secret, 2 * ED25519_KEY_SIZE);
    buf_put(&secret, seed, ED25519_KEY_SIZE);
    buf_put(&secret, public_key, ED25519_KEY_SIZE);
    ssh_string(&secret, comment, strlen(comment));
    for (char pad = 1; secret.len % OPENSSH_BLOCK; pad++) {
        buf_putc(&secret, pad);
    }
    buf_put(out, "openssh-key-v1", 15); /* With its NUL. */
    ssh_string(out, "none", 4);
    ssh_string(out, "none", 4);
    ssh_string(out, "", 0);
    ssh_u32(out, 1);
    ssh_string(out, wire->data, wire->len);
    ssh_string(out, secret.data, secret.len);
    explicit_bzero(secret.data, secret.len);
}

static void
make_ed25519(struct arena *arena, const struct rng *rng, const char *comment,
             struct key_material *out)
{
    AUTO(buf) struct buf wire = {0};
    AUTO(buf) struct buf file = {0};
    uint8_t seed[ED25519_KEY_SIZE], public_key[ED25519_KEY_SIZE];
    rng->fill(rng->ctx, seed, sizeof seed);
    ed25519_sha512_public_key(public_key, seed);
    ed25519_wire(&wire, public_key);
    openssh_private(&file, rng, &wire, seed, public_key, comment ? comment : "");
    *out = (struct key_material){
        .kind = KEY_ED25519,
        .fingerprint = ed25519_fingerprint(arena, &wire),
        .public_key = openssh_line(arena, "ssh-ed25519", &wire, comment),
        /* ssh refuses this form without the last newline; AWS sends it. */
        .private_pem = arena_printf(
            arena, "%s\n", pem_text(arena, "OPENSSH PRIVATE KEY", &file, OPENSSH_LINE)),
    };
    explicit_bzero(seed, sizeof seed);
    explicit_bzero(file.data, file.len);
}

bool
key_make(struct arena *arena, const struct rng *rng, enum key_kind kind,
         const char *comment, struct key_material *out, struct err *err)
{
    if (kind == KEY_RSA) {
        return make_rsa(arena, rng, comment, out, err);
    }
    make_ed25519(arena, rng, comment, out);
    return true;
}
