/* tls_plain.c - link/tls.h without ciphers: each end tells its certificate, then bytes
 * pass as they are.
 *
 * Purpose:  the link's handshake, joining, renewal and revocation run in the simulation at
 *           no cost and the same way each time; what GnuTLS adds has tests of its own.
 * Place:    linked in place of link/tls.c, as pki_plain.c is of link/pki.c. */
#include "link/tls.h"

#define HEAD 4 /* Length of the certificate that follows. */
#define CHAIN_MAX_BYTES 4096

struct tls_context {
    bool server;
    int refs;
    char *cert;
};

struct tls {
    struct tls_context *context;
    struct buf wire, in;
    bool told, up;
    char *peer; /* Its chain, one certificate a line. */
};

struct tls_context *
tls_context_create(bool server, const char *cert_pem, const char *key_pem UNUSED,
                   struct err *err UNUSED)
{
    struct tls_context *context = xcalloc(1, sizeof *context);
    context->server = server;
    context->refs = 1;
    context->cert = xstrdup(cert_pem ? cert_pem : "");
    return context;
}

void
tls_context_destroy(struct tls_context *context)
{
    if (context && --context->refs == 0) {
        free(context->cert);
        free(context);
    }
}

struct tls *
tls_create(struct tls_context *context, struct blob ticket UNUSED,
           struct err *err UNUSED)
{
    struct tls *tls = xcalloc(1, sizeof *tls);
    tls->context = context;
    context->refs++;
    return tls;
}

void
tls_destroy(struct tls *tls)
{
    if (tls) {
        tls_context_destroy(tls->context);
        buf_fini(&tls->wire);
        buf_fini(&tls->in);
        free(tls->peer);
        free(tls);
    }
}

static void
tell(struct tls *tls)
{
    uint32_t len = (uint32_t)strlen(tls->context->cert);
    if (!tls->told) {
        tls->told = true;
        buf_put(&tls->wire, &len, HEAD);
        buf_put(&tls->wire, tls->context->cert, len);
    }
}

/* Takes the other end's certificate once all of it is here. */
static bool
hear(struct tls *tls, struct err *err)
{
    uint32_t len;
    if (tls->in.len < HEAD) {
        return true;
    }
    memcpy(&len, tls->in.data, HEAD);
    if (len > CHAIN_MAX_BYTES) {
        return err_set(err, ERR_DENIED, "that is no certificate");
    }
    if (tls->in.len >= HEAD + len) {
        tls->peer = xasprintf("%.*s", (int)len, tls->in.data + HEAD);
        buf_drop_front(&tls->in, HEAD + len);
        tls->up = true;
    }
    return true;
}

bool
tls_feed(struct tls *tls, const void *data, size_t len, struct buf *plain,
         struct err *err)
{
    if (!tls->context->server || len) {
        tell(tls);
    }
    buf_put(&tls->in, data, len);
    if (!tls->up && !hear(tls, err)) {
        return false;
    }
    if (tls->up && tls->in.len) {
        buf_put(plain, tls->in.data, tls->in.len);
        buf_fini(&tls->in);
    }
    return true;
}

bool
tls_send(struct tls *tls, const void *data, size_t len, struct err *err UNUSED)
{
    buf_put(&tls->wire, data, len);
    return true;
}

void
tls_bye(struct tls *tls UNUSED)
{
}

struct buf *
tls_wire(struct tls *tls)
{
    return &tls->wire;
}

bool
tls_is_up(const struct tls *tls)
{
    return tls->up;
}

bool
tls_resumed(const struct tls *tls UNUSED)
{
    return false;
}

size_t
tls_peer_chain(const struct tls *tls, struct blob *out, size_t max)
{
    size_t count = 0;
    for (const char *at = tls->peer; at && *at && count < max; count++) {
        size_t len = strcspn(at, "\n");
        out[count] = (struct blob){(const uint8_t *)at, len};
        at += len + (at[len] == '\n');
    }
    return count;
}

bool
tls_ticket(const struct tls *tls UNUSED, struct buf *out UNUSED)
{
    return false;
}
