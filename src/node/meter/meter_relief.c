/* meter_relief.c - the stages of relief, carried out. */
#include "node/meter/meter_impl.h"

#include "base/log.h"

#define AGAIN_NS (10 * NS_PER_S)
#define RECLAIM_PART 16 /* Of a guest's memory, each time. */
#define BALLOON_PART \
    4 /* So much of it is asked back; the guest takes it when it needs it. */

struct reclaim {
    uv_work_t work;
    struct meter *meter;
    struct cgroup_host groups;
    size_t count;
    struct {
        char id[48];
        int64_t bytes;
    } items[];
};

static void
work(uv_work_t *w)
{
    struct reclaim *r = CONTAINER_OF(w, struct reclaim, work);
    for (size_t i = 0; i < r->count; i++) {
        (void)cgroup_reclaim(&r->groups, r->items[i].id, r->items[i].bytes);
    }
}

static void
after_work(uv_work_t *w, int status UNUSED)
{
    struct reclaim *r = CONTAINER_OF(w, struct reclaim, work);
    r->meter->reclaiming = false;
    free(r);
}

static void
reclaim(struct meter *meter)
{
    size_t most = map_count(meter->machines);
    struct reclaim *r = xcalloc(1, sizeof *r + most * sizeof r->items[0]);
    const char *id;
    void *value;
    r->meter = meter;
    r->groups = *machines_cgroups(meter->config.machines);
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        const struct metered *m = value;
        if (m->round == meter->round) {
            snprintf(r->items[r->count].id, sizeof r->items[0].id, "%s", id);
            r->items[r->count++].bytes = m->memory_bytes / RECLAIM_PART;
        }
    }
    meter->reclaiming = true;
    if (uv_queue_work(meter->config.loop, &r->work, work, after_work) < 0) {
        after_work(&r->work, 0);
    }
}

/* Promised memory can be had at any time: a guest that needs it takes it back by itself
 * (deflate-on-oom), and all get it back when the host is quiet. */
static void
balloon(struct meter *meter, bool shrink)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        struct metered *m = value;
        int64_t back = shrink ? m->memory_bytes / BALLOON_PART : 0;
        if (m->round == meter->round && m->balloon_bytes != back) {
            machines_balloon(meter->config.machines, id, m->memory_bytes - back);
            m->balloon_bytes = back;
        }
    }
}

/* Also what a last agent did, which ended before the host was quiet. */
static void
let_go(struct meter *meter)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(meter->machines, &it, &id, &value);) {
        cgroup_reclaim_end(machines_cgroups(meter->config.machines), id);
    }
    meter->let_go = true;
}

void
meter_relieve(struct meter *meter)
{
    enum relief_stage stage = relief_step(&meter->relief, &meter->host, meter->now_ns);
    bool again = meter->now_ns - meter->relieved_ns >= AGAIN_NS;
    if (stage == RELIEF_NONE && !meter->let_go && !meter->reclaiming) {
        let_go(meter);
    }
    if (stage != meter->relieved) {
        log_warn("memory: relief: %s", relief_name(stage));
    } else if (stage == RELIEF_NONE || !again) {
        return;
    }
    meter->relieved = stage;
    meter->relieved_ns = meter->now_ns;
    if (stage >= RELIEF_RECLAIM && !meter->reclaiming) {
        meter->let_go = false;
        reclaim(meter);
    }
    balloon(meter, stage >= RELIEF_BALLOON);
}
