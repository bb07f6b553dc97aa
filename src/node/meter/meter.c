/* meter.c - see meter.h: the round of a second, and the word of a minute. */
#include "node/meter/meter_impl.h"

#include "base/log.h"

#define ROUND_MS 1000
#define GAP_NS (5 * NS_PER_S) /* A longer one says nothing about ready time. */
#define REPORT_NS (60 * NS_PER_S)
/* Before the report: how fast memory is written is measured, and asked for. */
#define DIRTY_BEGIN_NS (REPORT_NS - 10 * NS_PER_S)
#define DIRTY_ASK_NS (REPORT_NS - 5 * NS_PER_S)
#define FIRST_REPORT_NS (15 * NS_PER_S) /* Of an agent that has just started. */

/* ---- one machine ----------------------------------------------------------------- */

static struct metered *
metered_of(struct meter *meter, const struct machine_metered *machine)
{
    struct metered *m = map_get(meter->machines, machine->id);
    if (!m) {
        m = xcalloc(1, sizeof *m);
        map_put(meter->machines, machine->id, m);
    }
    return m;
}

static struct credit_plan
plan_of(const struct link_machine *want)
{
    return (struct credit_plan){
        .vcpus = want->vcpus,
        .baseline_permille = MAX(0, MIN(want->baseline_permille, 1000)),
        .unlimited = want->unlimited,
    };
}

/* Another process than the one that was measured last. */
static void
begin(struct metered *m, const struct machine_metered *machine)
{
    const struct link_machine *want = machine->want;
    int64_t given = MAX(0, MIN(want->launch_credits, 100000)) * CREDIT_NS;
    if (want->credits_end) {
        m->credit.balance_ns = 0;
    }
    m->credit.balance_ns += given;
    credit_step(&m->plan, &m->credit, 0, 0); /* Is it to be held from the first? */
    m->started_at_ns = machine->started_at_ns;
    m->known = m->limited = false;
    m->brought.balance_milli = m->brought.surplus_milli = m->brought.charged_milli = -1;
    m->ready = (struct ready_window){0};
    m->balloon_bytes = 0;
}

/* One that comes from another host brings its credits. While a migration brings it they are told
 * as it is awaited, and once more when it comes, if they were others by then; where its host was
 * lost, once and for all. */
static void
bring(struct meter *meter, struct metered *m, const struct link_machine *want)
{
    struct credit_brought said = {.balance_milli = want->credits_milli,
                                  .surplus_milli = want->surplus_milli,
                                  .charged_milli = want->charged_milli};
    if (!want->brought || (str_empty(want->incoming) && str_empty(want->brought_as))) {
        return;
    }
    if (str_empty(want->incoming)) {
        snprintf(said.as, sizeof said.as, "%s", want->brought_as);
    }
    if (credit_is_news(&m->brought, &said)) {
        credit_bring(&m->plan, &m->credit, said.balance_milli, said.surplus_milli,
                     said.charged_milli);
        meter->unsaved = true;
    }
}

static void
hold(struct meter *meter, struct metered *m, const char *id)
{
    struct err err = {0};
    int64_t percent = credit_limit_percent(&m->plan, &m->credit);
    if (m->limited && m->percent == percent) {
        return;
    }
    if (!cgroup_limit_cpu(machines_cgroups(meter->config.machines), id, percent,
                          &err)) {
        log_warn("machine %s: %s", id, err.msg);
        return; /* Tried again in a second. */
    }
    if (m->limited || percent > 0) {
        log_info("machine %s: %s", id,
                 percent > 0 ? "out of CPU credits: held to its baseline"
                             : "has CPU credits again");
    }
    m->limited = true;
    m->percent = percent;
}

static void
add_up(struct metered *m, const struct vcpu_times *now, int64_t throttled_ns,
       int64_t now_ns)
{
    int64_t elapsed = now_ns - m->last_ns, run = now->run_ns - m->last.run_ns;
    if (m->known && elapsed > 0) {
        if (m->plan.baseline_permille > 0) {
            credit_step(&m->plan, &m->credit, run, elapsed);
        }
        if (elapsed < GAP_NS) {
            ready_add(&m->ready, m->plan.vcpus, now->wait_ns - m->last.wait_ns,
                      throttled_ns - m->last_throttled_ns, elapsed);
        }
        m->minute_run_ns += MAX(0, run);
        m->minute_ns += elapsed;
    }
    m->last = *now;
    m->last_throttled_ns = throttled_ns;
    m->last_ns = now_ns;
    m->known = true;
}

static void
see_one(void *ctx, const struct machine_metered *machine)
{
    struct meter *meter = ctx;
    struct metered *m = metered_of(meter, machine);
    struct vcpu_times times;
    m->seen_ns = meter->now_ns;
    m->round = meter->round;
    m->plan = plan_of(machine->want);
    m->memory_bytes = machine->want->memory_bytes;
    m->dirty_bps = machine->dirty_bps;
    if (m->started_at_ns != machine->started_at_ns) {
        begin(m, machine);
        meter->unsaved = true;
    }
    bring(meter, m, machine->want);
    if (!sample_vcpus(&m->threads, machine->pid, m->plan.vcpus, &times)) {
        return;
    }
    const struct cgroup_host *groups = machines_cgroups(meter->config.machines);
    add_up(m, &times, cgroup_throttled_ns(groups, machine->id), meter->now_ns);
    hold(meter, m, machine->id);
}

/* ---- the minute ------------------------------------------------------------------ */

static int64_t
milli(int64_t ns)
{
    return ns / (CREDIT_NS / 1000);
}

static void
tell_machine(struct meter *meter, const char *id, struct metered *m,
             struct link_machine_meter *out)
{
    *out = (struct link_machine_meter){
        .id = id,
        .busy_milli = m->minute_run_ns / (m->minute_ns / 1000 + 1),
        .ready_permille = ready_p95(&m->ready),
        .memory_bytes =
            cgroup_memory_bytes(machines_cgroups(meter->config.machines), id),
        .balloon_bytes = m->balloon_bytes,
        .credits_milli = milli(m->credit.balance_ns),
        .used_milli = m->plan.baseline_permille > 0 ? milli(m->minute_run_ns) : 0,
        .surplus_milli = milli(m->credit.surplus_ns),
        .charged_milli = milli(m->credit.charged_ns),
        .held = m->credit.held,
        .dirty_bps = m->dirty_bps,
    };
    m->minute_run_ns = m->minute_ns = 0;
}

static void
report(struct meter *meter)
{
    AUTO(arena) struct arena *arena = arena_create();
    size_t most = map_count(meter->machines), count = 0;
    struct link_machine_meter *items =
        ARENA_ARRAY(arena, most, struct link_machine_meter);
    struct link_meter record = {
        .at = clock_real(meter->config.clock),
        .promised_vcpus = meter->promised_vcpus,
        .memory_some_bp = meter->host.memory.some,
        .memory_full_bp = meter->host.memory.full,
        .relief = relief_name(meter->relief.stage),
        .unfit = meter->unfit,
        .crowded = meter->crowded,
    };
    const char *id;
    void *value;
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        struct metered *m = value;
        if (m->round == meter->round && m->minute_ns > 0) { /* Else not measured yet. */
            tell_machine(meter, id, m, &items[count]);
            record.busy_milli += items[count].busy_milli;
            record.ready_permille =
                MAX(record.ready_permille, items[count].ready_permille);
            count++;
        }
    }
    record.machines.items = items;
    record.machines.count = count;
    meter->reported_ns = meter->now_ns;
    meter->dirty = DIRTY_IDLE;
    meter->config.report(meter->config.ctx, &record);
}

/* ---- the host -------------------------------------------------------------------- */

/* What the second showed of all machines together. */
static void
sum_up(struct meter *meter, int64_t *out_worst, int64_t *out_busy_milli)
{
    const char *id;
    void *value;
    *out_worst = *out_busy_milli = meter->promised_vcpus = 0;
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        const struct metered *m = value;
        if (m->round == meter->round) {
            meter->promised_vcpus += m->plan.vcpus;
            *out_worst = MAX(*out_worst, ready_p95(&m->ready));
            *out_busy_milli +=
                m->minute_ns > 0 ? m->minute_run_ns / (m->minute_ns / 1000 + 1) : 0;
        }
    }
}

static void
judge(struct meter *meter)
{
    int64_t worst, busy_milli;
    sum_up(meter, &worst, &busy_milli);
    const struct host_verdict now = host_judge(
        meter->relief.stage, ready_is_bad(worst, busy_milli, meter->promised_vcpus),
        meter->config.real_processors);
    if (strcmp(now.unfit, meter->unfit) != 0 || now.crowded != meter->crowded) {
        meter->config.event(meter->config.ctx, "pressure", "",
                            now.unfit[0] ? "warn" : "info",
                            now.unfit[0]  ? now.unfit
                            : now.crowded ? "machines should be moved away"
                                          : "fit again");
        snprintf(meter->unfit, sizeof meter->unfit, "%s", now.unfit);
        meter->crowded = now.crowded;
        report(meter);
    }
}

static void
measure_dirty(struct meter *meter)
{
    int64_t since_ns = meter->now_ns - meter->reported_ns;
    if (meter->dirty == DIRTY_IDLE && since_ns >= DIRTY_BEGIN_NS) {
        machines_dirty_begin(meter->config.machines);
        meter->dirty = DIRTY_BEGUN;
    } else if (meter->dirty == DIRTY_BEGUN && since_ns >= DIRTY_ASK_NS) {
        machines_dirty_ask(meter->config.machines);
        meter->dirty = DIRTY_ASKED;
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct meter *meter = timer->data;
    meter->now_ns = clock_mono(meter->config.clock);
    meter->round++;
    machines_metered(meter->config.machines, see_one, meter);
    sample_host(&meter->host);
    meter_relieve(meter);
    judge(meter);
    measure_dirty(meter);
    bool minute = meter->now_ns - meter->reported_ns >= REPORT_NS;
    if (minute) {
        report(meter);
    }
    if (minute || meter->unsaved) { /* What a start gave is given once. */
        meter_save(meter);
        meter->unsaved = false;
    }
}

/* ---- life ------------------------------------------------------------------------ */

static void
free_metered(void *value)
{
    free(value);
}

struct meter *
meter_open(const struct meter_config *config)
{
    struct meter *meter = xcalloc(1, sizeof *meter);
    meter->config = *config;
    meter->path = xstrdup(config->path);
    snprintf(meter->boot_id, sizeof meter->boot_id, "%s", config->boot_id);
    meter->machines = map_create(free_metered);
    meter->now_ns = clock_mono(config->clock);
    meter->reported_ns = meter->now_ns - REPORT_NS + FIRST_REPORT_NS;
    meter_load(meter);
    (void)uv_timer_init(config->loop, &meter->timer);
    meter->timer.data = meter;
    (void)uv_timer_start(&meter->timer, on_timer, ROUND_MS, ROUND_MS);
    return meter;
}

static void
on_closed(uv_handle_t *handle)
{
    struct meter *meter = handle->data;
    map_destroy(meter->machines);
    free(meter->path);
    free(meter);
}

void
meter_close(struct meter *meter)
{
    if (meter) {
        meter_save(meter);
        uv_timer_stop(&meter->timer);
        while (meter->reclaiming) { /* A worker is to say that it is done. */
            (void)uv_run(meter->config.loop, UV_RUN_ONCE);
        }
        uv_close((uv_handle_t *)&meter->timer, on_closed);
    }
}
