/* cpu.c - see cpu.h. */
#include "node/machine/cpu.h"
#include "base/buf.h"

/* The psABI's level 2, with AES: every server processor since 2010. */
/* Upon Nehalem, not upon qemu64: that one says it is an AMD of 2007, on which Linux 6.1 does
 * not come up under emulation once it has XSAVE. */
#define LEVEL_2 "aes", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"

static const char *const level2[] = {LEVEL_2};
/* Level 3, with what every processor of that level has besides. */
static const char *const level3[] = {LEVEL_2, "abm",    "avx",       "avx2", "bmi1",
                                     "bmi2",  "erms",   "f16c",      "fma",  "fsgsbase",
                                     "movbe", "rdrand", "pclmulqdq", "smep", "xsave"};

const struct cpu_level cpu_levels[] = {
    {"x86-64-v2-AES", "Nehalem", level2, ARRAY_LEN(level2)},
    {"x86-64-v3", "Nehalem", level3, ARRAY_LEN(level3)},
};
const size_t cpu_level_count = ARRAY_LEN(cpu_levels);

const char *
cpu_option(struct arena *arena, const char *name)
{
    for (size_t i = 0; i < cpu_level_count; i++) {
        const struct cpu_level *level = &cpu_levels[i];
        if (!str_eq(level->name, name)) {
            continue;
        }
        AUTO(buf) struct buf text = {0};
        buf_puts(&text, level->model);
        for (size_t f = 0; f < level->flag_count; f++) {
            buf_printf(&text, ",+%s", level->flags[f]);
        }
        return arena_printf(arena, "%s,enforce", buf_str(&text));
    }
    return arena_printf(arena, "%s,enforce", name);
}
