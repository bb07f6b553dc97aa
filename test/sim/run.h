/* run.h - one run: a cloud, its hosts, a tenant, faults, and rest; all from one seed.
 *
 * Owner:    a process runs one seed (main.c forks): what was killed is never freed.
 * Threads:  one. */
#pragma once
#include "cloud.h"
#include "host.h"

struct run_config {
    uint64_t seed;
    unsigned hosts;    /* 0: drawn. */
    unsigned controls; /* Processes of the control plane; 0: drawn. */
    int64_t chaos_ns;  /* How long there are faults; 0: drawn. */
    bool no_faults;
    const char *dir; /* An empty folder. */
};

struct run {
    struct run_config config;
    struct cloud cloud;
    VEC(struct host *) hosts;
    unsigned numbers; /* Of hosts, so far. */
    int64_t chaos_until_ns;
    const char *shared_dir; /* A pool that most hosts have; NULL: none. */
    bool revoked;           /* Some host was. */
};

struct run_result {
    struct verdict verdict;
    unsigned launched, faults;
    uint64_t events, fingerprint;
    int64_t virtual_ns;
};

void run_seed(const struct run_config *config, struct run_result *out);

/* A host that has no token yet gets one, and joins. */
void run_join(struct host *host);

/* faults.c: from now until 'run->chaos_until_ns'; those that last end by themselves. */
void faults_begin(struct run *run);
/* Nothing that was planned happens any more. */
void faults_end(void);
unsigned faults_count(void);
/* final.c: writes what there is at rest into the history. */
void final_write(struct run *run);
