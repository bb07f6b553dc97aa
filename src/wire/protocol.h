/* protocol.h - the AWS protocols, over descriptors.
 *
 * Purpose:  parameters of a request into a struct, a struct into an answer, an error
 *           into the body its protocol wants. Everything is driven by the descriptors
 *           that tools/gen_aws.py makes of the service models; nothing is written by
 *           hand for any one operation.
 * Place:    wire/, above base/: knows neither sockets nor services.
 * Threads:  any; no state but compiled patterns, which are made once and shared.
 * Input:    a stranger's: depth, indexes and counts are bounded, every error names the
 *           parameter.
 * Memory:   decoded values live in the arena handed in and borrow nothing of the
 *           request.
 *
 *              request                           answer
 *   EC2        form or query string, lists       XML, or JSON for 'Accept:
 *              always flattened                   application/json' (as aws prints it)
 *   QUERY      form or query string              XML in a result wrapper
 *   JSON       JSON 1.0 / 1.1, X-Amz-Target      JSON
 *   REST_JSON  path, query, headers, JSON        JSON */
#pragma once
#include "base/desc.h"

enum protocol {
    PROTOCOL_EC2 = 1,
    PROTOCOL_QUERY,
    PROTOCOL_JSON,
    PROTOCOL_REST_JSON,
    PROTOCOL_REST_XML,
};

#define PROTOCOL_DEPTH_MAX 16    /* Structures inside structures. */
#define PROTOCOL_PARAMS_MAX 8192 /* Parameters of a form. */
#define PROTOCOL_LIST_MAX 4096   /* Items of one list in a form. */

/* One decoded name and value, in the order they came. */
struct param {
    const char *name, *value;
    size_t name_len, value_len;
};

struct params {
    struct param *items;
    size_t count;
};

/* Splits and decodes 'a=b&c=d' (form body or query string) into 'out', adding to what
 * is there; memory from 'arena'. A NUL or a broken escape is ERR_MALFORMED_REQUEST. */
MUST_CHECK bool params_parse(struct params *out, const char *text, size_t len,
                             struct arena *arena, struct err *err);
/* The value of the first parameter called 'name', or NULL. */
const char *params_get(const struct params *params, const char *name);

/* ---- requests -------------------------------------------------------------------- */

/* EC2 and QUERY: parameters into 'out' (desc->size bytes, zeroed by the callee).
 * Action, Version, and the signature's parameters (X-Amz-...) are passed over; any
 * other that the descriptor has no place for is ERR_UNKNOWN_PARAMETER. */
MUST_CHECK bool form_decode(enum protocol protocol, const struct desc *desc,
                            const struct params *params, struct arena *arena, void *out,
                            struct err *err);

/* JSON: a body; an empty one is '{}'. */
MUST_CHECK bool json_decode(const struct desc *desc, const char *body, size_t len,
                            struct arena *arena, void *out, struct err *err);

/* A header by its lower-case name; NULL: there is none. */
typedef const char *header_fn(void *ctx, const char *name);

/* REST_JSON: 'pattern' is the operation's path ("/things/{Id}?flag"). '*out_matches'
 * tells whether the path fits at all; an error is only for one that does. */
MUST_CHECK bool rest_decode(const struct desc *desc, const char *pattern,
                            const char *path, const struct params *query,
                            header_fn *header, void *ctx, const char *body, size_t len,
                            struct arena *arena, void *out, bool *out_matches,
                            struct err *err);
bool rest_path_matches(const char *pattern, const char *path);

/* Required members, ranges, lengths, permitted values, patterns; with the codes and the
 * wording of the protocol. */
MUST_CHECK bool params_validate(enum protocol protocol, const struct desc *desc,
                                const void *object, struct err *err);

/* ---- answers --------------------------------------------------------------------- */

struct answer {
    const char *operation;      /* "RunInstances" */
    const char *xml_namespace;  /* Of the service; NULL: none. */
    const char *result_wrapper; /* QUERY: "GetCallerIdentityResult"; NULL: none. */
    const char *request_id;
};

/* EC2 and QUERY. 'desc' NULL: an operation without an answer of its own. */
void xml_encode(enum protocol protocol, const struct answer *answer,
                const struct desc *desc, const void *object, struct buf *out);
/* The members of 'object' alone, as they stand in such an answer. */
void xml_encode_members(const struct desc *desc, const void *object, struct buf *out);
/* EC2 asked for JSON: what `aws --output json` prints, members by their model's names.
 */
void ec2_json_encode(const struct desc *desc, const void *object, struct buf *out);
/* JSON and REST_JSON bodies. */
void json_encode(const struct desc *desc, const void *object, struct buf *out);

/* What a client reads of 'err': the code by err.def, the message, the request's id.
 * Errors of our own inside (ERR_INTERNAL and its kin) never tell their message to a
 * client. */
void error_encode(enum protocol protocol, bool json, const struct err *err,
                  const char *xml_namespace, const char *request_id, struct buf *out);
