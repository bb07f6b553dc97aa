/* relief.h - what a host under pressure does, in this order: reclaim, balloon, move guests
 * away, and only then refuse new ones.
 *
 * Purpose:  from the kernel's own word on pressure (PSI) to one stage, with patience in
 *           both directions: a step up when the last one had time and did not help, a step
 *           down when all has been quiet for a minute.
 * Place:    node/meter; pure: carries nothing out.
 * Threads:  any. */
#pragma once
#include "base/base.h"

enum relief_stage {
    RELIEF_NONE,
    RELIEF_RECLAIM, /* Guests' cold pages and caches, as the kernel picks them. */
    RELIEF_BALLOON, /* Memory that guests do not use themselves. */
    RELIEF_MOVE,    /* The control plane is asked to move guests away. */
    RELIEF_REFUSE,  /* And takes no more until it is quiet. */
    RELIEF_STAGES,
};

/* "reclaim" */
const char *relief_name(enum relief_stage stage);

/* Lines of /proc/pressure/WHAT, in hundredths of a percent over ten seconds. */
struct psi {
    int64_t some, full;
};
/* False, and '*out' untouched, when the text is none of the kernel's. */
bool psi_parse(const char *text, struct psi *out);

struct relief_facts {
    struct psi memory;
    int64_t available_bytes, total_bytes;
};

struct relief {
    enum relief_stage stage;
    int64_t since_ns; /* When the stage was entered. */
    int64_t loud_ns;  /* When there was pressure last. */
};

/* What a host says of itself in consequence: placement heeds 'unfit', and whoever is on it
 * is moved away, one at a time, while it is 'crowded'. */
struct host_verdict {
    const char *unfit; /* Why it takes no more; "": it does. */
    bool crowded;
};
/* 'waits': its guests wait for processors (ready_is_bad()), which breaks a promise only
 * where those are real: an emulated host promises shares, not speed. */
struct host_verdict host_judge(enum relief_stage stage, bool waits,
                               bool real_processors);

/* The stage from now on; monotonic time. */
enum relief_stage relief_step(struct relief *relief, const struct relief_facts *facts,
                              int64_t now_ns);
