/* machine_dirty.c - how fast guests write their memory. See machine.h.
 *
 * QEMU compares a sample of pages, half a thousand for each gigabyte, with itself a second
 * later. What it says is in MiB a second. */
#include "base/log.h"
#include "node/machine/machine_impl.h"

#define COMMAND_NS ((uint64_t)(10 * NS_PER_S))
#define MEASURE_S 1

/* A guest that is on its way in or out has other things to do. */
static bool
may_measure(const struct machine *m)
{
    return m->process == PROCESS_UP && m->qmp_up && m->want &&
           !machine_is_arriving(m) && !machine_is_given(m) &&
           str_empty(m->want->outgoing);
}

static void
on_begun(void *ctx, json_t *result UNUSED, const struct err *err)
{
    const struct machine *m = ctx;
    if (err && err->code != ERR_GONE) {
        log_debug("machine %s: %s", m->id, err->msg);
    }
}

static void
on_measured(void *ctx, json_t *result, const struct err *err)
{
    struct machine *m = ctx;
    const json_t *rate = err ? NULL : json_object_get(result, "dirty-rate");
    int64_t mib_s = (int64_t)json_integer_value(rate);
    if (json_is_integer(rate) && mib_s >= 0 && mib_s < (1 << 24)) {
        m->dirty_bps = MAX(1, mib_s * (int64_t)MIB * 8); /* Nothing is not the same as
                                                            not known. */
    }
}

static void
ask_each(struct machines *set, const char *command, bool begin, qmp_reply_fn *done)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &id, &value);) {
        struct machine *m = value;
        struct err err = {0};
        json_t *args = begin ? json_pack("{s:i}", "calc-time", MEASURE_S) : NULL;
        if (!may_measure(m)) {
            json_decref(args);
        } else if (!qmp_send(m->qmp, command, args, -1, COMMAND_NS, done, m, &err)) {
            log_debug("machine %s: %s", m->id, err.msg);
        }
    }
}

void
machines_dirty_begin(struct machines *set)
{
    ask_each(set, "calc-dirty-rate", true, on_begun);
}

void
machines_dirty_ask(struct machines *set)
{
    ask_each(set, "query-dirty-rate", false, on_measured);
}
