/* credit.c - see credit.h. */
#include "node/meter/credit.h"

#define ELAPSED_MAX_NS CREDIT_DAY_NS
#define HOLD_UNTIL_NS \
    (5 * NS_PER_S) /* Of earning: else it would be let go each second. */

int64_t
credit_earned_ns(const struct credit_plan *plan, int64_t elapsed_ns)
{
    int64_t elapsed = MAX(0, MIN(elapsed_ns, ELAPSED_MAX_NS));
    return elapsed / 1000 * plan->baseline_permille * plan->vcpus;
}

static int64_t
take(int64_t *from, int64_t at_most)
{
    int64_t taken = MIN(*from, at_most);
    *from -= taken;
    return taken;
}

void
credit_step(const struct credit_plan *plan, struct credit *c, int64_t used_ns,
            int64_t elapsed_ns)
{
    int64_t most = credit_earned_ns(plan, CREDIT_DAY_NS);
    int64_t gain = credit_earned_ns(plan, elapsed_ns) - MAX(0, used_ns);
    if (gain >= 0) {
        gain -= take(&c->surplus_ns, gain);
        c->balance_ns = MIN(most, c->balance_ns + gain);
    } else {
        int64_t owed = -gain - take(&c->balance_ns, -gain);
        if (plan->unlimited) {
            c->surplus_ns += owed;
            c->charged_ns += MAX(0, c->surplus_ns - most);
            c->surplus_ns = MIN(most, c->surplus_ns);
        }
    }
    int64_t enough = c->held ? credit_earned_ns(plan, HOLD_UNTIL_NS) : 1;
    c->held = !plan->unlimited && plan->baseline_permille > 0 && c->balance_ns < enough;
}

static int64_t
from_milli(int64_t milli, int64_t most_ns)
{
    int64_t most_milli = most_ns / (CREDIT_NS / 1000);
    return MAX(0, MIN(milli, most_milli)) * (CREDIT_NS / 1000);
}

void
credit_bring(const struct credit_plan *plan, struct credit *c, int64_t balance_milli,
             int64_t surplus_milli, int64_t charged_milli)
{
    int64_t most = credit_earned_ns(plan, CREDIT_DAY_NS);
    c->balance_ns = from_milli(balance_milli, most);
    c->surplus_ns = from_milli(surplus_milli, most);
    c->charged_ns = from_milli(charged_milli, INT64_MAX);
    credit_step(plan, c, 0, 0); /* Is it to be held from the first? */
}

bool
credit_is_news(struct credit_brought *last, const struct credit_brought *said)
{
    bool same = last->balance_milli == said->balance_milli &&
                last->surplus_milli == said->surplus_milli &&
                last->charged_milli == said->charged_milli;
    if (said->as[0] ? str_eq(last->as, said->as) : same) {
        return false;
    }
    struct credit_brought next = *said;
    if (!said->as[0]) { /* What was taken by name stays so. */
        memcpy(next.as, last->as, sizeof next.as);
    }
    *last = next;
    return true;
}

int64_t
credit_limit_percent(const struct credit_plan *plan, const struct credit *credit)
{
    return credit->held ? MAX(1, plan->vcpus * plan->baseline_permille / 10) : 0;
}
