/* placement_explain.c - why no host takes a machine, in an operator's words. See
 * placement_index.h. */
#include "core/placement_parts.h"

/* The hosts of one class in one zone. */
struct tally {
    const char *zone;
    enum placement_class class;
    size_t hosts, count[PLACEMENT_NOS];
    size_t strained;              /* Of those that would take it. */
    int64_t gap_vcpus, gap_bytes; /* Of the host that lacks least. */
};

typedef VEC(struct tally) tally_list;

static struct tally *
tally_of(tally_list *list, const struct placement_host *host)
{
    for (size_t i = 0; i < list->count; i++) {
        struct tally *t = &list->items[i];
        if (t->class == host->class && str_eq(t->zone, host->zone)) {
            return t;
        }
    }
    const struct tally fresh = {.zone = host->zone,
                                .class = host->class,
                                .gap_vcpus = INT64_MAX,
                                .gap_bytes = INT64_MAX};
    VEC_PUSH(list, fresh);
    return &list->items[list->count - 1];
}

static void
tally_add(struct tally *t, const struct placement_host *host,
          const struct placement_ask *ask)
{
    enum placement_no no = placement_why(host, ask);
    struct claim want = placement_claim(host->class, ask);
    t->hosts++;
    t->count[no]++;
    t->strained += no == PLACEMENT_FITS && host->strained;
    if (no == PLACEMENT_VCPUS) {
        int64_t gap = host->claimed.vcpus + want.vcpus - host->ceiling.vcpus;
        t->gap_vcpus = MIN(t->gap_vcpus, gap);
    } else if (no == PLACEMENT_MEMORY) {
        int64_t gap =
            host->claimed.memory_bytes + want.memory_bytes - host->ceiling.memory_bytes;
        t->gap_bytes = MIN(t->gap_bytes, gap);
    }
}

static void
tally_text(const struct tally *t, struct buf *out)
{
    const char *comma = ":";
    buf_printf(out, "%s: %zu %s host%s", t->zone ? t->zone : "?", t->hosts,
               t->class == PLACEMENT_KVM ? "kvm" : "emulated",
               t->hosts == 1 ? "" : "s");
    for (int no = 0; no < PLACEMENT_NOS; no++) {
        if (t->count[no] == 0) {
            continue;
        }
        buf_printf(out, "%s %zu %s", comma, t->count[no],
                   placement_no_text((enum placement_no)no));
        if (no == PLACEMENT_VCPUS) {
            buf_printf(out, " (the nearest by %" PRId64 ")", t->gap_vcpus);
        } else if (no == PLACEMENT_MEMORY) {
            buf_printf(out, " (the nearest by %.1f GiB)",
                       (double)t->gap_bytes / (double)GIB);
        }
        if (no == PLACEMENT_FITS && t->strained > 0) {
            buf_printf(out, " (%zu of them strained: the last to be asked)",
                       t->strained);
        }
        comma = ",";
    }
}

static int
tally_compare(const void *a, const void *b)
{
    const struct tally *x = a, *y = b;
    int zone = strcmp(x->zone ? x->zone : "", y->zone ? y->zone : "");
    return zone ? zone : (int)y->class - (int)x->class;
}

void
placement_index_explain(const struct placement_index *index,
                        const struct placement_ask *ask, struct buf *out)
{
    tally_list list = {0};
    for (size_t i = 0; i < index->entries.count; i++) {
        const struct placement_host *host = &index->entries.items[i]->host;
        bool revoked = host->closed == PLACEMENT_REVOKED;
        if (!revoked && str_eq(host->region, ask->region) &&
            (!ask->zone || str_eq(ask->zone, host->zone))) {
            tally_add(tally_of(&list, host), host, ask);
        }
    }
    if (list.count > 0) {
        qsort(list.items, list.count, sizeof *list.items, tally_compare);
    } else {
        buf_printf(out, "%s has no hosts", ask->zone ? ask->zone : ask->region);
    }
    for (size_t i = 0; i < list.count; i++) {
        buf_puts(out, i ? "; " : "");
        tally_text(&list.items[i], out);
    }
    VEC_FREE(&list);
}

void
placement_host_text(const struct placement_host *host, const struct placement_ask *ask,
                    struct buf *out)
{
    int round = host_round(host);
    buf_puts(out, host->class == PLACEMENT_KVM ? "kvm" : "emulated");
    if (round == 0) {
        buf_puts(out, ", processors promised once at most");
    } else {
        buf_printf(out, ", processors promised %s%d times",
                   round < ROUNDS - 1 ? "up to " : "over ",
                   1 << (round < ROUNDS - 1 ? round : round - 1));
    }
    if (host->cost != 0) {
        buf_printf(out, ", cost %" PRId64, host->cost);
    }
    if (host->milliwatts > 0) {
        buf_printf(out, ", %.1f W a processor at most",
                   (double)host->milliwatts / 1000);
    }
    if (host->numa_vcpus > 0) {
        buf_puts(out, placement_spans(host, ask) ? ", over several of its NUMA nodes"
                                                 : ", on one of its NUMA nodes");
    }
    buf_puts(out, host->strained ? ", strained: nobody else takes it" : "");
}
