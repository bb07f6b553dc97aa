/* client.h - a small signed client of the API (libcurl underneath), for the command
 * line.
 *
 * Place:    wire/; knows signatures and HTTP, no operation.
 * Owner:    the caller; a client keeps its connection open between calls.
 * Threads:  one at a time.
 * Failure:  no answer: ERR_GONE or ERR_TIMEOUT; an answer, of whatever status, is
 * success: look at reply->status, or use client_json and client_ec2, which turn an
 *           error's answer into 'err' (code ERR_INVALID, text "Code: message"). */
#pragma once
#include "base/buf.h"
#include "base/world.h"
#include "wire/http.h"
#include <jansson.h>

struct client;

struct client_config {
    const char *endpoint; /* "http://127.0.0.1:6656" */
    const char *key_id, *secret, *region;
    const char *ca_file; /* For https; NULL: the system's. */
    const struct clock *clock;
    int timeout_s; /* Of a call; 0: 60. Uploads and streams have none. */
};

struct client_reply {
    int status;
    struct buf body;     /* client_reply_fini frees it. */
    char error_code[96]; /* "InvalidInstanceID.NotFound"; empty on success. */
};

void client_reply_fini(struct client_reply *reply);

MUST_CHECK struct client *client_create(const struct client_config *config,
                                        struct err *err);
void client_destroy(struct client *client); /* NULL is a no-op. */
AUTO_DEFINE(client, struct client *, client_destroy)

/* Any call. 'target' is path and query; 'headers' are signed with the rest. */
MUST_CHECK bool client_call(struct client *client, const char *service,
                            const char *method, const char *target,
                            const struct http_header *headers, size_t header_count,
                            const void *body, size_t len, struct client_reply *reply,
                            struct err *err);

/* EC2 (or any query service) answering in JSON: "Action=..&Version=.." is put before
 * 'form', which is encoded by client_form_put. '*out' is the caller's. */
MUST_CHECK bool client_ec2(struct client *client, const char *action, const char *form,
                           json_t **out, char error_code[96], struct err *err);
/* Adds "&name=value", encoded. */
void client_form_put(struct buf *form, const char *name, const char *value);

/* A JSON service: 'target' is "Moln_20261101.CreateAccount". 'in' NULL: {}. */
MUST_CHECK bool client_json(struct client *client, const char *service,
                            const char *target, const json_t *in, json_t **out,
                            char error_code[96], struct err *err);

/* 'sent' of 'total' bytes; returning false stops the upload. */
typedef bool client_progress_fn(void *ctx, uint64_t sent, uint64_t total);

/* PUTs the file, streamed, its payload unsigned. */
MUST_CHECK bool client_upload(struct client *client, const char *service,
                              const char *target, const char *file,
                              client_progress_fn *progress, void *ctx,
                              struct client_reply *reply, struct err *err);

/* POSTs with 'Upgrade: protocol'; after 101, '*out_fd' is a socket of raw bytes, the
 * caller's. A refusal is an error with the server's code and message. */
MUST_CHECK bool client_upgrade(struct client *client, const char *service,
                               const char *target, const char *protocol, int *out_fd,
                               char error_code[96], struct err *err);
