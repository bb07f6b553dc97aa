/* service.h - what tools/gen_aws.py makes of a service's model: its table of
 * operations.
 *
 * Purpose:  the gateway finds an operation by name, decodes its input, runs its handler
 * in a transaction of the right kind, and encodes its output, without knowing any.
 * Place:    service/; constant data, generated as NAME_service in service/NAME/api.h.
 * Threads:  any. */
#pragma once
#include "base/desc.h"
#include "service/call.h"
#include "wire/protocol.h"

struct operation {
    const char *name; /* "RunInstances" */
    const struct desc *in;
    const struct desc *out; /* NULL: answers with nothing but its success. */
    handler_fn *run;
    const char *result_wrapper; /* query protocol: "GetCallerIdentityResult" */
    const char *method, *path;  /* REST protocols. */
    int status;                 /* REST protocols: of success. */
    bool writes;                /* Changes rows: runs on a worker, in a writing txn. */
};

struct service {
    const char *name; /* As in a signature's scope: "ec2" */
    enum protocol protocol;
    const char *api_version;            /* "2016-11-15" */
    const char *xml_namespace;          /* Of answers; NULL: none. */
    const char *target_prefix;          /* JSON: before the dot of X-Amz-Target. */
    const char *json_version;           /* JSON: "1.1" */
    const struct operation *operations; /* Sorted by name. */
    size_t operation_count;
    const char *const *others; /* Sorted: AWS has them, we do not serve them. */
    size_t other_count;
};

/* The operation called 'name', or NULL. */
const struct operation *service_operation(const struct service *service,
                                          const char *name);
/* Whether AWS has an operation 'name' that we do not serve. */
bool service_knows(const struct service *service, const char *name);
