/* credit.h - CPU credits of burstable machines: earned by the second, spent by use.
 *
 * Purpose:  AWS's rules for t families, as a pure function. One credit is one processor's
 *           full minute; here it is counted in processor-nanoseconds. A machine earns its
 *           baseline all the time, and keeps at most what it earns in a day. Out of
 *           credits, a 'standard' one is held to its baseline; an 'unlimited' one goes on
 *           and owes: at most a day's worth is paid back by earning, the rest is charged.
 * Place:    node/meter; reads no clock.
 * Threads:  any. */
#pragma once
#include "base/base.h"

#define CREDIT_NS (60 * NS_PER_S)
#define CREDIT_DAY_NS (24 * 3600 * NS_PER_S)

struct credit_plan {
    int64_t vcpus;
    int64_t baseline_permille; /* Of each vCPU; 0: not burstable. */
    bool unlimited;
};

/* In processor-nanoseconds. */
struct credit {
    int64_t balance_ns;
    int64_t surplus_ns; /* Spent ahead, to be earned back. */
    int64_t charged_ns; /* Spent ahead for good, in all. */
    bool held;          /* To its baseline. */
};

/* What the machine earns in 'elapsed_ns'. */
int64_t credit_earned_ns(const struct credit_plan *plan, int64_t elapsed_ns);
/* The machine ran for 'used_ns' (all its vCPUs together) in 'elapsed_ns'. */
void credit_step(const struct credit_plan *plan, struct credit *credit, int64_t used_ns,
                 int64_t elapsed_ns);
/* The machine comes from another host with what it had there, in thousandths of a credit. */
void credit_bring(const struct credit_plan *plan, struct credit *credit,
                  int64_t balance_milli, int64_t surplus_milli, int64_t charged_milli);
/* What the control plane says that it had there, and what was taken of that last. */
struct credit_brought {
    char as
        [80]; /* Told so, it is taken once, and never again; empty: whenever it differs. */
    int64_t balance_milli, surplus_milli, charged_milli;
};
/* Whether 'said' is to be brought; it is then '*last'. */
bool credit_is_news(struct credit_brought *last, const struct credit_brought *said);
/* How much of one processor it may use, in percent; 0: as much as it can get. */
int64_t credit_limit_percent(const struct credit_plan *plan,
                             const struct credit *credit);
