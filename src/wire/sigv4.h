/* sigv4.h - AWS Signature Version 4: signing requests, and believing those of others.
 *
 * Place:    wire/; knows HTTP's parts, neither accounts nor sockets.
 * Threads:  any; no state.
 * Input:    verification is strict: host and every x-amz-* header must be signed, a
 * signed header must be there, a presigned request may sign nothing in its body away.
 * Failure:  the generic codes below; the gateway words them for each service.
 *             ERR_MISSING_AUTHENTICATION_TOKEN  not signed at all
 *             ERR_INCOMPLETE_SIGNATURE          signed, but not so that it can be read
 *             ERR_REQUEST_EXPIRED               outside the 15 minutes, or past its
 * expiry ERR_SIGNATURE_DOES_NOT_MATCH      anything that differs from what was signed
 * Source:   "Signature Version 4 signing process" in the AWS General Reference. */
#pragma once
#include "base/arena.h"
#include "wire/http.h"

#define SIGV4_KEY_LEN 32
#define SIGV4_SKEW_NS (900 * NS_PER_S)
#define SIGV4_EXPIRES_MAX_S 604800
#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"

/* What a request says of its own signature: read, not yet believed. */
struct sigv4_claim {
    const char *key_id;
    const char *date; /* YYYYMMDD, of the scope. */
    const char *region, *service;
    const char *signed_headers; /* "host;x-amz-date" */
    const char *signature;      /* 64 hex digits. */
    const char *amz_date;       /* YYYYMMDDTHHMMSSZ */
    int64_t at_ns;              /* The same as time. */
    int64_t expires_s;          /* Presigned: how long it is good. */
    bool presigned;
};

/* 'out' borrows from the arena. Syntax only: no secret is needed yet. */
MUST_CHECK bool sigv4_read(const struct http_request *request, struct arena *arena,
                           struct sigv4_claim *out, struct err *err);
/* Whether the claim's time is near enough to 'now_ns'. */
MUST_CHECK bool sigv4_check_time(const struct sigv4_claim *claim, int64_t now_ns,
                                 struct err *err);

/* The key that signs for one day, region and service; worth keeping: four HMACs. */
void sigv4_signing_key(const char *secret, const char *date, const char *region,
                       const char *service, uint8_t out[SIGV4_KEY_LEN]);

/* Whether the request was signed as it lies here, with 'key'. The body's digest is
 * checked too, unless the request says UNSIGNED-PAYLOAD and 'allow_unsigned'. */
MUST_CHECK bool sigv4_verify(const struct http_request *request,
                             const struct sigv4_claim *claim,
                             const uint8_t key[SIGV4_KEY_LEN], bool allow_unsigned,
                             struct arena *arena, struct err *err);

/* ---- the client's side ----------------------------------------------------------- */

struct sigv4_signer {
    const char *key_id, *secret, *region, *service;
    int64_t now_ns;
    bool unsigned_payload; /* The body is not digested: for streams. */
};

/* Fills 'out' with the headers to add: x-amz-date, x-amz-content-sha256, authorization.
 * 'request' must carry its host header; all its headers are signed. */
#define SIGV4_SIGN_HEADERS 3
void sigv4_sign(const struct http_request *request, const struct sigv4_signer *signer,
                struct arena *arena, struct http_header out[SIGV4_SIGN_HEADERS]);
