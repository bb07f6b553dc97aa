/* key_wire.c - see key_wire.h. */
#include "service/ec2/key_wire.h"
#include "base/crypto.h"

const uint8_t der_rsa_algorithm[15] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                       0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};

/* ---- DER --------------------------------------------------------------------------
 */

void
der_put(struct buf *out, uint8_t tag, const void *body, size_t len)
{
    buf_putc(out, (char)tag);
    if (len < 0x80) {
        buf_putc(out, (char)len);
    } else if (len <= 0xff) {
        buf_put(out, "\x81", 1);
        buf_putc(out, (char)len);
    } else {
        buf_put(out, "\x82", 1);
        buf_putc(out, (char)(len >> 8));
        buf_putc(out, (char)(len & 0xff));
    }
    buf_put(out, body, len);
}

/* A number as DER and SSH both want it: no needless zero in front but one before a high
 * bit. */
static void
number_put(struct buf *out, const uint8_t *p, size_t len)
{
    while (len > 1 && !*p) {
        p++;
        len--;
    }
    if (len && (*p & 0x80)) {
        buf_putc(out, '\0');
    }
    buf_put(out, p, len);
}

void
der_number(struct buf *out, const uint8_t *p, size_t len)
{
    AUTO(buf) struct buf body = {0};
    number_put(&body, p, len);
    der_put(out, 0x02, body.data, body.len);
}

/* ---- SSH's wire form --------------------------------------------------------------
 */

void
ssh_u32(struct buf *out, uint32_t n)
{
    const uint8_t bytes[] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                             (uint8_t)n};
    buf_put(out, bytes, sizeof bytes);
}

void
ssh_string(struct buf *out, const void *p, size_t len)
{
    ssh_u32(out, (uint32_t)len);
    buf_put(out, p, len);
}

void
ssh_number(struct buf *out, const uint8_t *p, size_t len)
{
    AUTO(buf) struct buf body = {0};
    number_put(&body, p, len);
    ssh_string(out, body.data, body.len);
}

bool
ssh_take(struct blob *at, struct blob *out)
{
    if (at->len < 4) {
        return false;
    }
    uint32_t len = (uint32_t)at->data[0] << 24 | (uint32_t)at->data[1] << 16 |
                   (uint32_t)at->data[2] << 8 | at->data[3];
    if (len > at->len - 4) {
        return false;
    }
    *out = (struct blob){at->data + 4, len};
    *at = (struct blob){at->data + 4 + len, at->len - 4 - len};
    return true;
}

/* ---- texts ------------------------------------------------------------------------
 */

const char *
pem_text(struct arena *arena, const char *label, const struct buf *der, size_t line)
{
    AUTO(buf) struct buf out = {0};
    const char *text = base64_encode(arena, der->data, der->len);
    buf_printf(&out, "-----BEGIN %s-----\n", label);
    for (size_t len = strlen(text), i = 0; i < len; i += line) {
        buf_put(&out, text + i, MIN(line, len - i));
        buf_putc(&out, '\n');
    }
    buf_printf(&out, "-----END %s-----", label);
    return arena_strdup(arena, buf_str(&out));
}

const char *
colon_hex(struct arena *arena, const uint8_t *digest, size_t len)
{
    char *out = arena_alloc(arena, 3 * len);
    for (size_t i = 0; i < len; i++) {
        (void)snprintf(out + 3 * i, 4, "%02x%s", digest[i], i + 1 < len ? ":" : "");
    }
    return out;
}

const char *
openssh_line(struct arena *arena, const char *algorithm, const struct buf *wire,
             const char *comment)
{
    return arena_printf(arena, "%s %s%s%s", algorithm,
                        base64_encode(arena, wire->data, wire->len),
                        str_empty(comment) ? "" : " ", comment ? comment : "");
}

const char *
ed25519_fingerprint(struct arena *arena, const struct buf *wire)
{
    uint8_t digest[SHA256_LEN];
    sha256(wire->data, wire->len, digest);
    char *text = base64_encode(arena, digest, sizeof digest);
    text[strcspn(text, "=")] = '\0';
    return text;
}
