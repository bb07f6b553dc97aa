/* key_material.h - SSH keys as EC2 makes, takes and fingerprints them.
 *
 * Purpose:  RSA 2048 and ED25519 key pairs made from the random numbers handed in;
 *           public keys of tenants read from the forms that EC2 takes; AWS's
 *           fingerprints.
 * Place:    service/ec2; above base/, over nettle and GnuTLS. Knows no rows.
 * Memory:   everything handed out lies in the caller's arena.
 * Threads:  any.
 *
 * Fingerprints, as AWS has them: of an RSA key made here, SHA-1 of the private key's
 * PKCS#8 DER, in hex with colons; of an RSA key brought, MD5 of the public key's DER;
 * of an ED25519 key, SHA-256 of the public key's SSH form in base64, without padding. */
#pragma once
#include "base/arena.h"
#include "base/world.h"

enum key_kind { KEY_RSA, KEY_ED25519 };

struct key_material {
    enum key_kind kind;
    const char *fingerprint;
    const char *public_key;  /* "ssh-rsa AAAA... comment" */
    const char *private_pem; /* PKCS#1, or OpenSSH's own form; NULL of keys brought. */
};

const char *key_kind_name(enum key_kind kind); /* "rsa" */

/* A new pair. RSA takes about a tenth of a second. 'comment' goes into the public key.
 */
MUST_CHECK bool key_make(struct arena *arena, const struct rng *rng, enum key_kind kind,
                         const char *comment, struct key_material *out,
                         struct err *err);

/* A public key in OpenSSH's form, RFC 4716's, PEM, or base64 of its DER; RSA of 1,024,
 * 2,048 or 4,096 bits, or ED25519. ERR_KEY_FORMAT otherwise. */
MUST_CHECK bool key_read(struct arena *arena, const void *data, size_t len,
                         const char *comment, struct key_material *out,
                         struct err *err);
