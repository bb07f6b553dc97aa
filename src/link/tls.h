/* tls.h - TLS 1.3 between two buffers: GnuTLS without sockets.
 *
 * Purpose:  turns bytes from the wire into plain ones and back, whoever moves them. The
 *           control plane asks for a node's certificate, the node insists on the
 *           control CA; sessions are resumed by tickets, which is what makes a thousand
 *           nodes that come back at once cheap.
 * Place:    above base/ and pki.h; below stream.h.
 * Owner:    a tls_context (certificates, ticket key) is made once; its sessions keep it
 *           alive; a 'struct tls' is one session.
 * Checks:   none here of who the other end is: the owner does that with tls_peer_chain
 *           and pki_verify once tls_is_up, before it sends or believes a byte.
 * Threads:  one at a time. */
#pragma once
#include "base/buf.h"
#include "base/desc.h"

struct tls_context;
struct tls;

/* cert_pem may be a chain; NULL: a client without a certificate yet. */
MUST_CHECK struct tls_context *tls_context_create(bool server, const char *cert_pem,
                                                  const char *key_pem, struct err *err);
void tls_context_destroy(struct tls_context *context); /* NULL is a no-op. */
AUTO_DEFINE(tls_context, struct tls_context *, tls_context_destroy)

/* 'ticket' (clients; may be empty) is what tls_ticket gave for an earlier session. */
MUST_CHECK struct tls *tls_create(struct tls_context *context, struct blob ticket,
                                  struct err *err);
void tls_destroy(struct tls *tls); /* NULL is a no-op. */

/* Takes bytes from the wire, goes on with the handshake, and appends what they hold to
 * 'plain'. What must be sent is in tls_wire. ERR_GONE: the other end said good-bye. */
MUST_CHECK bool tls_feed(struct tls *tls, const void *data, size_t len,
                         struct buf *plain, struct err *err);
/* Enciphers into tls_wire; only when tls_is_up. */
MUST_CHECK bool tls_send(struct tls *tls, const void *data, size_t len,
                         struct err *err);
void tls_bye(struct tls *tls);         /* Puts the closing alert into tls_wire. */
struct buf *tls_wire(struct tls *tls); /* To be sent; the caller clears it. */
bool tls_is_up(const struct tls *tls); /* The handshake is done. */
bool tls_resumed(const struct tls *tls);
/* Chain of the other end, leaf first, borrowed from 'tls'; the count, 0 when it has
 * none. */
size_t tls_peer_chain(const struct tls *tls, struct blob *out, size_t max);
/* Clients: appends the newest ticket, once the server sent one. */
bool tls_ticket(const struct tls *tls, struct buf *out);
