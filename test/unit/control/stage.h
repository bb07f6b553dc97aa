/* stage.h - a store in which passes are run, without any node. */
#pragma once
#include "test.h"

#include "control/instance_loop.h"

struct stage {
    char dir[64];
    struct store *store;
    struct arena *arena;
    int64_t now_ns;
    struct cloud_config config;
};

typedef bool stage_fn(struct pass *pass, void *ctx, struct err *err);

void stage_open(struct stage *s);
void stage_close(struct stage *s);
/* In one writing transaction; what it reads stays until stage_close. */
void stage_run(struct stage *s, stage_fn *fn, void *ctx);
