/* moving.h - a stage with a guest that is on its way from one node to another. */
#pragma once
#include "one_instance.h"

#include "control/migrations.h"
#include "core/migration_rows.h"

#define THIRD "node-00000000000000003"
#define CARD "eni-00000000000000002"
#define ELASTIC "198.51.100.7"
#define MEMORY (512 * (int64_t)MIB)

#define GET_ROW(type, out, ...) \
    row_get(pass->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

struct move_asked {
    const char *to;
    bool force;
    bool post_copy;
    struct err why;
    const char *id; /* Of the migration; NULL: refused. */
};

struct moving {
    const struct row_instance *instance;
    const struct row_migration *m;
    const struct row_volume *root;
    const struct row_node_claim *from, *to;
    struct link_migration give, take; /* As the two were told; zero: not, or no more. */
    bool machine_from, machine_to, card_from, card_to;
    size_t left_from,
        left_to; /* Of the instance's wants, those of its network not counted. */
    const char *id;
};

/* Three hosts that reach each other; the instance runs on the first. */
void moving_ready(struct stage *s);
/* A connected host with room. */
bool moving_put_host(struct pass *pass, const char *id, const char *underlay,
                     struct err *err);
/* Asks for a migration, as an operator does: 'ctx' is a struct move_asked. */
bool moving_do_begin(struct pass *pass, void *ctx, struct err *err);
/* The same to OTHER_NODE, which must be granted; its id. */
const char *moving_begin(struct stage *s);
/* To where the giver is about to let go. */
const char *moving_to_switching(struct stage *s);
/* What a node says of its side: 'ctx' is a struct moving_word. */
struct moving_word {
    const char *node_id, *id, *state;
    int64_t disk_bytes, disk_done_bytes;
};
bool moving_do_say(struct pass *pass, void *ctx, struct err *err);
/* The same; then every pass that waits runs. */
void moving_say(struct stage *s, const char *id, const char *node_id,
                const char *state);
/* The node 'ctx', or both, report absent whatever is being taken down there. */
bool moving_do_clear(struct pass *pass, void *ctx, struct err *err);
void moving_clear(struct stage *s);
bool moving_do_pass(struct pass *pass, void *ctx, struct err *err);
bool moving_do_cancel(struct pass *pass, void *ctx, struct err *err);
bool moving_do_revoke(struct pass *pass, void *ctx, struct err *err);
/* Its owner allows post-copy, and so does the second host. */
bool moving_do_allow(struct pass *pass, void *ctx, struct err *err);
bool moving_do_look(struct pass *pass, void *ctx, struct err *err); /* struct moving */
struct moving moving_look(struct stage *s, const char *id);
