/* ready.c - see ready.h. */
#include "node/meter/ready.h"

void
ready_add(struct ready_window *w, int64_t vcpus, int64_t waited_ns,
          int64_t throttled_ns, int64_t elapsed_ns)
{
    int64_t whole = vcpus * (elapsed_ns / 1000);
    if (whole <= 0) {
        return;
    }
    int64_t permille = MAX(0, waited_ns - throttled_ns) / whole;
    w->samples[w->next] = (uint16_t)MIN(permille, 1000);
    w->next = (w->next + 1) % READY_SAMPLES;
    w->count = MIN(w->count + 1, READY_SAMPLES);
}

static int
by_value(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

int64_t
ready_p95(const struct ready_window *w)
{
    uint16_t sorted[READY_SAMPLES];
    if (w->count < READY_ENOUGH) {
        return 0;
    }
    memcpy(sorted, w->samples, w->count * sizeof *sorted);
    qsort(sorted, w->count, sizeof *sorted, by_value);
    return sorted[(w->count * 95 + 99) / 100 - 1];
}

bool
ready_is_bad(int64_t worst_permille, int64_t busy_vcpus_milli, int64_t promised_vcpus)
{
    return worst_permille > READY_LIMIT_PERMILLE &&
           busy_vcpus_milli <= promised_vcpus * READY_IDLE_PERMILLE;
}
