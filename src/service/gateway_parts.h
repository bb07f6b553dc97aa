/* gateway_parts.h - what the gateway's files share; private to service/gateway*.c.
 *
 * A visit is one request on its way through: made when its head has come, kept in the
 * request's arena, gone with it. It meets the parts below in this order:
 *   auth      whose key, and is the signature good          gateway_auth.c
 *   route     which service and operation                   gateway_route.c
 *   throttle  not too often                                 gateway_throttle.c
 *   run       decode, transaction, live question, encode    gateway_run.c
 *   audit     who, what, from where, how it ended           gateway_audit.c
 * Uploads, tunnels and consoles take a way of their own after auth: gateway_upload.c
 * and gateway_stream.c. */
#pragma once
#include "core/config.h"
#include "service/fragments.h"
#include "service/gateway.h"
#include "service/service.h"
#include "store/rows.h"
#include "wire/sigv4.h"
#include <pthread.h>

#define REQUEST_ID_LEN 37
#define ACCOUNT_LEN 16
#define FRAGMENTS_BYTES (32 * MIB)
#define LIVE_TIMEOUT_NS (2 * NS_PER_S)
#define BRIEF_ROWS 20000 /* What a connection's thread reads for one call: some ms. */

/* What an authenticated key says of its holder. */
struct identity {
    char key_id[64];
    char account[ACCOUNT_LEN]; /* "operator" for operators. */
    char user_arn[96];
    bool is_operator;
};

enum special {
    SPECIAL_NONE,
    SPECIAL_UPLOAD,
    SPECIAL_TUNNEL,
    SPECIAL_CONSOLE,
};

struct visit {
    struct gateway *gateway;
    struct http_request *request;
    int64_t now_ns;
    char request_id[REQUEST_ID_LEN];
    struct sigv4_claim claim;
    struct identity who;
    bool known; /* 'who' is believed. */
    enum special special;
    const struct service *service;     /* NULL: not found yet. */
    const struct operation *operation; /* NULL for uploads and streams. */
    const char *operation_name;        /* As asked for; "" when unknown. */
    struct params params;
    bool json;  /* EC2 asked for JSON. */
    bool asks;  /* Only the question to a node is left to be done. */
    bool large; /* It reads much, and is run where that keeps nobody. */
    struct call call;
    void *in, *out;
    const char *detail; /* For the audit. */
    bool recorded;      /* The audit's row went with the transaction. */
    struct err err;
    struct upload *upload;
    struct stream_request stream;
};

struct keys;
struct throttle;
struct audit;

struct gateway {
    struct gateway_config config;
    struct keys *keys;
    struct throttle *throttle;
    struct audit *audit;
    struct fragments *fragments;
    struct http_server *http;
};

/* ---- auth ------------------------------------------------------------------------ */

struct keys *keys_create(void);
void keys_destroy(struct keys *keys);
void keys_forget(struct keys *keys);
/* Fills visit->claim and visit->who, or visit->err. */
MUST_CHECK bool visit_authenticate(struct visit *visit, bool allow_unsigned);

/* ---- route ----------------------------------------------------------------------- */

/* The service of a scope's name; NULL: there is none. */
const struct service *service_named(const char *name);
enum protocol visit_protocol(const struct visit *visit);
/* Finds the operation and collects its parameters. */
MUST_CHECK bool visit_route(struct visit *visit);

/* ---- throttle -------------------------------------------------------------------- */

struct throttle *throttle_create(const struct gateway_rates *rates);
void throttle_destroy(struct throttle *throttle);
MUST_CHECK bool visit_throttle(struct visit *visit, bool writes);

/* ---- run ------------------------------------------------------------------------- */

MUST_CHECK bool visit_decode(struct visit *visit);
/* The transaction. A question to a node may be left in visit->call.live. 'brief': when it
 * reads too much it fails, and visit->large says so. */
MUST_CHECK bool visit_run(struct visit *visit, bool brief);
void visit_ask_live(struct visit *visit);
/* The answer, of success or of visit->err. */
void visit_answer(struct visit *visit, struct http_answer *answer);

/* ---- audit ----------------------------------------------------------------------- */

MUST_CHECK struct audit *audit_create(struct store *store);
/* Writes what is still to be written. */
void audit_destroy(struct audit *audit);
/* Inside a writing transaction. */
MUST_CHECK bool audit_write(struct txn *txn, const struct visit *visit,
                            struct err *err);
/* A moment later, with others. */
void audit_note(struct audit *audit, const struct visit *visit);

/* ---- uploads and streams --------------------------------------------------------- */

enum special special_of(const char *path);
MUST_CHECK bool upload_begin(struct visit *visit);
MUST_CHECK bool upload_chunk(struct visit *visit, const void *data, size_t len);
MUST_CHECK bool upload_finish(struct visit *visit, struct http_answer *answer);
void upload_abandon(struct visit *visit);
/* Makes the ticket and readies the answer for the upgrade. */
MUST_CHECK bool stream_begin(struct visit *visit, struct http_answer *answer);
