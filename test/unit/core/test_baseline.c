/* test_baseline.c - what hosts have in common, and what one of them lacks. */
#include "core/baseline.h"
#include "test.h"

#define SEEN(models, types) \
    ((struct row_node_seen){ \
        .cpu_models = {(models), ARRAY_LEN(models)}, \
        .machine_types = {(types), ARRAY_LEN(types)}, \
        .qemu_version = "7.2.22", \
    })

static const char *old_types[] = {"pc-q35-7.2", "pc-q35-7.1", "pc-q35-7.0"};
static const char *new_types[] = {"pc-q35-9.1", "pc-q35-9.0", "pc-q35-7.2",
                                  "pc-q35-7.1"};
static const char *far_types[] = {"pc-q35-11.0"};
static const char *milan[] = {"qemu64", "EPYC-Milan", "EPYC-Rome", "x86-64-v3",
                              "x86-64-v2-AES"};
static const char *rome[] = {"x86-64-v2-AES", "EPYC-Rome", "x86-64-v3", "qemu64"};
static const char *haswell[] = {"qemu64", "Haswell-noTSX-IBRS", "x86-64-v3",
                                "x86-64-v2-AES", "Nehalem"};
static const char *strange[] = {"z14"};

static const char *
pick(const struct row_node_seen *a, const struct row_node_seen *b, const char **machine)
{
    const struct row_node_seen *hosts[] = {a, b};
    const char *cpu = NULL;
    return baseline_pick(hosts, b ? 2 : 1, &cpu, machine) ? cpu : "none";
}

TEST(baseline_pick_takes_the_best_that_all_have)
{
    const struct row_node_seen a = SEEN(milan, new_types), b = SEEN(rome, old_types);
    const struct row_node_seen c = SEEN(haswell, old_types);
    const char *machine = NULL;
    CHECK_STR(pick(&a, NULL, &machine), "EPYC-Milan");
    CHECK_STR(machine, "pc-q35-9.1");
    CHECK_STR(pick(&a, &b, &machine), "EPYC-Rome");
    CHECK_STR(machine, "pc-q35-7.2");
    CHECK_STR(pick(&b, &a, &machine), "EPYC-Rome");
    CHECK_STR(machine, "pc-q35-7.2");
    CHECK_STR(pick(&a, &c, &machine), "x86-64-v3"); /* Of no maker. */
}

TEST(baseline_pick_finds_none_where_there_is_none)
{
    const struct row_node_seen a = SEEN(milan, new_types), b = SEEN(strange, new_types);
    const struct row_node_seen c = SEEN(milan, far_types), none = {0};
    const char *machine = "unchanged", *cpu = "unchanged";
    CHECK_STR(pick(&a, &b, &machine), "none");
    CHECK_STR(pick(&a, &c, &machine), "none");
    CHECK_STR(pick(&a, &none, &machine), "none");
    CHECK(!baseline_pick(NULL, 0, &cpu, &machine));
    CHECK_STR(machine, "unchanged");
    CHECK_STR(cpu, "unchanged");
}

TEST(baseline_gap_names_what_is_missing_and_spares_who_has_not_told)
{
    AUTO(arena) struct arena *arena = arena_create();
    const struct row_node_seen a = SEEN(rome, old_types), silent = {0};
    struct row_baseline b = {.cpu_model = "EPYC-Rome", .machine_type = "pc-q35-7.2"};
    CHECK_NULL(baseline_gap(arena, &b, &a));
    CHECK_NULL(baseline_gap(arena, NULL, &a));
    CHECK_NULL(baseline_gap(arena, &b, &silent));
    CHECK_NULL(baseline_gap(arena, &b, NULL));
    b.cpu_model = "EPYC-Milan";
    CHECK_STR(baseline_gap(arena, &b, &a), "processor EPYC-Milan");
    b.cpu_model = "EPYC-Rome";
    b.machine_type = "pc-q35-9.1";
    CHECK_STR(baseline_gap(arena, &b, &a), "machine type pc-q35-9.1 (QEMU 7.2.22)");
}

TEST(baseline_offers_what_is_not_named)
{
    const struct row_node_seen a = SEEN(rome, old_types), silent = {0};
    CHECK(baseline_offers(&silent, NULL, ""));
    CHECK(baseline_offers(&a, "EPYC-Rome", NULL));
    CHECK(!baseline_offers(&silent, "EPYC-Rome", NULL));
    CHECK(!baseline_offers(&a, "EPYC-Rom", "pc-q35-7.2"));
}
