/* meter_impl.h - what the meter's files share. Not for others. */
#pragma once
#include "base/map.h"
#include "node/meter/credit.h"
#include "node/meter/meter.h"
#include "node/meter/ready.h"
#include "node/meter/sample.h"

/* One machine; kept a while after it stopped, for its credits. */
struct metered {
    struct credit_plan plan;
    struct credit credit;
    struct ready_window ready;
    struct vcpu_threads threads;
    struct credit_brought brought; /* Last, of one that came from another host. */
    int64_t started_at_ns;         /* Of the process that 'last' is about. */
    bool known;                    /* 'last...' are: of that process. */
    struct vcpu_times last;
    int64_t last_throttled_ns, last_ns;
    int64_t minute_run_ns, minute_ns; /* Since the last report. */
    bool limited;                     /* 'percent' is what its cgroup says. */
    int64_t percent;
    int64_t memory_bytes, balloon_bytes, dirty_bps;
    int64_t seen_ns;
    uint64_t round; /* Of the meter's, when it ran last. */
};

struct meter {
    struct meter_config config;
    char *path, boot_id[40];
    uv_timer_t timer;
    struct map *machines; /* By id. */
    uint64_t round;
    int64_t now_ns, reported_ns;
    enum { DIRTY_IDLE, DIRTY_BEGUN, DIRTY_ASKED } dirty; /* Since the last report. */
    struct relief_facts host;
    struct relief relief;
    enum relief_stage relieved; /* The stage that was carried out last... */
    int64_t relieved_ns;        /* ...and when. */
    bool reclaiming;
    bool let_go;  /* No guest is short of memory for the host's sake. */
    bool unsaved; /* A machine has started. */
    int64_t promised_vcpus;
    char unfit[96];
    bool crowded;
};

/* meter_file.c: credits on disk. */
void meter_load(struct meter *meter);
void meter_save(struct meter *meter);
/* meter_relief.c: carries the stage out that the host is in. */
void meter_relieve(struct meter *meter);
