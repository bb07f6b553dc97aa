/* tls.c - see tls.h. */
#include "link/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

/* One protocol version, one family of groups: nothing to negotiate down. The fast
 * cipher first; X25519 is the cheapest exchange for a resumed session. */
#define PRIORITY \
    "SECURE128:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:" \
    "-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"

#define PLAIN_CHUNK (16u << 10) /* The largest TLS record's plain text. */

struct tls_context {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    gnutls_datum_t ticket_key; /* Servers. */
    bool server;
    int refs; /* The owner, and each session. */
};

struct tls {
    struct tls_context *context;
    gnutls_session_t session;
    const uint8_t *in; /* Not yet consumed, of the feed under way. */
    size_t in_len;
    struct buf wire;
    bool up;
};

static bool
tls_err(struct err *err, int rc, const char *what)
{
    return err_set(err, ERR_DENIED, "%s: %s", what, gnutls_strerror(rc));
}

static bool
context_load_pair(struct tls_context *context, const char *cert_pem,
                  const char *key_pem, struct err *err)
{
    gnutls_datum_t cert = {(uint8_t *)(uintptr_t)cert_pem, (unsigned)strlen(cert_pem)};
    gnutls_datum_t key = {(uint8_t *)(uintptr_t)key_pem, (unsigned)strlen(key_pem)};
    int rc = gnutls_certificate_set_x509_key_mem2(context->credentials, &cert, &key,
                                                  GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc < 0) {
        return err_set(err, ERR_INVALID, "certificate and key: %s",
                       gnutls_strerror(rc));
    }
    return true;
}

struct tls_context *
tls_context_create(bool server, const char *cert_pem, const char *key_pem,
                   struct err *err)
{
    AUTO(tls_context) struct tls_context *context = xcalloc(1, sizeof *context);
    context->server = server;
    context->refs = 1;
    int rc = gnutls_certificate_allocate_credentials(&context->credentials);
    if (rc >= 0) {
        rc = gnutls_priority_init(&context->priority, PRIORITY, NULL);
    }
    if (rc >= 0 && server) {
        rc = gnutls_session_ticket_key_generate(&context->ticket_key);
    }
    if (rc < 0) {
        err_set(err, ERR_SYSTEM, "TLS: %s", gnutls_strerror(rc));
        return NULL;
    }
    if (cert_pem && !context_load_pair(context, cert_pem, key_pem, err)) {
        return NULL;
    }
    return take_tls_context(&context);
}

void
tls_context_destroy(struct tls_context *context)
{
    if (!context || --context->refs) {
        return;
    }
    if (context->priority) {
        gnutls_priority_deinit(context->priority);
    }
    if (context->credentials) {
        gnutls_certificate_free_credentials(context->credentials);
    }
    if (context->ticket_key.data) {
        gnutls_memset(context->ticket_key.data, 0, context->ticket_key.size);
        gnutls_free(context->ticket_key.data);
    }
    free(context);
}

static ssize_t
wire_pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
    struct tls *tls = ptr;
    if (!tls->in_len) {
        gnutls_transport_set_errno(tls->session, EAGAIN);
        return -1;
    }
    size_t n = MIN(len, tls->in_len);
    memcpy(data, tls->in, n);
    tls->in += n;
    tls->in_len -= n;
    return (ssize_t)n;
}

static ssize_t
wire_push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
    struct tls *tls = ptr;
    buf_put(&tls->wire, data, len);
    return (ssize_t)len;
}

static int
wire_wait(gnutls_transport_ptr_t ptr, unsigned ms)
{
    return ((struct tls *)ptr)->in_len > 0;
}

static int
tls_set_up(struct tls *tls, struct tls_context *context, struct blob ticket)
{
    unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                     (context->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
    int rc = gnutls_init(&tls->session, flags);
    if (rc < 0) {
        return rc;
    }
    rc = gnutls_priority_set(tls->session, context->priority);
    if (rc < 0) {
        return rc;
    }
    rc = gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE,
                                context->credentials);
    if (rc < 0) {
        return rc;
    }
    if (context->server) {
        gnutls_certificate_server_set_request(tls->session, GNUTLS_CERT_REQUEST);
        rc = gnutls_session_ticket_enable_server(tls->session, &context->ticket_key);
    } else if (ticket.len) {
        /* One that is stale or broken only costs a whole handshake. */
        (void)gnutls_session_set_data(tls->session, ticket.data, ticket.len);
    }
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, wire_pull);
    gnutls_transport_set_push_function(tls->session, wire_push);
    gnutls_transport_set_pull_timeout_function(tls->session, wire_wait);
    gnutls_handshake_set_timeout(tls->session, 0);
    return rc;
}

struct tls *
tls_create(struct tls_context *context, struct blob ticket, struct err *err)
{
    struct tls *tls = xcalloc(1, sizeof *tls);
    tls->context = context;
    context->refs++;
    int rc = tls_set_up(tls, context, ticket);
    if (rc < 0) {
        err_set(err, ERR_SYSTEM, "TLS session: %s", gnutls_strerror(rc));
        tls_destroy(tls);
        return NULL;
    }
    return tls;
}

void
tls_destroy(struct tls *tls)
{
    if (!tls) {
        return;
    }
    if (tls->session) {
        gnutls_deinit(tls->session);
    }
    tls_context_destroy(tls->context);
    buf_fini(&tls->wire);
    free(tls);
}

static bool
tls_shake(struct tls *tls, struct err *err)
{
    int rc;
    do {
        rc = gnutls_handshake(tls->session);
    } while (rc == GNUTLS_E_INTERRUPTED ||
             (rc < 0 && rc != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(rc)));
    if (rc == GNUTLS_E_AGAIN) {
        return true;
    }
    if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        return err_set(err, ERR_DENIED, "TLS handshake: the other end says: %s",
                       gnutls_alert_get_name(gnutls_alert_get(tls->session)));
    }
    if (rc < 0) {
        (void)gnutls_alert_send_appropriate(tls->session, rc);
        return tls_err(err, rc, "TLS handshake");
    }
    tls->up = true;
    return true;
}

bool
tls_feed(struct tls *tls, const void *data, size_t len, struct buf *plain,
         struct err *err)
{
    tls->in = data;
    tls->in_len = len;
    if (!tls->up && !tls_shake(tls, err)) {
        return false;
    }
    while (tls->up) {
        char *room = buf_room(plain, PLAIN_CHUNK);
        if (!room) {
            return err_set(err, ERR_TOO_LARGE, "TLS: too much at once");
        }
        size_t before = tls->in_len;
        ssize_t n = gnutls_record_recv(tls->session, room, PLAIN_CHUNK);
        if (n > 0) {
            plain->len += (size_t)n;
        } else if (n == 0) {
            return err_set(err, ERR_GONE, "closed by the other end");
        } else if (n == GNUTLS_E_AGAIN && tls->in_len == before) {
            break; /* With bytes taken it was a ticket: there may be more. */
        } else if (gnutls_error_is_fatal((int)n)) {
            (void)gnutls_alert_send_appropriate(tls->session, (int)n);
            return tls_err(err, (int)n, "TLS");
        }
    }
    return true;
}

bool
tls_send(struct tls *tls, const void *data, size_t len, struct err *err)
{
    const char *p = data;
    while (len) {
        ssize_t n = gnutls_record_send(tls->session, p, len);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
            continue; /* wire_push takes everything; this cannot last. */
        }
        if (n < 0) {
            return tls_err(err, (int)n, "TLS");
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

void
tls_bye(struct tls *tls)
{
    if (tls->up) {
        (void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
    }
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
tls_resumed(const struct tls *tls)
{
    return gnutls_session_is_resumed(tls->session) != 0;
}

size_t
tls_peer_chain(const struct tls *tls, struct blob *out, size_t max)
{
    unsigned count = 0;
    const gnutls_datum_t *certs = gnutls_certificate_get_peers(tls->session, &count);
    size_t n = certs ? MIN((size_t)count, max) : 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct blob){certs[i].data, certs[i].size};
    }
    return n;
}

bool
tls_ticket(const struct tls *tls, struct buf *out)
{
    if (!(gnutls_session_get_flags(tls->session) & GNUTLS_SFLAGS_SESSION_TICKET)) {
        return false;
    }
    gnutls_datum_t data = {0};
    if (gnutls_session_get_data2(tls->session, &data) < 0) {
        return false;
    }
    buf_put(out, data.data, data.size);
    gnutls_free(data.data);
    return true;
}
