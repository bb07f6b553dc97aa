/* stage.c - see stage.h. */
#include "stage.h"

#include "base/file.h"

struct step {
    struct stage *stage;
    stage_fn *fn;
    void *ctx;
};

static bool
step_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct step *step = ctx;
    struct pass pass = {.txn = txn,
                        .config = &step->stage->config,
                        .rng = &rng_system,
                        .now_ns = step->stage->now_ns};
    return step->fn(&pass, step->ctx, err);
}

void
stage_run(struct stage *s, stage_fn *fn, void *ctx)
{
    struct err err = {0};
    struct step step = {s, fn, ctx};
    CHECK_OK(store_write(s->store, s->arena, step_txn, &step, &err), &err);
}

void
stage_open(struct stage *s)
{
    *s = (struct stage){.arena = arena_create(), .now_ns = 1000 * NS_PER_S};
    strcpy(s->dir, "/tmp/moln-unit-XXXXXX");
    CHECK(mkdtemp(s->dir) != NULL);
    char url[128];
    uint8_t key[32] = {7};
    snprintf(url, sizeof url, "sqlite:%s/db", s->dir);
    struct store_config config = {.url = url, .types = row_types, .type_count = ROW_TYPES,
                                  .master_key = key, .rng = &rng_system,
                                  .clock = &clock_system};
    struct err err = {0};
    s->store = store_open(&config, &err);
    CHECK_OK(s->store != NULL, &err);
}

void
stage_close(struct stage *s)
{
    struct err err = {0};
    store_close(s->store);
    arena_destroy(s->arena);
    CHECK_OK(dir_remove(s->dir, &err), &err);
}
