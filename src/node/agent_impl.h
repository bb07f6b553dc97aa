/* agent_impl.h - what the agent's files share. Not for others. */
#pragma once
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "link/client.h"
#include "node/agent.h"
#include "node/disk/blob.h"
#include "node/disk/disk.h"
#include "node/disk/job.h"
#include "node/endpoints.h"
#include "node/fence/fence_client.h"
#include "node/ksm.h"
#include "node/machine/machine.h"
#include "node/measure.h"
#include "node/metadata/metadata.h"
#include "node/meter/meter.h"
#include "node/migrate/migration.h"
#include "node/net/net.h"
#include "node/wants.h"

/* What the node knows of itself: node.json and the PEM files beside it. */
struct identity {
    char node_id[64], cloud_id[80];
    char control[4200]; /* "HOST:PORT,...": where it joined; "": the unix socket. */
    char underlay[16];  /* "": none. */
};

#define REPORT_KEY_MAX (WANT_ID_MAX + 12) /* "KIND/ID" */

/* How a network, subnet, port or metadata record stands with net/ and metadata/. */
struct net_item {
    bool ok;
    int64_t revision; /* Of the record that was carried out; 0: none. */
    int64_t retry_at_ns, pause_ns;
    char message[200];
};

/* What lets machines run that are started elsewhere when this node is lost. */
struct lease {
    struct fence_client *fence; /* NULL: nothing here has needed one. */
    uv_timer_t timer;
    int64_t serial, asked_ns; /* Of the last ask. */
    int64_t ask_at_ns;
    int64_t until_ns; /* As it was granted last; 0: it is over, or not known. */
    enum fence_state state; /* As it was noted last. */
    bool given_up;          /* We ended what was in it. */
};

struct agent {
    struct agent_config config;
    char *state_dir, *dir; /* STATE, STATE/node */
    int lock_fd;
    struct identity identity;
    char boot_id[40], hostname[256];
    struct accel accel;
    struct measure_power power;
    const struct offer *offer; /* NULL: not told yet. */
    struct wants *wants;
    struct link_client *link;
    bool snapshot;     /* One is under way. */
    bool modules_open; /* The cloud's id is known. */
    bool complete;     /* Nothing wanted is missing here: orphans are orphans. */
    bool pruned;       /* Kernel networks nobody wants were removed. */
    bool closing;
    struct machines *machines;
    struct disks *disks;
    struct blobs *blobs;
    struct jobs *jobs;
    struct migrations *migrations;
    struct net *net;
    struct endpoints *endpoints;
    struct lease lease;
    struct metadata *metadata;
    struct meter *meter;
    struct ksm *ksm;
    struct map *net_items[LINK_KINDS]; /* By id; LINK_NETWORK.. LINK_METADATA. */
    int64_t net_check_ns;              /* When the kernel's rules are read back next. */
    struct map *net_gone[LINK_KINDS];  /* Ids no longer named by a snapshot. */
    struct map *reported;              /* "KIND/ID" to what was said last. */
    bool unsaid;                       /* An absence waits for its want to be kept. */
    uv_timer_t pass_timer, node_timer;
    int closing_handles;
};

/* agent.c */
bool agent_open_modules(struct agent *a,
                        struct err *err); /* Once the cloud is known. */
void agent_apply(struct agent *a, const struct want *want);
void agent_forget(struct agent *a, const struct want *want);
void agent_completed(struct agent *a);
void agent_wake(void *agent); /* A pass, soon. */
bool agent_lock(struct agent *a, struct err *err);

/* agent_identity.c */
bool identity_load(struct agent *a, struct err *err);
bool identity_save(struct agent *a, struct err *err);
bool identity_read_pem(const struct agent *a, const char *name, struct arena *arena,
                       const char **out, struct err *err);
bool identity_write_pem(const struct agent *a, const char *name, const char *pem,
                        struct err *err);

/* agent_underlay.c: where other hosts reach this one. */
bool agent_underlay_open(struct agent *a, struct err *err);
/* Whether a record's address is the one that the operator named. */
bool agent_underlay_allows(const struct agent *a, const struct link_underlay *want,
                           struct err *err);

/* agent_link.c */
bool agent_connect(struct agent *a, struct err *err);

/* agent_host.c: what the modules ask of one another. */
struct machine_host agent_machine_host(struct agent *a);
struct disk_host agent_disk_host(struct agent *a);
struct blob_host agent_blob_host(struct agent *a);
struct job_host agent_job_host(struct agent *a);

/* agent_link.c: a channel to the control plane, as endpoints.h asks for it. */
struct link_channel *agent_open_channel(void *agent,
                                        const struct link_channel_open *open,
                                        const struct link_channel_bind *bind);

/* agent_migrate.c */
struct migration_host agent_migration_host(struct agent *a);

/* agent_net.c */
void agent_net_pass(struct agent *a, int64_t now_ns, int64_t *wake_ns);
/* Every network, subnet and port that is wanted has been made. */
bool agent_net_settled(const struct agent *a);
bool agent_port_ready(const struct agent *a, const char *port_id);
void agent_net_seen(struct agent *a, struct arena *arena);

/* agent_lease.c */
void lease_open(struct agent *a);
void lease_close(struct agent *a, uv_close_cb closed);
char *lease_socket(const struct agent *a); /* malloc'ed. */
void lease_look(struct agent *a);          /* Asks, if it is time. */
void lease_changed(void *agent);           /* The fence's state did. */
void lease_connected(struct agent *a);     /* Nothing wanted is missing any more. */
void lease_answer(void *agent, const struct link_lease *answer);
void lease_tell_net(struct agent *a); /* What was wanted has been carried out. */
bool lease_lives(const struct agent *a);
MUST_CHECK bool lease_enter(const struct agent *a, int *out_fd, struct err *err);

/* agent_report.c */
void agent_report(struct agent *a, enum link_kind kind, const char *id, bool absent,
                  const void *record);
void agent_report_all(struct agent *a);
void agent_report_migrations(void *agent); /* These alone, at once. */
void agent_report_node(struct agent *a);
void agent_report_meter(void *agent, const struct link_meter *meter);
void agent_event(void *agent, const char *kind, const char *object, const char *level,
                 const char *message);
