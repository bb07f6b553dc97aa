/* imds.h - the metadata service's rules: one request in, one answer out.
 *
 * Purpose:  IMDSv2's tokens, IMDSv1 where the port allows it, and AWS's status codes. No
 *           socket, no clock: all of it can be tested.
 * Threads:  pure.
 * Source:   "Use the Instance Metadata Service" in the EC2 user guide. */
#pragma once
#include "base/buf.h"
#include "node/metadata/http.h"
#include "node/metadata/token.h"
#include "node/metadata/tree.h"

struct imds_port {
    const char *name; /* Network and port: what tokens are bound to. */
    const struct tree *tree;
    bool enabled, token_required;
    int hop_limit; /* 1 to 64. */
};

struct imds_world {
    const uint8_t *key; /* TOKEN_KEY_LEN bytes. */
    const struct rng *rng;
    int64_t real_ns, mono_ns;
};

/* Appends the whole answer to 'out'. 'port' NULL: nobody of ours. Returns the hop limit
 * (IP TTL) that the answer's packets must have; 0: the usual one. */
int imds_answer(const struct imds_world *world, const struct imds_port *port,
                const struct http_request *request, struct buf *out);
/* For bytes that are no request: 400 or 413; the connection closes. */
void imds_refuse(const struct imds_world *world, int status, struct buf *out);
