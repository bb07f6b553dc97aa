/* canonical.h - the canonical request of Signature Version 4, and its digest.
 *
 * Purpose:  the one text that a client and we must both arrive at. It is never built:
 *           its pieces go straight into the digest.
 * Place:    wire/; used by sigv4.c only.
 * Threads:  any. */
#pragma once
#include "base/arena.h"
#include "base/crypto.h"
#include "wire/http.h"

struct canonical {
    const struct http_request *request;
    const char *signed_headers; /* Lower case, sorted, between semicolons. */
    const char *payload;        /* Hex digest, or UNSIGNED-PAYLOAD. */
    bool plain_path;     /* S3: the path as sent, neither tidied nor encoded again. */
    bool drop_signature; /* Presigned: all of the query but X-Amz-Signature. */
};

/* Fails with ERR_MALFORMED_REQUEST for a query that cannot be decoded. */
MUST_CHECK bool canonical_digest(const struct canonical *what, struct arena *arena,
                                 uint8_t out[SHA256_LEN], struct err *err);

/* Whether 'signed_headers' is well formed and leaves nothing out that must be signed:
 * host, and every x-amz-* header that the request carries. */
MUST_CHECK bool canonical_check_signed(const struct http_request *request,
                                       const char *signed_headers, struct err *err);
