/* control.c - see control.h. */
#include "control/control.h"

#include "base/log.h"
#include "control/drains.h"
#include "control/janitor.h"
#include "control/jobs.h"
#include "control/leases.h"
#include "control/members.h"
#include "control/migrations.h"
#include "control/nat_loop.h"
#include "control/network_loop.h"
#include "control/queue.h"
#include "control/uplinks.h"
#include "store/rows.h"

#define KEY_MAX 128

struct control {
    struct nodes_config config;
    struct members *members;
    struct nodes *nodes;
    struct queue *queue;
    struct janitor *janitor;
    struct leases *leases;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* ---- keys: "PASS ACCOUNT ID" ----------------------------------------------------- */

typedef bool pass_fn(const struct pass *pass, const char *account, const char *id,
                     struct err *err);

/* A node came or went: imports that wait for one get their chance. */
static bool
waiting_jobs_pass(const struct pass *pass, const char *account UNUSED,
                  const char *id UNUSED, struct err *err)
{
    struct row_list tasks;
    struct row_query query = {0};
    if (!row_list(pass->txn, &row_import_task_type, &query, &tasks, err)) {
        return false;
    }
    for (size_t i = 0; i < tasks.count; i++) {
        const struct row_import_task *task = tasks.rows[i];
        if (str_eq(task->state, "active") && str_empty(task->node_id) &&
            !job_pass(pass, task->account, task->id, err)) {
            return false;
        }
    }
    return true;
}

static const struct {
    const char *name;
    pass_fn *run;
} passes[] = {
    {"group", group_pass},
    {"instance", instance_pass},
    {"interface", interface_pass},
    {"nats", nats_pass},
    {"network", network_pass},
    {"node", node_pass},
    {"place", place_pass},
    {"prefix-list", prefix_list_pass},
    {"rule", rule_pass},
    {"uplinks", uplinks_pass},
    {"volume", volume_pass},
    {"job", job_pass},
    {"drain", drain_pass},
    {"drains", drains_look},
    {"migration", migration_pass},
    {"migrations", migrations_look},
    {"waiting-jobs", waiting_jobs_pass},
};

static void
wake(struct control *control, const char *pass, const char *account, const char *id)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s %s %s", pass, str_empty(account) ? "-" : account,
             str_empty(id) ? "-" : id);
    if (members_owns(control->members, key)) {
        queue_add(control->queue, key);
    }
}

static bool
control_pass(void *ctx, struct txn *txn, const char *key, struct err *err)
{
    struct control *control = ctx;
    char name[32], account[32], id[64];
    bool ours;
    if (sscanf(key, "%31s %31s %63s", name, account, id) != 3) {
        return true;
    }
    if (!members_holds(control->members, txn, key, &ours, err)) {
        return false;
    }
    if (!ours) {
        return true; /* Another process has it now, and looked at everything. */
    }
    struct pass pass = {
        .txn = txn,
        .config = control->config.cloud,
        .pool = control->config.pool,
        .rng = control->config.rng,
        .blobs = control->config.blobs,
        .now_ns = clock_real(control->config.clock),
    };
    for (size_t i = 0; i < ARRAY_LEN(passes); i++) {
        if (str_eq(passes[i].name, name)) {
            return passes[i].run(&pass, account, id, err);
        }
    }
    return true;
}

/* ---- waking ---------------------------------------------------------------------- */

/* Rows of tenants whose change wakes a pass of their own; each has account and id as its
 * key. What else is part of a VPC touches the VPC's own row when it changes. */
static const struct {
    const struct row_type *type;
    const char *pass;
} own_passes[] = {
    {&row_eni_type, "interface"},
    {&row_eni_gone_type, "interface"},
    {&row_import_task_type, "job"},
    {&row_instance_type, "instance"},
    {&row_prefix_list_type, "prefix-list"},
    {&row_security_group_rule_type, "rule"},
    {&row_security_group_type, "group"},
    {&row_volume_type, "volume"},
    {&row_vpc_type, "network"},
};

static void
wake_own_pass(struct control *control, const struct row_type *type, const void *key)
{
    for (size_t i = 0; i < ARRAY_LEN(own_passes); i++) {
        if (own_passes[i].type == type) {
            const struct desc_field *fields = type->desc->fields;
            wake(control, own_passes[i].pass,
                 *(const char *const *)desc_at(&fields[type->key[0]], key),
                 *(const char *const *)desc_at(&fields[type->key[1]], key));
        }
    }
}

/* On the store's writer thread, after each commit. */
static void
on_change(void *ctx, const struct row_type *type, const void *key)
{
    struct control *control = ctx;
    wake_own_pass(control, type, key);
    if (type == &row_node_want_type) {
        const struct row_node_want *row = key;
        nodes_changed(control->nodes, row->node_id);
        if (row->kind == LINK_NAT_GATEWAY) {
            wake(control, "nats", "", "");
        }
    } else if (type == &row_nat_gateway_type) {
        wake(control, "nats", "", "");
    } else if (type == &row_node_type) {
        const struct row_node *row = key;
        nodes_changed(control->nodes, row->id);
        wake(control, "node", "", row->id);
        wake(control, "drain", "", row->id);
        wake(control, "uplinks", "", row->id);
    } else if (type == &row_uplink_type) {
        wake(control, "uplinks", "", "");
    } else if (type == &row_node_stream_type) {
        nodes_changed(control->nodes, ((const struct row_node_stream *)key)->id);
    } else if (type == &row_control_type) {
        members_changed(control->members);
    } else if (type == &row_vpc_node_type) {
        const struct row_vpc_node *row = key;
        wake(control, "place", row->vpc_id, row->node_id);
    } else if (type == &row_node_seen_type) {
        wake(control, "waiting-jobs", "", "");
        wake(control, "migrations", "", "");
        wake(control, "drains", "", "");
    } else if (type == &row_tag_type) {
        const struct row_tag *row = key;
        if (str_starts(row->resource_id, "i-")) {
            wake(control, "instance", row->account, row->resource_id);
        }
    } else if (type == &row_migration_type) {
        wake(control, "migration", "", ((const struct row_migration *)key)->id);
        wake(control, "drains", "", "");
    } else if (type == &row_image_type) {
        wake(control, "job", "", ((const struct row_image *)key)->id);
    }
}

/* At a start nobody knows what was left half done: everything is looked at once. */
static bool
wake_all(struct txn *txn, void *ctx, struct err *err)
{
    struct control *control = ctx;
    struct row_query query = {0};
    const struct row_type *const types[] = {
        &row_instance_type, &row_volume_type,   &row_import_task_type,
        &row_image_type,    &row_vpc_type,      &row_nat_gateway_type,
        &row_node_type,     &row_vpc_node_type, &row_eni_gone_type,
        &row_migration_type};
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct row_list list;
        if (!row_list(txn, types[t], &query, &list, err)) {
            return false;
        }
        for (size_t i = 0; i < list.count; i++) {
            on_change(control, types[t], list.rows[i]);
        }
    }
    return true;
}

static void
wake_instance(void *ctx, const char *account, const char *instance_id)
{
    wake(ctx, "instance", account, instance_id);
}

static void
wake_place(void *ctx, const char *vpc_id, const char *node_id)
{
    wake(ctx, "place", vpc_id, node_id);
}

static void
tell_sharing(struct control *control)
{
    if (control->config.sharing) {
        control->config.sharing(control->config.sharing_ctx,
                                members_count(control->members));
    }
}

/* The work was divided anew: what is ours now may have been another's, half done. */
static bool
on_members_changed(void *ctx)
{
    struct control *control = ctx;
    AUTO(arena) struct arena *arena = arena_create();
    struct err err = {0};
    log_info("control: %zu processes share the work", members_count(control->members));
    tell_sharing(control);
    if (control->nodes) {
        nodes_members_changed(control->nodes);
    }
    return store_read(control->config.store, arena, wake_all, control, &err) ||
           (log_warn("control: looking at everything: %s", err.msg), false);
}

/* ---- life ------------------------------------------------------------------------ */

static bool
enter(struct control *control, struct err *err)
{
    struct nodes_config *config = &control->config;
    config->members =
        members_create(&(struct members_config){.loop = config->loop,
                                                .store = config->store,
                                                .clock = config->clock,
                                                .rng = config->rng,
                                                .id = config->control_id,
                                                .alone = config->alone,
                                                .changed = on_members_changed,
                                                .ctx = control},
                       err);
    control->members = config->members;
    control->nodes = config->members ? nodes_create(config, err) : NULL;
    if (!control->nodes) {
        return false;
    }
    tell_sharing(control);
    if (!config->link_host) {
        return true;
    }
    AUTO(buf) struct buf link = {0};
    buf_printf(&link, strchr(config->link_host, ':') ? "[%s]:%d" : "%s:%d",
               config->link_host,
               config->link_port ? config->link_port : nodes_port(control->nodes));
    return members_set_link(control->members, buf_str(&link), err);
}

struct control *
control_create(const struct nodes_config *config, struct err *err)
{
    struct control *control = xcalloc(1, sizeof *control);
    control->config = *config;
    if (!enter(control, err)) {
        return NULL; /* The caller ends the program; nothing was promised to anyone yet.
                      */
    }
    control->queue = queue_create(&(struct queue_config){.loop = config->loop,
                                                         .store = config->store,
                                                         .pass = control_pass,
                                                         .ctx = control});
    control->janitor = janitor_create(&control->config);
    control->leases = leases_create(&(struct leases_config){.config = &control->config,
                                                            .wake = wake_instance,
                                                            .wake_place = wake_place,
                                                            .ctx = control});
    store_watch(config->store, on_change, control);
    AUTO(arena) struct arena *arena = arena_create();
    if (!store_read(config->store, arena, wake_all, control, err)) {
        return NULL; /* The caller ends the program; nothing was promised to anyone yet.
                      */
    }
    return control;
}

struct nodes *
control_nodes(struct control *control)
{
    return control->nodes;
}

static void
on_queue_closed(void *ctx)
{
    struct control *control = ctx;
    void (*closed)(void *) = control->closed;
    void *closed_ctx = control->closed_ctx;
    nodes_close(control->nodes);
    members_close(control->members);
    free(control);
    closed(closed_ctx);
}

void
control_close(struct control *control, void (*closed)(void *ctx), void *ctx)
{
    store_unwatch(control->config.store, on_change, control);
    control->closed = closed;
    control->closed_ctx = ctx;
    janitor_close(control->janitor);
    leases_close(control->leases);
    queue_close(control->queue, on_queue_closed, control);
}
