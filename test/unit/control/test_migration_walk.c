/* test_migration_walk.c - nodes that say anything at any time: a guest has one owner all the
 * while, no promise is lost or doubled, and once the nodes speak the truth it ends. */
#include "moving.h"

#define WALKS 60
#define STEPS 40

struct walk {
    const char *id;
    uint64_t seed, first_seed;
    bool left; /* The giver has said so, or will never speak again. */
    bool ended;
};

#define PICK(rng, words) ((words)[rng_below((rng), ARRAY_LEN(words))])

static bool
say_anything(struct pass *pass, struct walk *w, const struct rng *rng, struct err *err)
{
    static const char *const nodes[] = {NODE, NODE, OTHER_NODE, OTHER_NODE, THIRD};
    static const char *const give[] = {"waiting", "copying", "paused",
                                       "paused",  "left",    "kept",
                                       "absent",  "running", "gone"};
    static const char *const take[] = {"preparing", "listening", "listening",
                                       "running",   "failed",    "absent",
                                       "left",      "following", "interrupted"};
    struct moving_word word = {PICK(rng, nodes), w->id, NULL};
    bool giver = str_eq(word.node_id, NODE);
    word.state = giver ? PICK(rng, give) : PICK(rng, take);
    w->left = w->left ||
              (giver && (str_eq(word.state, "left") || str_eq(word.state, "gone")));
    return moving_do_say(pass, &word, err) && moving_do_pass(pass, NULL, err);
}

static bool
step(struct pass *pass, struct walk *w, const struct rng *rng, struct err *err)
{
    static const char *const cleared[] = {NODE, OTHER_NODE};
    void *id = (void *)(uintptr_t)w->id;
    pass->now_ns += NS_PER_S;
    switch (rng_below(rng, 40)) {
    case 0:
        return moving_do_cancel(pass, id, err);
    case 1:
    case 2:
    case 3:
        return moving_do_clear(pass, (void *)(uintptr_t)PICK(rng, cleared), err) &&
               moving_do_pass(pass, NULL, err);
    case 4:
        return instance_pass(pass, ACCOUNT, INSTANCE, err);
    case 5:
        w->left = true;
        return moving_do_revoke(pass, NODE, err);
    default:
        return say_anything(pass, w, rng, err);
    }
}

static bool
look(struct pass *pass, struct walk *w, struct moving *out, struct err *err)
{
    *out = (struct moving){.id = w->id};
    return moving_do_look(pass, out, err);
}

/* Transactions run on another thread, where a failed CHECK would have nowhere to go. */
static bool
check_now(struct walk *w, const struct moving *m, struct err *err)
{
    bool there = str_eq(m->instance->node_id, OTHER_NODE);
    bool open = migration_is_open(m->m), was_ended = w->ended;
    int64_t vcpus = m->from->vcpus + m->to->vcpus;
    int64_t memory = m->from->memory_bytes + m->to->memory_bytes;
    w->ended = !open;
    const char *broken =
        !there && !str_eq(m->instance->node_id, NODE)     ? "it is on neither node"
        : !str_eq(m->root->node_id, m->instance->node_id) ? "its disk is elsewhere"
        : was_ended && open                               ? "it began again"
        : vcpus != (open ? 4 : 2)                         ? "vCPUs are promised wrong"
        : memory != (open ? 2 * MEMORY : MEMORY)          ? "memory is promised wrong"
        : open == str_empty(m->instance->migration_id)    ? "the instance is not told"
        : str_eq(m->give.order, "switch") && !there       ? "let go too early"
        : str_eq(m->take.order, "run") && !w->left        ? "run too early"
                                                          : NULL;
    return !broken || err_set(err, ERR_INTERNAL, "seed %" PRIu64 ", %s: %s",
                              w->first_seed, m->m->state, broken);
}

/* The truth that each side owes in its state. */
static bool
speak_truly(struct pass *pass, struct walk *w, const struct moving *m, struct err *err)
{
    void *id = (void *)(uintptr_t)w->id;
    bool switching = str_eq(m->m->state, "switching");
    const struct moving_word give = {NODE, w->id, switching ? "left" : "kept"};
    const struct moving_word take = {OTHER_NODE, w->id, "running"};
    bool early = str_eq(m->m->state, "preparing") || str_eq(m->m->state, "copying");
    return (!early || moving_do_cancel(pass, id, err)) &&
           moving_do_say(pass, (void *)(uintptr_t)&give, err) &&
           (!switching || moving_do_say(pass, (void *)(uintptr_t)&take, err)) &&
           moving_do_pass(pass, NULL, err) && moving_do_clear(pass, NODE, err) &&
           moving_do_clear(pass, OTHER_NODE, err) && moving_do_pass(pass, NULL, err);
}

static bool
do_walk(struct pass *pass, void *ctx, struct err *err)
{
    struct walk *w = ctx;
    const struct rng rng = rng_seeded(&w->seed);
    struct moving m;
    for (int i = 0; i < STEPS; i++) {
        if (!step(pass, w, &rng, err) || !look(pass, w, &m, err) ||
            !check_now(w, &m, err)) {
            return false;
        }
    }
    for (int i = 0; i < 6 && !w->ended; i++) {
        if (!speak_truly(pass, w, &m, err) || !look(pass, w, &m, err) ||
            !check_now(w, &m, err)) {
            return false;
        }
    }
    return w->ended ||
           err_set(err, ERR_INTERNAL, "seed %" PRIu64 ", %s: it does not end",
                   w->first_seed, m.m->state);
}

TEST(migration_has_one_owner_whatever_nodes_say_and_ends_when_they_speak_truly)
{
    size_t done = 0;
    for (uint64_t seed = 1; seed <= WALKS; seed++) {
        struct stage s;
        struct walk w = {.seed = seed, .first_seed = seed};
        moving_ready(&s);
        w.id = moving_begin(&s);
        stage_run(&s, do_walk, &w);
        done += str_eq(moving_look(&s, w.id).m->state, "done");
        stage_close(&s);
    }
    CHECK(done > WALKS / 20 && done < WALKS); /* The walks go both ways. */
}
