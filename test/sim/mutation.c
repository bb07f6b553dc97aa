/* mutation.c - see mutation.h. The linker gives every call between files of these functions
 * to the ones here (--wrap); without a mutation they only pass it on. */
#include "mutation.h"

#include "control/drains.h"
#include "core/migration_cold.h"
#include "core/placement.h"
#include "link/reports.h"
#include "node/agent_impl.h"
#include "node/machine/machine_impl.h"
#include "node/migrate/migration_impl.h"
#include "service/ec2/common.h"
#include "store/follow.h"

enum mutation {
    NONE,
    CLAIM,
    TOKEN,
    ADOPT,
    KEPT,
    REWIND,
    LEASE,
    FRESH,
    TOLD,
    HELD,
    CALL,
    LINE,
    TORN,
    MUTATIONS
};

static const char *const names[MUTATIONS] = {
    [CLAIM] = "claim",   /* Placement forgets what is promised. */
    [TOKEN] = "token",   /* A client token is never known. */
    [ADOPT] = "adopt",   /* An agent that starts finds no guest. */
    [KEPT] = "kept",     /* An absence is told before its deletion is on disk. */
    [REWIND] = "rewind", /* What was not acknowledged is not sent again. */
    [LEASE] = "lease", /* It is declared lost before the host has to stop (cloud.c). */
    [FRESH] = "fresh", /* A read does not ask what other processes have committed. */
    [TOLD] =
        "told", /* Owners hear of a drain when it begins and ends, and that is it. */
    [HELD] =
        "held", /* What waits for its disk elsewhere may run where it has no room. */
    [CALL] = "call", /* A receiver is not called again for memory that was cut off. */
    [LINE] = "line", /* An agent that starts opens a conversation of its own. */
    [TORN] = "torn", /* A guest whose memory is cut off is started anew. */
};

static enum mutation chosen;

bool
mutation_choose(const char *name)
{
    for (size_t i = 1; i < MUTATIONS; i++) {
        if (str_eq(names[i], name)) {
            chosen = (enum mutation)i;
            return true;
        }
    }
    return false;
}

bool
mutation_is(const char *name)
{
    return chosen != NONE && str_eq(names[chosen], name);
}

#define WRAPPED(type, name, ...) \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

WRAPPED(struct placement_host, placement_host_of, const struct placement_rows *rows,
        const struct placement_rules *rules);
WRAPPED(bool, token_get, struct call *call, const char *token, const char *digest,
        const char **out_value, struct err *err);
WRAPPED(void, machine_adopt, struct machine *m);
WRAPPED(bool, wants_is_kept, const struct wants *w, const struct want *want);
WRAPPED(void, reports_rewind, struct reports *r);
WRAPPED(bool, follow_fresh, struct store *store, struct err *err);
WRAPPED(bool, migration_is_held, const struct row_migration *m);
WRAPPED(bool, drain_tell, const struct pass *pass, const struct row_instance *inst,
        struct err *err);

WRAPPED(void, follow_call, struct migration *m, const struct machine_body *body);
WRAPPED(bool, machine_line_take, const struct machine *m, int *out_fd);
WRAPPED(enum give_step, give_plan, const struct give_facts *f, int64_t now_ns);

struct placement_host
__wrap_placement_host_of(const struct placement_rows *rows,
                         const struct placement_rules *rules)
{
    struct placement_host host = __real_placement_host_of(rows, rules);
    if (chosen == CLAIM) {
        host.claimed = (struct claim){0};
    }
    return host;
}

bool
__wrap_token_get(struct call *call, const char *token, const char *digest,
                 const char **out_value, struct err *err)
{
    return __real_token_get(call, chosen == TOKEN ? NULL : token, digest, out_value,
                            err);
}

void
__wrap_machine_adopt(struct machine *m)
{
    if (chosen != ADOPT) {
        __real_machine_adopt(m);
    }
}

bool
__wrap_wants_is_kept(const struct wants *w, const struct want *want)
{
    return chosen == KEPT || __real_wants_is_kept(w, want);
}

void
__wrap_reports_rewind(struct reports *r)
{
    if (chosen != REWIND) {
        __real_reports_rewind(r);
    }
}

bool
__wrap_follow_fresh(struct store *store, struct err *err)
{
    return chosen == FRESH || __real_follow_fresh(store, err);
}

bool
__wrap_drain_tell(const struct pass *pass, const struct row_instance *inst,
                  struct err *err)
{
    return chosen == TOLD || __real_drain_tell(pass, inst, err);
}

bool
__wrap_migration_is_held(const struct row_migration *m)
{
    return chosen != HELD && __real_migration_is_held(m);
}

void
__wrap_follow_call(struct migration *m, const struct machine_body *body)
{
    if (chosen != CALL) {
        __real_follow_call(m, body);
    }
}

bool
__wrap_machine_line_take(const struct machine *m, int *out_fd)
{
    return chosen != LINE && __real_machine_line_take(m, out_fd);
}

enum give_step
__wrap_give_plan(const struct give_facts *f, int64_t now_ns)
{
    bool torn = chosen == TORN && f->memory == MEMORY_CUT && f->alive && f->qmp_up;
    return torn && !f->busy && !f->kept ? GIVE_STAY : __real_give_plan(f, now_ns);
}
