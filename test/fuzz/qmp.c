/* qmp.c - bytes that a broken-out guest could write to the agent's QMP connection. */
#include "node/machine/qmp_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
keep_going(void *ctx, json_t *object)
{
    (void)ctx;
    return json_is_object(object);
}

/* The first byte chooses how the rest is cut into pieces. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qmp_reader reader = {0};
    struct err err = {0};
    size_t step = size > 0 ? (size_t)data[0] + 1 : 1;
    for (size_t at = 1; at < size; at += step) {
        size_t len = MIN(step, size - at);
        if (!qmp_reader_feed(&reader, (const char *)data + at, len, keep_going, NULL,
                             &err)) {
            break;
        }
    }
    qmp_reader_fini(&reader);
    return 0;
}
