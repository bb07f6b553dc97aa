/* history.h - what happened in a run, as far as promises were made about it.
 *
 * Purpose:  hosts, tenants and the end of a run write moments; check.c reads them, and
 *           nothing else. So a run is judged by what the world saw, not by what the code
 *           under test believes.
 * Owner:    the run; one list.
 * Threads:  one. */
#pragma once
#include "base/map.h"

enum moment_kind {
    /* While it runs. 'host' is the host, 'id' the instance. */
    MOMENT_HOST,        /* Has room for 'vcpus' and 'memory_bytes' in all. */
    MOMENT_GUEST_START, /* An emulator began, which takes 'vcpus' and 'memory_bytes'. */
    MOMENT_GUEST_END,
    MOMENT_ASKED, /* A tenant asks that 'id' stops, ends or reboots. */
    MOMENT_KILLED, /* Its agent ended an emulator, as 'state' says, without which what 'id'
                     * remembers is gone; the other half of that was on host 'far'. */
    MOMENT_UNLIKE, /* It came to another processor or machine, 'other', than 'state'. */
    MOMENT_TAP,    /* 'id' (an instance) opened port 'other', with 'place'. */
    MOMENT_DISK,   /* On disk 'id' a guest found 'other', and left 'state'. */
    MOMENT_REVOKED, /* The host belongs to the cloud no more: nothing is promised of it. */
    MOMENT_LAUNCHED, /* A tenant was told: 'id' came of token 'other', has 'place'. */
    MOMENT_UP,       /* A tenant was told that 'id' runs. */
    MOMENT_GONE,     /* A tenant was told that 'id' is terminated. */
    MOMENT_MISSING,  /* A tenant asked for all, and was not told of 'id'. */
    /* When it has come to rest. 'host' is where, if anywhere. */
    MOMENT_END_INSTANCE, /* A row: 'id', token 'other', 'place', 'state' wanted. */
    MOMENT_END_GUEST,    /* An emulator runs 'id'. */
    MOMENT_END_HERE,     /* A host has 'kind_of' (disk, port, ...) 'id'... */
    MOMENT_END_WANT,     /* ...and this is wanted of it; 'state' "deleted": it was. */
    MOMENT_END_OWNED,    /* The control plane has a row for disk or port 'id'. */
    MOMENT_END_CLAIM,    /* Promised on the host, by placement's own count. */
    MOMENT_END_TAKEN,    /* What instance or disk 'id' takes of that. */
    MOMENT_END_ADDRESS,  /* 'place' is taken... */
    MOMENT_END_HAS,      /* ...and interface 'id' has it. */
    MOMENT_END_DRAINS,   /* The host is to be empty... */
    MOMENT_END_EVENT,    /* ...and instance 'id' is told that it will be moved. */
    MOMENT_END_NAT,      /* NAT gateway 'id' is at home on the host, at 'place'... */
    MOMENT_END_SENDS,    /* ...and the host sends to it at 'place'. */
};

struct moment {
    enum moment_kind kind;
    int64_t at_ns;
    unsigned host, far; /* From 1; 0: none. */
    const char *id, *other;
    const char *place;   /* An address: "SUBNET 10.0.0.5". */
    const char *kind_of; /* "machine", "disk", "port", ... */
    const char *state;
    int64_t vcpus, memory_bytes, disk_bytes;
};

struct history {
    VEC(struct moment) moments;
    const char *seed; /* For the report. */
};

/* Adds a copy, texts too; 'at_ns' is set. */
void history_add(const struct moment *moment);
#define HISTORY(...) history_add(&(struct moment){__VA_ARGS__})
struct history *history_get(void);

/* ---- check.c: pure --------------------------------------------------------------- */

struct verdict {
    unsigned broken; /* Promises. */
    unsigned moved;  /* Instances that started on another host than before. */
    char first[300]; /* The first of them, for people. */
};
void history_check(const struct history *history, struct verdict *out);
