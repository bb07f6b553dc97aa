/* key_read.c - reading the public keys that tenants bring; see key_material.h. */
#include "base/crypto.h"
#include "service/ec2/key_material.h"
#include "service/ec2/key_wire.h"
#include <ctype.h>
#include <gnutls/abstract.h>

#define SSH2_BEGIN "---- BEGIN SSH2 PUBLIC KEY ----"
#define SSH2_END "---- END SSH2 PUBLIC KEY ----"
#define ED25519_LEN 32

/* A public key taken apart: numbers of RSA, or the point of ED25519 in 'x'. */
struct parts {
    enum key_kind kind;
    struct blob n, e, x;
};

static bool
blob_is(struct blob b, const char *text)
{
    return b.len == strlen(text) && memcmp(b.data, text, b.len) == 0;
}

static bool
format_error(struct err *err)
{
    return err_set(err, ERR_KEY_FORMAT,
                   "Key is not in valid OpenSSH public key format");
}

/* Length of a number in bits. */
static size_t
bit_length(struct blob n)
{
    while (n.len && !*n.data) {
        n.data++;
        n.len--;
    }
    size_t bits = n.len * 8;
    for (uint8_t top = n.len ? n.data[0] : 0x80; !(top & 0x80);
         top = (uint8_t)(top << 1)) {
        bits--;
    }
    return bits;
}

static bool
parts_ok(const struct parts *parts)
{
    if (parts->kind == KEY_ED25519) {
        return parts->x.len == ED25519_LEN;
    }
    size_t n = bit_length(parts->n), e = bit_length(parts->e);
    bool odd = parts->n.len && (parts->n.data[parts->n.len - 1] & 1) && parts->e.len &&
               (parts->e.data[parts->e.len - 1] & 1);
    return odd && e >= 2 && e <= 64 && (n == 1024 || n == 2048 || n == RSA_BITS_MAX);
}

/* SSH's wire form: the algorithm's name, then its numbers, and nothing after. */
static bool
read_wire(struct blob wire, struct parts *out)
{
    struct blob name;
    if (!ssh_take(&wire, &name)) {
        return false;
    }
    if (blob_is(name, "ssh-rsa")) {
        out->kind = KEY_RSA;
        return ssh_take(&wire, &out->e) && ssh_take(&wire, &out->n) && !wire.len;
    }
    out->kind = KEY_ED25519;
    return blob_is(name, "ssh-ed25519") && ssh_take(&wire, &out->x) && !wire.len;
}

static bool
read_base64_wire(struct arena *arena, const char *text, size_t len, struct parts *out)
{
    uint8_t *data;
    size_t data_len;
    struct err why;
    return base64_decode(arena, text, len, &data, &data_len, &why) &&
           read_wire((struct blob){data, data_len}, out);
}

/* "ssh-rsa AAAA... comment" */
static bool
read_openssh(struct arena *arena, const char *text, struct parts *out)
{
    size_t name = strcspn(text, " \t");
    const char *body = text + name + strspn(text + name, " \t");
    return read_base64_wire(arena, body, strcspn(body, " \t\r\n"), out) &&
           str_starts(text, out->kind == KEY_RSA ? "ssh-rsa" : "ssh-ed25519");
}

/* RFC 4716: headers "Name: value" with '\' at the end of a line that goes on, then
 * base64. */
static bool
read_ssh2(struct arena *arena, const char *text, struct parts *out)
{
    AUTO(buf) struct buf body = {0};
    bool header = false;
    for (const char *line = strchr(text, '\n'); line; line = strchr(line, '\n')) {
        size_t len = strcspn(++line, "\r\n");
        if (strncmp(line, SSH2_END, strlen(SSH2_END)) == 0) {
            return read_base64_wire(arena, buf_str(&body), body.len, out);
        }
        bool starts = memchr(line, ':', len) != NULL;
        bool goes_on = len && line[len - 1] == '\\';
        if (!header && !starts) {
            buf_put(&body, line, len);
        }
        header = (header || starts) && goes_on;
    }
    return false;
}

static struct blob
datum_take(struct arena *arena, gnutls_datum_t *d)
{
    struct blob out = {arena_memdup(arena, d->data, d->size), d->size};
    gnutls_free(d->data);
    return out;
}

/* SubjectPublicKeyInfo, as PEM or DER. */
static bool
read_x509(struct arena *arena, const void *data, size_t len, gnutls_x509_crt_fmt_t form,
          struct parts *out)
{
    gnutls_pubkey_t key;
    gnutls_datum_t in = {(unsigned char *)(uintptr_t)data, (unsigned)len}, a, b;
    gnutls_ecc_curve_t curve;
    bool read = false;
    if (gnutls_pubkey_init(&key) < 0) {
        return false;
    }
    if (gnutls_pubkey_import(key, &in, form) < 0) {
        read = false;
    } else if (gnutls_pubkey_export_rsa_raw(key, &a, &b) >= 0) {
        *out = (struct parts){
            .kind = KEY_RSA, .n = datum_take(arena, &a), .e = datum_take(arena, &b)};
        read = true;
    } else if (gnutls_pubkey_export_ecc_raw(key, &curve, &a, &b) >= 0) {
        *out = (struct parts){.kind = KEY_ED25519, .x = datum_take(arena, &a)};
        gnutls_free(b.data);
        read = curve == GNUTLS_ECC_CURVE_ED25519;
    }
    gnutls_pubkey_deinit(key);
    return read;
}

static bool
read_any(struct arena *arena, const char *text, size_t len, struct parts *out)
{
    uint8_t *der;
    size_t der_len;
    struct err why;
    if (str_starts(text, "ssh-")) {
        return read_openssh(arena, text, out);
    }
    if (str_starts(text, SSH2_BEGIN)) {
        return read_ssh2(arena, text, out);
    }
    if (str_starts(text, "-----BEGIN ")) {
        return read_x509(arena, text, len, GNUTLS_X509_FMT_PEM, out);
    }
    return base64_decode(arena, text, len, &der, &der_len, &why) &&
           (read_wire((struct blob){der, der_len}, out) ||
            read_x509(arena, der, der_len, GNUTLS_X509_FMT_DER, out));
}

/* MD5 of SubjectPublicKeyInfo. */
static const char *
rsa_public_fingerprint(struct arena *arena, const struct parts *parts)
{
    AUTO(buf) struct buf numbers = {0};
    AUTO(buf) struct buf bits = {0};
    AUTO(buf) struct buf info = {0};
    AUTO(buf) struct buf der = {0};
    uint8_t digest[16];
    der_number(&numbers, parts->n.data, parts->n.len);
    der_number(&numbers, parts->e.data, parts->e.len);
    buf_putc(&bits, '\0'); /* No unused bits. */
    der_put(&bits, 0x30, numbers.data, numbers.len);
    buf_put(&info, der_rsa_algorithm, sizeof der_rsa_algorithm);
    der_put(&info, 0x03, bits.data, bits.len);
    der_put(&der, 0x30, info.data, info.len);
    md5(der.data, der.len, digest);
    return colon_hex(arena, digest, sizeof digest);
}

bool
key_read(struct arena *arena, const void *data, size_t len, const char *comment,
         struct key_material *out, struct err *err)
{
    AUTO(buf) struct buf wire = {0};
    struct parts parts = {0};
    const char *text = arena_strndup(arena, data, len);
    while (isspace((unsigned char)*text)) {
        text++;
    }
    if (!read_any(arena, text, strlen(text), &parts) || !parts_ok(&parts)) {
        return format_error(err);
    }
    const char *algorithm = parts.kind == KEY_RSA ? "ssh-rsa" : "ssh-ed25519";
    ssh_string(&wire, algorithm, strlen(algorithm));
    if (parts.kind == KEY_RSA) {
        ssh_number(&wire, parts.e.data, parts.e.len);
        ssh_number(&wire, parts.n.data, parts.n.len);
    } else {
        ssh_string(&wire, parts.x.data, parts.x.len);
    }
    *out = (struct key_material){
        .kind = parts.kind,
        .fingerprint = parts.kind == KEY_RSA ? rsa_public_fingerprint(arena, &parts)
                                             : ed25519_fingerprint(arena, &wire),
        .public_key = openssh_line(arena, algorithm, &wire, comment),
    };
    return true;
}
