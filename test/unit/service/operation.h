/* operation.h - operations called by name through a service's table, as the gateway does;
 * over ec2_fixture.h. */
#pragma once
#include "ec2_fixture.h"
#include "service/moln/api.h"
#include "service/service.h"

static inline bool
operation_run(struct ec2 *e, const struct service *service, const char *name,
              const void *in, void *out, size_t out_size, struct err *err)
{
    const struct operation *operation = service_operation(service, name);
    CHECK(operation);
    CHECK(!out || operation->out->size == out_size);
    return ec2_step(e, name, operation->run, in, out, out_size, err);
}

/* EC2(e, "DescribeTags", &in, &out, &err); EC2_DO for operations without an output. */
#define EC2(e, name, in, out, err) \
    operation_run((e), &ec2_service, (name), (in), (out), sizeof *(out), (err))
#define EC2_DO(e, name, in, err) \
    operation_run((e), &ec2_service, (name), (in), NULL, 0, (err))
#define MOLN(e, name, in, out, err) \
    operation_run((e), &moln_service, (name), (in), (out), sizeof *(out), (err))

/* A list of one request member. */
#define ONE(type, ...) \
    { \
        (type[]){__VA_ARGS__}, sizeof((type[]){__VA_ARGS__}) / sizeof(type) \
    }

struct put_ask {
    const struct row_type *type;
    const void *row;
};

static inline bool
put_step(struct call *call, const void *in, void *out, struct err *err)
{
    const struct put_ask *ask = in;
    (void)out;
    return row_put(call->txn, ask->type, ask->row, err);
}

/* Puts a row as the part of the cloud does whose work it is. */
static inline void
put_row(struct ec2 *e, const struct row_type *type, const void *row)
{
    struct err err;
    const struct put_ask ask = {type, row};
    CHECK_OK(ec2_step(e, "put", put_step, &ask, NULL, 0, &err), &err);
}

struct get_ask {
    const struct row_type *type;
    const void *key;
};

static inline bool
get_step(struct call *call, const void *in, void *out, struct err *err)
{
    const struct get_ask *ask = in;
    const void *row;
    if (!row_get(call->txn, ask->type, ask->key, &row, err)) {
        return false;
    }
    *(const void **)out = row ? desc_copy(ask->type->desc, row, call->arena) : NULL;
    return true;
}

/* A copy of a row, or NULL. */
static inline const void *
get_row(struct ec2 *e, const struct row_type *type, const void *key)
{
    struct err err;
    const void *row;
    const struct get_ask ask = {type, key};
    CHECK_OK(ec2_step(e, "get", get_step, &ask, &row, sizeof row, &err), &err);
    return row;
}
