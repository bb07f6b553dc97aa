/* test_offer.c - what a QEMU says it offers, read and asked for. */
#include "node/machine/cpu.h"
#include "node/machine/offer.h"
#include "node/machine/qemu.h"
#include "test.h"

#define GREETING \
    "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\n{\"return\":{},\"id\":0}\n"
#define VERSION \
    "{\"return\":{\"qemu\":{\"micro\":22,\"minor\":2,\"major\":7},\"package\":\"\"}," \
    "\"id\":1}\n"
#define MACHINES \
    "{\"return\":[{\"name\":\"pc-q35-6.2\"},{\"name\":\"pc-q35-10.0\"},{\"name\":" \
    "\"isapc\"}," \
    "{\"name\":\"pc-i440fx-7.2\"},{\"name\":\"pc-q35-7.2\",\"alias\":\"q35\"}," \
    "{\"name\":\"pc-q35-4.0.1\"},{\"name\":\"pc-q35-2.4\",\"deprecated\":true}," \
    "{\"name\":\"pc-q35-rhel7.6.0\"}],\"id\":2}\n"
#define MODEL(name, lacks) \
    "{\"name\":\"" name "\",\"migration-safe\":true," \
    "\"unavailable-features\":[" lacks "]},"
#define MODELS \
    "{\"return\":[" /* One a line, and those that are left out. */ \
    MODEL("Nehalem", "") \
    MODEL("Nehalem-v1", "") \
    MODEL("EPYC-Rome", "") \
    MODEL("Haswell", "\"pcid\"") \
    MODEL("n270", "") \
    MODEL("base", "") \
    "{\"name\":\"Icelake-Client\",\"migration-safe\":true," \
    "\"unavailable-features\":[],\"deprecated\":true}," \
    "{\"name\":\"max\",\"migration-safe\":false,\"unavailable-features\":[]}]," \
    "\"id\":3}\n"
#define FLAGS(more) \
    "{\"return\":{\"model\":{\"name\":\"max\",\"props\":{\"aes\":true,\"pni\":true," \
    "\"popcnt\":true,\"sse4.1\":true,\"sse4.2\":true,\"ssse3\":true,\"xlevel\":" \
    "18446744073709551615" more "}}},\"id\":4}\n"
#define LEVEL3 \
    ",\"abm\":true,\"avx\":true,\"avx2\":true,\"bmi1\":true,\"bmi2\":true,\"erms\":" \
    "true," \
    "\"f16c\":true,\"fma\":true,\"fsgsbase\":true,\"movbe\":true,\"rdrand\":true," \
    "\"pclmulqdq\":true,\"smep\":true,\"xsave\":true"
#define END "{\"timestamp\":{},\"event\":\"SHUTDOWN\"}\n{\"return\":{},\"id\":5}\n"

static bool
offers(const struct offer *o, const char *model)
{
    for (size_t i = 0; i < o->cpu_model_count; i++) {
        if (str_eq(o->cpu_models[i], model)) {
            return true;
        }
    }
    return false;
}

TEST(offer_read_takes_what_means_the_same_everywhere)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct offer o;
    CHECK_OK(
        offer_read(GREETING VERSION MACHINES MODELS FLAGS(LEVEL3) END, arena, &o, &err),
        &err);
    CHECK_STR(o.qemu_version, "7.2.22");
    CHECK_EQ(o.machine_type_count, 4);
    CHECK_STR(o.machine_types[0], "pc-q35-10.0");
    CHECK_STR(o.machine_types[1], "pc-q35-7.2");
    CHECK_STR(o.machine_types[2], "pc-q35-6.2");
    CHECK_STR(o.machine_types[3], "pc-q35-4.0.1");
    CHECK_EQ(o.cpu_model_count, 4);
    CHECK(offers(&o, "Nehalem") && offers(&o, "EPYC-Rome"));
    CHECK(offers(&o, "x86-64-v2-AES") && offers(&o, "x86-64-v3"));
}

TEST(offer_read_leaves_out_a_level_of_which_one_flag_is_missing)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct offer o;
    CHECK_OK(offer_read(GREETING VERSION MACHINES MODELS FLAGS(",\"avx\":true") END,
                        arena, &o, &err),
             &err);
    CHECK(offers(&o, "x86-64-v2-AES") && !offers(&o, "x86-64-v3"));
}

TEST(offer_read_refuses_a_qemu_that_does_not_tell)
{
    static const char *const texts[] = {
        "",
        "\n\n{}\n[]\n\"\"\n{\"return\":",
        GREETING VERSION MACHINES,
        MODELS,
        GREETING VERSION MODELS FLAGS(LEVEL3),
        VERSION "{\"return\":{},\"id\":2}\n{\"return\":[[1],null],\"id\":3}\n"};
    AUTO(arena) struct arena *arena = arena_create();
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err err = {0};
        struct offer o;
        CHECK(!offer_read(texts[i], arena, &o, &err));
        CHECK_EQ(err.code, ERR_CORRUPT);
    }
}

TEST(offer_end_hears_the_qemu_of_this_host)
{
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    struct offer o;
    if (access(QEMU_PATH, X_OK) != 0) {
        skip();
    }
    struct offer_ask ask = offer_begin(false);
    CHECK_OK(offer_end(&ask, arena, &o, &err), &err);
    CHECK(str_starts(o.machine_types[0], "pc-q35-"));
    CHECK(offers(&o, "Nehalem") && offers(&o, "x86-64-v3"));
    CHECK(!offer_end(&ask, arena, &o, &err)); /* It was ended. */
}

TEST(cpu_option_spells_levels_out_and_insists)
{
    AUTO(arena) struct arena *arena = arena_create();
    CHECK_STR(cpu_option(arena, "EPYC"), "EPYC,enforce");
    CHECK_STR(cpu_option(arena, "x86-64-v2-AES"),
              "Nehalem,+aes,+pni,+popcnt,+sse4.1,+sse4.2,+ssse3,enforce");
}
