/* net_pair.h - two ends of a path, and what a packet pays on it: UDP echo and TCP throughput.
 *
 * Purpose:  the measuring half of bench-net-path. Paths that are to be compared are measured
 *           in turns of a few milliseconds, so that a noisy machine disturbs all alike, and
 *           compared turn by turn: what is reported is the median of those ratios. */
#pragma once
#include "base/base.h"
#include "base/map.h"

#define PAIR_MTU 1500

struct side {
    char name[48]; /* Of its namespace. */
    int ns_fd;
    int fd;
    uint32_t ip;
    int type;
    bool listens;
};

struct pair {
    const char *what;
    struct side a, b;
    VEC(int64_t) trips;   /* Of this turn. */
    VEC(double) turns_us; /* The median trip of each. */
    VEC(double) mbits;    /* Throughput of each turn. */
};

/* Ends the program with 'err' where it is not ok. */
void must(bool ok, const struct err *err);
/* Two namespaces, 10.0.1.10 and .11, still without links. */
void pair_make(struct pair *p, const char *what, const char *name, struct err *err);
void pair_remove(struct pair *p, struct err *err);
/* Gives a side's eth0 its address and brings it up. */
void side_up(struct side *s, struct err *err);
/* All of them, in turns. */
void pairs_measure(struct pair *pairs, size_t count, int rounds, struct err *err);
double pair_echo_us(const struct pair *p);
double pair_mbit(const struct pair *p);
/* 'p' against 'bare', turn by turn. */
double pair_latency_ratio(const struct pair *p, const struct pair *bare);
double pair_throughput_ratio(const struct pair *p, const struct pair *bare);
