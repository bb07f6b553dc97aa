/* placement.h - whether one host may take one machine, and why not.
 *
 * Purpose:  what placement knows of a host and of a machine that needs a place, and the
 *           one rule that joins them: placement_why(). The index (placement_index.h) only
 *           finds, among many hosts, good ones to put the question to.
 * Place:    core/; pure: pool.h brings the rows and writes nothing either.
 * Memory:   texts are borrowed.
 * Threads:  any. */
#pragma once
#include "base/arena.h"
#include "core/config.h"
#include "core/instance_rows.h"

/* What a processor means on a host. */
enum placement_class {                /* As overhead_by_kind() counts. */
                       PLACEMENT_TCG, /* Emulated: a share of a processor, no promise of speed. */
                       PLACEMENT_KVM,
                       PLACEMENT_CLASSES,
};

/* Why a host does not take a machine; the first that holds, in this order. */
enum placement_no {
    PLACEMENT_FITS,
    PLACEMENT_AWAY, /* Its stream is closed, or it never spoke. */
    PLACEMENT_REVOKED,
    PLACEMENT_QUARANTINED, /* It changed, and nobody has accepted that. */
    PLACEMENT_CORDONED,
    PLACEMENT_BELOW, /* It cannot give what its zone's guests count on (baseline.h). */
    PLACEMENT_UNFIT, /* It says itself that it takes nothing: pressure. */
    PLACEMENT_POOL_FULL, /* Not a byte left where disks lie. */
    PLACEMENT_OTHER,     /* Not one of those that were asked for. */
    PLACEMENT_OWNED,     /* Another account has it alone, or it is a dedicated host. */
    PLACEMENT_SHARED,    /* Other accounts' machines are on it. */
    PLACEMENT_FEATURE,   /* Lacks hardware, or a label, that the type requires. */
    PLACEMENT_SLOW,      /* Its processors are slower than the type promises. */
    PLACEMENT_GROUP,     /* The placement group keeps it away from there. */
    PLACEMENT_SEGMENT,   /* Not in the group's part of the network. */
    PLACEMENT_REACH,     /* Machines of the same network would not reach it. */
    PLACEMENT_LENT,      /* No interface there is lent to the account, or free. */
    PLACEMENT_VCPUS,
    PLACEMENT_MEMORY,
    PLACEMENT_NOS,
};

/* "lack memory", after a number of hosts. */
const char *placement_no_text(enum placement_no no);

/* Texts, as rows and configurations hold them. */
struct placement_words {
    const char *const *items;
    size_t count;
};
bool placement_words_have(struct placement_words words, const char *word);
/* Adds 'word' (borrowed) to a list that grows in the arena. */
void placement_words_add(struct arena *arena, struct placement_words *words,
                         const char *word);

/* Promises for each thing that is there, of one class; 0: 1. */
struct placement_ratio {
    double cpu, memory;
};

struct placement_rules {
    struct placement_ratio of[PLACEMENT_CLASSES];
    int64_t host_reserve_bytes; /* Not promised: the host's own. */
};
struct placement_rules placement_rules_of(const struct cloud_config *config);

/* One host's rows. Any may be NULL but 'node'. */
struct placement_rows {
    const struct row_node *node;
    const struct row_node_seen *seen;
    const struct row_node_claim *claim;
};

/* One host, as placement sees it. */
struct placement_host {
    const char *id, *region, *zone;
    const char *rack;    /* What fails with it; empty: nothing else. */
    const char *segment; /* Part of the network in which all reach each other well. */
    const char *owner;   /* Account that has it alone; empty: all share it. */
    const char *single;  /* Account that the operator marked it for; empty: none. */
    const char *host_id; /* Allocated as a dedicated host, h-...; empty: no. */
    bool joined;         /* It has an underlay, by which hosts meet. */
    struct placement_words features; /* Hardware... */
    struct placement_words labels;   /* ...and the operator's words. */
    enum placement_class class;
    int64_t speed; /* Of one processor; 1000: the reference. 0: not measured. */
    int64_t cost;  /* What the operator says it costs; cheap ones fill first. */
    int64_t
        milliwatts; /* The most that one processor was seen to draw; 0: not known. */
    int64_t numa_vcpus, numa_bytes; /* Of its largest NUMA node; 0: it has but one. */
    bool strained; /* It has trouble with what it has already: others come first. */
    int64_t processors; /* Promises up to here share no processor. */
    struct claim ceiling, claimed;
    enum placement_no
        closed; /* Takes nothing, for this reason; PLACEMENT_FITS: open. */
};
struct placement_host placement_host_of(const struct placement_rows *rows,
                                        const struct placement_rules *rules);

/* What a host may promise in all, open or not. vCPUs: the processors it measured, times
 * the ratio of its class; memory likewise, but no more than there is with swap, less what
 * the host needs itself; both within the operator's ceiling. */
struct claim placement_ceiling(const struct placement_rows *rows,
                               const struct placement_rules *rules);

enum placement_tenancy {
    PLACEMENT_DEFAULT,   /* Beside anybody. */
    PLACEMENT_DEDICATED, /* On hosts that hold nothing but this account's machines. */
    PLACEMENT_HOST,      /* On a dedicated host of this account's. */
    PLACEMENT_EMPTY, /* A host that holds nothing and is nobody's: to be allocated. */
};

/* Where the other machines of a network are. */
struct placement_reach {
    const char *host; /* The first host that has any; NULL: none has. */
    bool joined;      /* That one has an underlay. */
    bool many;        /* It is not the only one. */
};

/* Hosts with interfaces for cards of an account's. */
struct placement_room {
    const char *host;
    int64_t cards; /* That find a place there yet. */
};
struct placement_lent {
    int64_t cards; /* That the machine needs; 0: nothing of this counts. */
    struct placement_room *items;
    size_t count;
};

/* One machine that needs a place. */
struct placement_ask {
    const char *region, *zone;     /* 'zone' NULL: any zone of the region. */
    const char *account;           /* NULL: the cloud's own. */
    struct placement_words among;  /* Node ids; none: all. */
    struct placement_words prefer; /* Node ids to be tried first. */
    struct placement_words avoid;  /* Node ids and racks. */
    const char *segment;           /* NULL: any. */
    bool in_network;               /* Of which 'reach' tells where it is. */
    struct placement_reach reach;
    struct placement_lent lent;
    enum placement_tenancy tenancy;
    const char *host_id; /* PLACEMENT_HOST: that one; NULL: any of 'among'. */
    struct placement_words features; /* Required. */
    int64_t speed;                   /* Promised; counts where processors are real. */
    struct claim claim;              /* Of the guest itself. */
    /* What its emulator takes beside that, by class. */
    int64_t overhead_bytes[PLACEMENT_CLASSES];
};

/* What the machine takes of a host of 'class', its emulator included. */
struct claim placement_claim(enum placement_class class,
                             const struct placement_ask *ask);
/* Whether it would have to lie on several NUMA nodes of the host. */
bool placement_spans(const struct placement_host *host,
                     const struct placement_ask *ask);
/* Whether 'host' takes it: the only place that says so. */
enum placement_no placement_why(const struct placement_host *host,
                                const struct placement_ask *ask);
