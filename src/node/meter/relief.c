/* relief.c - see relief.h. */
#include "node/meter/relief.h"

#define SOME_LOUD 1000 /* 10 %: a tenth of the time something waits for memory. */
#define FULL_LOUD 200  /* 2 %: nothing runs at all, for want of it. */
#define SOME_QUIET 200
#define FREE_LOUD 20  /* A twentieth of memory... */
#define FREE_QUIET 10 /* ...and a tenth. */
#define STEP_UP_NS (10 * NS_PER_S)
#define STEP_DOWN_NS (60 * NS_PER_S)

const char *
relief_name(enum relief_stage stage)
{
    static const char *const names[] = {"none", "reclaim", "balloon", "move", "refuse"};
    _Static_assert(ARRAY_LEN(names) == RELIEF_STAGES, "every stage has a name");
    return names[stage];
}

/* "some avg10=0.12 avg60=..." */
static bool
read_line(const char *text, const char *word, int64_t *out)
{
    const char *line = strstr(text, word);
    const char *number = line ? strstr(line, "avg10=") : NULL;
    int whole, part;
    if (!number || sscanf(number, "avg10=%d.%2d", &whole, &part) != 2) {
        return false;
    }
    *out = whole * INT64_C(100) + part;
    return true;
}

bool
psi_parse(const char *text, struct psi *out)
{
    struct psi psi = {0};
    if (!read_line(text, "some ", &psi.some)) {
        return false;
    }
    (void)read_line(text, "full ", &psi.full); /* Of processors there may be none. */
    *out = psi;
    return true;
}

static bool
is_loud(const struct relief_facts *f)
{
    return f->memory.some >= SOME_LOUD || f->memory.full >= FULL_LOUD ||
           f->available_bytes < f->total_bytes / FREE_LOUD;
}

static bool
is_quiet(const struct relief_facts *f)
{
    return f->memory.some < SOME_QUIET && f->memory.full < SOME_QUIET / 2 &&
           f->available_bytes >= f->total_bytes / FREE_QUIET;
}

static void
enter(struct relief *r, enum relief_stage stage, int64_t now_ns)
{
    r->stage = stage;
    r->since_ns = now_ns;
}

enum relief_stage
relief_step(struct relief *r, const struct relief_facts *facts, int64_t now_ns)
{
    if (!is_quiet(facts)) {
        r->loud_ns = now_ns;
    }
    if (is_loud(facts) && r->stage < RELIEF_REFUSE &&
        (r->stage == RELIEF_NONE || now_ns - r->since_ns >= STEP_UP_NS)) {
        enter(r, r->stage + 1, now_ns);
    } else if (r->stage > RELIEF_NONE && now_ns - r->loud_ns >= STEP_DOWN_NS &&
               now_ns - r->since_ns >= STEP_DOWN_NS) {
        enter(r, r->stage - 1, now_ns);
    }
    return r->stage;
}

struct host_verdict
host_judge(enum relief_stage stage, bool waits, bool real_processors)
{
    bool breaks = waits && real_processors;
    return (struct host_verdict){
        .unfit =
            stage == RELIEF_REFUSE ? "memory pressure, which relief has not ended"
            : breaks
                ? "machines wait for processors, though few of those promised are busy"
                : "",
        .crowded = breaks || stage >= RELIEF_MOVE,
    };
}
