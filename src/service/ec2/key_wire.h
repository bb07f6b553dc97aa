/* key_wire.h - the bytes of keys: DER, SSH's wire form, and the texts around them.
 *
 * Place:    service/ec2, under key_material.h alone.
 * Threads:  any. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/desc.h"

#define RSA_BITS_MAX 4096

/* The algorithm of RSA keys, with its NULL: 1.2.840.113549.1.1.1. */
extern const uint8_t der_rsa_algorithm[15];

void der_put(struct buf *out, uint8_t tag, const void *body, size_t len);
/* An INTEGER from unsigned big-endian bytes. */
void der_number(struct buf *out, const uint8_t *p, size_t len);

void ssh_u32(struct buf *out, uint32_t n);
void ssh_string(struct buf *out, const void *p, size_t len);
/* An mpint from unsigned big-endian bytes. */
void ssh_number(struct buf *out, const uint8_t *p, size_t len);
/* Takes the next string off 'at'; false when it does not fit. */
MUST_CHECK bool ssh_take(struct blob *at, struct blob *out);

const char *pem_text(struct arena *arena, const char *label, const struct buf *der,
                     size_t line);
/* "1f:51:..." */
const char *colon_hex(struct arena *arena, const uint8_t *digest, size_t len);
/* "ssh-rsa AAAA... comment" */
const char *openssh_line(struct arena *arena, const char *algorithm,
                         const struct buf *wire, const char *comment);
const char *ed25519_fingerprint(struct arena *arena, const struct buf *wire);
