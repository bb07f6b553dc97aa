/* history.c - the one list of moments. See history.h. */
#include "history.h"

#include "world.h"

static struct history history;

void
history_add(const struct moment *moment)
{
    struct moment m = *moment;
    const char **const texts[] = {&m.id, &m.other, &m.place, &m.kind_of, &m.state};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *texts[i] = *texts[i] ? xstrdup(*texts[i]) : "";
    }
    m.at_ns = world_now();
    VEC_PUSH(&history.moments, m);
}

struct history *
history_get(void)
{
    return &history;
}
