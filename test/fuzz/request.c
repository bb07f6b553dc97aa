/* request.c - parameters and JSON of strangers, into every input that is served: it is
 * decoded, validated, and what came out is written in each form. */
#include "service/ec2/api.h"
#include "service/moln/api.h"

static void
try_form(const struct operation *op, const char *text, size_t len)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf out = {0};
    struct err err = {0};
    struct params params = {0};
    void *in = arena_alloc(arena, op->in->size);
    const struct answer head = {.operation = op->name, .request_id = "r"};
    if (!params_parse(&params, text, len, arena, &err)) {
        return;
    }
    if (form_decode(PROTOCOL_QUERY, op->in, &params, arena, in, &err)) {
        (void)!params_validate(PROTOCOL_QUERY, op->in, in, &err);
    }
    if (form_decode(PROTOCOL_EC2, op->in, &params, arena, in, &err)) {
        (void)!params_validate(PROTOCOL_EC2, op->in, in, &err);
        xml_encode(PROTOCOL_EC2, &head, op->in, in, &out);
        ec2_json_encode(op->in, in, &out);
    } else {
        error_encode(PROTOCOL_EC2, false, &err, NULL, "r", &out);
    }
}

static void
try_json(const struct operation *op, const char *text, size_t len)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf out = {0};
    struct err err = {0};
    void *in = arena_alloc(arena, op->in->size);
    if (json_decode(op->in, text, len, arena, in, &err)) {
        (void)!params_validate(PROTOCOL_JSON, op->in, in, &err);
        json_encode(op->in, in, &out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    if (data[0] & 1) {
        try_json(&moln_service.operations[data[0] / 2 % moln_service.operation_count],
                 text, len - 1);
    } else {
        try_form(&ec2_service.operations[data[0] / 2 % ec2_service.operation_count],
                 text, len - 1);
    }
    return 0;
}
