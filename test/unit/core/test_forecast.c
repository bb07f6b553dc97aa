/* test_forecast.c - whether a migration will end, and when. */
#include "core/forecast.h"
#include "test.h"

#define MBIT INT64_C(1000000)

static struct forecast
model(int64_t memory_mib, int64_t disk_mib, int64_t dirty_bps, int64_t way_bps)
{
    const struct forecast_basis basis = {.memory_bytes = memory_mib * (int64_t)MIB,
                                         .disk_bytes = disk_mib * (int64_t)MIB,
                                         .dirty_bps = dirty_bps,
                                         .way_bps = way_bps,
                                         .way_from = "a test",
                                         .downtime_limit_ms = FORECAST_DOWNTIME_MS};
    struct forecast f;
    forecast_model(&basis, &f);
    return f;
}

TEST(forecast_of_a_quiet_guest_is_its_bytes_over_the_way)
{
    struct forecast f = model(1024, 0, 0, 1000 * MBIT);
    CHECK_EQ(f.end, FORECAST_CONVERGES);
    CHECK_EQ(f.passes, 1);
    CHECK(f.total_ms >= 8589 && f.total_ms <= 8589 + FORECAST_SWITCH_MS + 1);
    CHECK_EQ(f.downtime_ms, FORECAST_SWITCH_MS);
    CHECK(model(1024, 1024, 0, 1000 * MBIT).total_ms >= 2 * 8589);
}

TEST(forecast_of_a_busy_guest_takes_longer_and_stands_still_longer)
{
    struct forecast quiet = model(1024, 0, 0, 1000 * MBIT);
    struct forecast busy = model(1024, 0, 300 * MBIT, 1000 * MBIT);
    CHECK_EQ(busy.end, FORECAST_CONVERGES);
    CHECK(busy.passes > 1 && busy.total_ms > quiet.total_ms);
    CHECK(busy.downtime_ms > quiet.downtime_ms);
    CHECK(busy.downtime_ms <= FORECAST_DOWNTIME_MS + FORECAST_SWITCH_MS);
    CHECK_EQ(busy.slowed_percent, 0);
}

/* Faster than the way: only with less of the processor. */
TEST(forecast_tells_of_a_guest_that_must_be_slowed_down)
{
    struct forecast f = model(1024, 0, 2000 * MBIT, 1000 * MBIT);
    CHECK_EQ(f.end, FORECAST_SLOWED);
    CHECK(f.slowed_percent >= 60 && f.slowed_percent <= FORECAST_SLOW_MOST);
    struct forecast worse = model(1024, 0, 6000 * MBIT, 1000 * MBIT);
    CHECK_EQ(worse.end, FORECAST_SLOWED);
    CHECK(worse.slowed_percent > f.slowed_percent);
}

TEST(forecast_tells_of_a_guest_that_never_ends_unless_its_memory_follows)
{
    struct forecast f = model(4096, 0, 200000 * MBIT, 100 * MBIT);
    CHECK_EQ(f.end, FORECAST_NEVER);
    struct forecast_basis basis = f.basis;
    basis.post_copy = true;
    forecast_model(&basis, &f);
    CHECK_EQ(f.end, FORECAST_FOLLOWS);
    CHECK_EQ(f.downtime_ms, FORECAST_SWITCH_MS);
}

TEST(forecast_bears_any_numbers)
{
    static const int64_t numbers[] = {0, 1, 1000, INT64_C(1) << 40, INT64_MAX / 4};
    for (size_t m = 0; m < ARRAY_LEN(numbers); m++) {
        for (size_t d = 0; d < ARRAY_LEN(numbers); d++) {
            for (size_t w = 0; w < ARRAY_LEN(numbers); w++) {
                const struct forecast_basis basis = {.memory_bytes = numbers[m],
                                                     .disk_bytes = numbers[d],
                                                     .dirty_bps = numbers[d],
                                                     .way_bps = numbers[w]};
                struct forecast f;
                forecast_model(&basis, &f);
                CHECK(f.total_ms >= f.downtime_ms && f.downtime_ms >= 0);
            }
        }
    }
}

TEST(forecast_text_says_what_it_stands_on)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct forecast f = model(512, 100, 80 * MBIT, 2500 * MBIT);
    f.basis.memory_seen = true;
    CHECK_STR(
        forecast_text(arena, &f),
        "512 MiB of memory in use, written at 80 Mbit/s, and 100 MiB of disks, over "
        "2.5 Gbit/s (a test)");
    f.basis.dirty_bps = 0;
    CHECK(strstr(forecast_text(arena, &f), "nobody has measured"));
}
