/* meter_file.c - credits on disk: written once a minute, whole. */
#include "node/meter/meter_impl.h"

#include "base/file.h"
#include "base/jsonio.h"
#include "base/log.h"

#define FILE_MAX (16 * MIB)
#define KEPT_NS (7 * CREDIT_DAY_NS) /* As AWS keeps a stopped machine's. */

static int64_t
number(const json_t *item, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(item, key));
}

/* A process that ran on while nobody measured is reckoned with in one step, by its own
 * counters; after a start of the host all processes are others. */
static void
load_one(struct meter *meter, const char *id, const json_t *item, bool same_boot)
{
    struct metered *m = xcalloc(1, sizeof *m);
    m->credit.balance_ns = MAX(0, number(item, "balance_ns"));
    m->credit.surplus_ns = MAX(0, number(item, "surplus_ns"));
    m->credit.charged_ns = MAX(0, number(item, "charged_ns"));
    m->credit.held = json_is_true(json_object_get(item, "held"));
    m->started_at_ns = number(item, "started_at_ns");
    m->last.run_ns = number(item, "run_ns");
    m->last_ns = number(item, "at_ns");
    m->known = same_boot && m->last_ns > 0 && m->last_ns <= meter->now_ns;
    m->seen_ns = meter->now_ns;
    const char *as = json_string_value(json_object_get(item, "brought_as"));
    snprintf(m->brought.as, sizeof m->brought.as, "%s", as ? as : "");
    map_put(meter->machines, id, m);
}

void
meter_load(struct meter *meter)
{
    struct err err = {0};
    AUTO(free) char *text = NULL;
    size_t len;
    if (!file_exists(meter->path)) {
        return;
    }
    if (!file_read(meter->path, FILE_MAX, &text, &len, &err)) {
        log_warn("CPU credits are not known: %s", err.msg);
        return;
    }
    AUTO(json) json_t *json = json_loadb(text, len, 0, NULL);
    const char *boot = json_string_value(json_object_get(json, "boot_id"));
    json_t *machines = json_object_get(json, "machines"), *item;
    const char *id;
    json_object_foreach(machines, id, item)
    {
        load_one(meter, id, item, str_eq(boot, meter->boot_id));
    }
}

static void
forget_old(struct meter *meter)
{
    VEC(const char *) old = {0};
    const char *id;
    void *value;
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        if (meter->now_ns - ((const struct metered *)value)->seen_ns > KEPT_NS) {
            VEC_PUSH(&old, id);
        }
    }
    for (size_t i = 0; i < old.count; i++) {
        map_del(meter->machines, old.items[i]);
    }
    VEC_FREE(&old);
}

void
meter_save(struct meter *meter)
{
    struct err err = {0};
    AUTO(json)
    json_t *json = json_pack("{s:s, s:{}}", "boot_id", meter->boot_id, "machines");
    json_t *machines = json_object_get(json, "machines");
    const char *id;
    void *value;
    forget_old(meter);
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        const struct metered *m = value;
        (void)json_object_set_new(
            machines, id,
            json_pack("{s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:s}", "balance_ns",
                      (json_int_t)m->credit.balance_ns, "surplus_ns",
                      (json_int_t)m->credit.surplus_ns, "charged_ns",
                      (json_int_t)m->credit.charged_ns, "held", (int)m->credit.held,
                      "started_at_ns", (json_int_t)m->started_at_ns, "run_ns",
                      (json_int_t)m->last.run_ns, "at_ns",
                      (json_int_t)(m->known ? m->last_ns : 0), "brought_as",
                      m->brought.as));
    }
    if (json_object_size(machines) == 0 && !file_exists(meter->path)) {
        return;
    }
    AUTO(free) char *text = json_dumps(json, JSON_COMPACT);
    if (!text || !file_write(meter->path, text, strlen(text), 0600, &err)) {
        log_warn("CPU credits are not saved: %s", err.msg);
    }
}
