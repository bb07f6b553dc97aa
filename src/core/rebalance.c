/* rebalance.c - see rebalance.h. */
#include "core/rebalance.h"

static double
part(int64_t claimed, int64_t ceiling)
{
    return ceiling > 0 ? (double)claimed / (double)ceiling : claimed > 0 ? 1e9 : 0;
}

double
rebalance_load(const struct rebalance_host *host)
{
    return MAX(part(host->claimed.vcpus, host->ceiling.vcpus),
               part(host->claimed.memory_bytes, host->ceiling.memory_bytes));
}

static void
add(struct rebalance_host *host, const struct claim *claim, int sign)
{
    host->claimed.vcpus += sign * claim->vcpus;
    host->claimed.memory_bytes += sign * claim->memory_bytes;
    host->claimed.machines += sign;
}

/* The fuller of the two after the machine went from one to the other. */
static double
after(struct rebalance_host from, struct rebalance_host to, const struct claim *claim)
{
    add(&from, claim, -1);
    add(&to, claim, 1);
    return MAX(rebalance_load(&from), rebalance_load(&to));
}

static bool
has_moved(const struct rebalance_move *moves, size_t count, size_t machine)
{
    for (size_t i = 0; i < count; i++) {
        if (moves[i].machine == machine) {
            return true;
        }
    }
    return false;
}

/* The emptiest host that may take what leaves 'from'; 'count' when there is none. */
static size_t
emptiest(const struct rebalance_host *hosts, size_t count, size_t from)
{
    size_t best = count;
    for (size_t h = 0; h < count; h++) {
        bool may =
            h != from && hosts[h].open && str_eq(hosts[h].kind, hosts[from].kind);
        if (may && (best == count ||
                    rebalance_load(&hosts[h]) < rebalance_load(&hosts[best]))) {
            best = h;
        }
    }
    return best;
}

/* The best move from one host; false when none is worth it. */
static bool
best_move(const struct rebalance_host *hosts, size_t host_count,
          const struct rebalance_machine *machines, size_t machine_count, size_t from,
          const struct rebalance_move *moves, size_t count, struct rebalance_move *out)
{
    double best = rebalance_load(&hosts[from]) - REBALANCE_GAIN;
    size_t to = emptiest(hosts, host_count, from);
    bool found = false;
    for (size_t m = 0; to < host_count && m < machine_count; m++) {
        if (machines[m].host != from || has_moved(moves, count, m)) {
            continue;
        }
        double then = after(hosts[from], hosts[to], &machines[m].claim);
        if (then < best) {
            best = then;
            *out = (struct rebalance_move){m, to};
            found = true;
        }
    }
    return found;
}

/* The fullest host from which some move is worth it. */
static bool
next_move(const struct rebalance_host *hosts, size_t host_count,
          const struct rebalance_machine *machines, size_t machine_count,
          const struct rebalance_move *moves, size_t count, struct rebalance_move *out)
{
    double below = 1e18;
    for (size_t round = 0; round < host_count; round++) {
        size_t from = host_count;
        for (size_t h = 0; h < host_count; h++) {
            double load = rebalance_load(&hosts[h]);
            if (load < below &&
                (from == host_count || load > rebalance_load(&hosts[from]))) {
                from = h;
            }
        }
        if (from == host_count) {
            return false;
        }
        if (best_move(hosts, host_count, machines, machine_count, from, moves, count,
                      out)) {
            return true;
        }
        below = rebalance_load(&hosts[from]);
    }
    return false;
}

size_t
rebalance_plan(struct rebalance_host *hosts, size_t host_count,
               struct rebalance_machine *machines, size_t machine_count, size_t max,
               struct rebalance_move *out)
{
    size_t count = 0;
    while (count < max && next_move(hosts, host_count, machines, machine_count, out,
                                    count, &out[count])) {
        const struct rebalance_move *move = &out[count++];
        struct rebalance_machine *machine = &machines[move->machine];
        add(&hosts[machine->host], &machine->claim, -1);
        add(&hosts[move->to], &machine->claim, 1);
        machine->host = move->to;
    }
    return count;
}
