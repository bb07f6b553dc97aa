/* tenant.c - see tenant.h. */
#include "tenant.h"

#include "core/lifecycle.h"
#include "history.h"
#include "service/ec2/api.h"

#define RETRY_NS (2 * NS_PER_S)
#define PER_LAUNCH_MAX 3
#define SWEEP_NS (5 * NS_PER_S)
#define NATS_MAX 2

extern const struct service ec2_service;

struct server {
    char id[48], subnet[48];
    bool up;   /* Told that it runs. */
    bool gone; /* Told that it is terminated. */
};

static struct {
    struct tenant_config config;
    VEC(struct server *) servers;
    VEC(char *) nats; /* Those that it was told of, and has not deleted. */
    unsigned live, tokens;
    bool ended, clean, describing;
} tenant;

/* ---- one call, until it is answered ---------------------------------------------- */

struct errand {
    const char *operation;
    struct server *server; /* NULL: RunInstances, DescribeInstances. */
    char token[32];
    int64_t count;
    const char *type;
    bool recover;   /* Elsewhere, should its host be lost... */
    bool stateless; /* ...for which it may lose its disk. */
    bool follows;   /* Its memory may follow it when it is moved. */
    char *nat;      /* DeleteNatGateway: of that one. */
    size_t known;   /* DescribeInstances: servers that must be in the answer. */
};

static struct server *
server_of(const char *id)
{
    for (size_t i = 0; i < tenant.servers.count; i++) {
        if (str_eq(tenant.servers.items[i]->id, id)) {
            return tenant.servers.items[i];
        }
    }
    return NULL;
}

static void
took(const struct errand *e, const struct ec2_reservation *answer)
{
    for (size_t i = 0; i < answer->instances.count; i++) {
        const struct ec2_instance *inst = &answer->instances.items[i];
        AUTO(free)
        char *place =
            xasprintf("%s %s", inst->subnet_id ? inst->subnet_id : "",
                      inst->private_ip_address ? inst->private_ip_address : "");
        HISTORY(MOMENT_LAUNCHED, .id = inst->instance_id, .other = e->token,
                .place = place);
        if (!server_of(inst->instance_id)) {
            struct server *server = xcalloc(1, sizeof *server);
            snprintf(server->id, sizeof server->id, "%s", inst->instance_id);
            snprintf(server->subnet, sizeof server->subnet, "%s",
                     inst->subnet_id ? inst->subnet_id : "");
            VEC_PUSH(&tenant.servers, server);
            tenant.live++;
        }
    }
}

static void
saw_one(const struct ec2_instance *inst)
{
    struct server *server = server_of(inst->instance_id);
    int64_t code = inst->state && inst->state->has_code ? inst->state->code : 0;
    if (server && !server->up && code == INSTANCE_RUNNING) {
        server->up = true;
        HISTORY(MOMENT_UP, .id = server->id);
    }
    if (server && !server->gone && code == INSTANCE_TERMINATED) {
        server->gone = true;
        tenant.live--;
        HISTORY(MOMENT_GONE, .id = server->id);
    }
}

/* Whatever was launched before the question is in the answer. */
static void
saw_all(const struct errand *e, const struct ec2_describe_instances_result *answer)
{
    struct map *seen = map_create(NULL);
    for (size_t r = 0; r < answer->reservations.count; r++) {
        const struct ec2_reservation *res = &answer->reservations.items[r];
        for (size_t i = 0; i < res->instances.count; i++) {
            map_put(seen, res->instances.items[i].instance_id, seen);
            saw_one(&res->instances.items[i]);
        }
    }
    for (size_t i = 0; i < e->known; i++) {
        const struct server *server = tenant.servers.items[i];
        if (!server->gone && !map_get(seen, server->id)) {
            HISTORY(MOMENT_MISSING, .id = server->id);
        }
    }
    map_destroy(seen);
}

static void
ask_recovery(struct arena *arena, struct ec2_run_instances_request *in)
{
    in->maintenance_options =
        ARENA_NEW(arena, struct ec2_instance_maintenance_options_request);
    in->maintenance_options->auto_recovery = "default";
}

/* What AWS has no word for. */
static void
say_tags(struct arena *arena, const struct errand *e,
         struct ec2_run_instances_request *in)
{
    in->tag_specifications.items = ARENA_NEW(arena, struct ec2_tag_specification);
    in->tag_specifications.count = 1;
    struct ec2_tag_specification *spec = in->tag_specifications.items;
    spec->resource_type = "instance";
    spec->tags.items = ARENA_ARRAY(arena, 2, struct ec2_tag);
    if (e->stateless) {
        spec->tags.items[spec->tags.count++] =
            (struct ec2_tag){.key = "moln:recovery", .value = "rebuild"};
    }
    if (e->follows) {
        spec->tags.items[spec->tags.count++] =
            (struct ec2_tag){.key = "moln:migration", .value = "post-copy"};
    }
}

static void *
errand_ask(struct arena *arena, void *ctx)
{
    const struct errand *e = ctx;
    if (str_eq(e->operation, "RunInstances")) {
        struct ec2_run_instances_request *in =
            ARENA_NEW(arena, struct ec2_run_instances_request);
        in->image_id = CLOUD_IMAGE;
        in->instance_type = e->type;
        in->min_count = in->max_count = e->count;
        in->has_min_count = in->has_max_count = true;
        in->client_token = arena_strdup(arena, e->token);
        if (e->recover) {
            ask_recovery(arena, in);
        }
        if (e->stateless || e->follows) {
            say_tags(arena, e, in);
        }
        return in;
    }
    if (str_eq(e->operation, "DescribeInstances")) {
        return ARENA_NEW(arena, struct ec2_describe_instances_request);
    }
    if (str_eq(e->operation, "CreateNatGateway")) {
        struct ec2_create_nat_gateway_request *in =
            ARENA_NEW(arena, struct ec2_create_nat_gateway_request);
        in->subnet_id = arena_strdup(arena, e->server->subnet);
        in->connectivity_type = "private";
        in->client_token = arena_strdup(arena, e->token);
        return in;
    }
    if (str_eq(e->operation, "DeleteNatGateway")) {
        struct ec2_delete_nat_gateway_request *in =
            ARENA_NEW(arena, struct ec2_delete_nat_gateway_request);
        in->nat_gateway_id = arena_strdup(arena, e->nat);
        return in;
    }
    if (str_eq(e->operation, "ModifyInstanceMaintenanceOptions")) {
        struct ec2_modify_instance_maintenance_options_request *in =
            ARENA_NEW(arena, struct ec2_modify_instance_maintenance_options_request);
        in->instance_id = arena_strdup(arena, e->server->id);
        in->auto_recovery = e->recover ? "default" : "disabled";
        return in;
    }
    /* The others begin with the same list of ids. */
    struct ec2_stop_instances_request *in =
        ARENA_NEW(arena, struct ec2_stop_instances_request);
    const char **ids = ARENA_ARRAY(arena, 1, const char *);
    ids[0] = arena_strdup(arena, e->server->id);
    if (str_eq(e->operation, "StopInstances")) {
        in->instance_ids.items = ids;
        in->instance_ids.count = 1;
        return in;
    }
    if (str_eq(e->operation, "StartInstances")) {
        struct ec2_start_instances_request *start =
            ARENA_NEW(arena, struct ec2_start_instances_request);
        start->instance_ids.items = ids;
        start->instance_ids.count = 1;
        return start;
    }
    if (str_eq(e->operation, "RebootInstances")) {
        struct ec2_reboot_instances_request *reboot =
            ARENA_NEW(arena, struct ec2_reboot_instances_request);
        reboot->instance_ids.items = ids;
        reboot->instance_ids.count = 1;
        return reboot;
    }
    struct ec2_terminate_instances_request *terminate =
        ARENA_NEW(arena, struct ec2_terminate_instances_request);
    terminate->instance_ids.items = ids;
    terminate->instance_ids.count = 1;
    return terminate;
}

/* What a guest remembers, its owner may give up. */
static void
note_asked(const struct errand *e)
{
    static const char *const ends[] = {"StopInstances", "TerminateInstances",
                                       "RebootInstances"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (str_eq(e->operation, ends[i])) {
            HISTORY(MOMENT_ASKED, .id = e->server->id);
        }
    }
}

static void describe(void);
static void errand_done(void *ctx, const void *out, const struct err *err);

static void
errand_send(void *ctx)
{
    struct errand *e = ctx;
    if (str_eq(e->operation, "DescribeInstances")) {
        e->known = tenant.servers.count;
    }
    trace("tenant: %s %s%s", e->operation, e->server ? e->server->id : "", e->token);
    note_asked(e);
    cloud_call(tenant.config.cloud, &ec2_service, e->operation, errand_ask, errand_done,
               e);
}

static void
errand_done(void *ctx, const void *out, const struct err *err)
{
    struct errand *e = ctx;
    trace("tenant: %s %s%s: %s", e->operation, e->server ? e->server->id : "", e->token,
          err->code == ERR_NONE ? "ok" : err->msg);
    bool describes = str_eq(e->operation, "DescribeInstances");
    if (err->code == ERR_GONE && !describes) {
        (void)world_after(NULL, world_between(CHANCE_TENANT, 1, RETRY_NS), errand_send,
                          e);
        return;
    }
    if (err->code == ERR_NONE && describes) {
        saw_all(e, out);
    } else if (err->code == ERR_NONE && str_eq(e->operation, "RunInstances")) {
        took(e, out);
        if (world_percent(CHANCE_TENANT, 50)) {
            describe(); /* Another process may have to answer. */
        }
    }
    if (err->code == ERR_NONE && str_eq(e->operation, "CreateNatGateway")) {
        const struct ec2_create_nat_gateway_result *made = out;
        char *id = xstrdup(made->nat_gateway->nat_gateway_id);
        VEC_PUSH(&tenant.nats, id);
    }
    if (describes) {
        tenant.describing = false;
    }
    free(e->nat);
    free(e);
}

static void
call(const char *operation, struct server *server)
{
    struct errand *e = xcalloc(1, sizeof *e);
    e->operation = operation;
    e->server = server;
    if (str_eq(operation, "ModifyInstanceMaintenanceOptions")) {
        e->recover = world_percent(CHANCE_TENANT, 60);
    }
    errand_send(e);
}

/* A gateway that one of its hosts is to do for all others; or no longer. */
static void
nat(struct server *server)
{
    struct errand *e = xcalloc(1, sizeof *e);
    if (tenant.nats.count >= NATS_MAX) {
        size_t which = world_below(CHANCE_TENANT, tenant.nats.count);
        e->operation = "DeleteNatGateway";
        e->nat = tenant.nats.items[which];
        tenant.nats.items[which] = tenant.nats.items[--tenant.nats.count];
    } else {
        e->operation = "CreateNatGateway";
        e->server = server;
        snprintf(e->token, sizeof e->token, "nat-%u", ++tenant.tokens);
    }
    errand_send(e);
}

static void
launch(void)
{
    static const char *const names[] = {"t3.nano", "t3.micro", "m5.large"};
    struct errand *e = xcalloc(1, sizeof *e);
    e->operation = "RunInstances";
    e->count = world_between(CHANCE_TENANT, 1, PER_LAUNCH_MAX);
    e->recover = world_percent(CHANCE_TENANT, 40);
    e->stateless = e->recover || world_percent(CHANCE_TENANT, 50);
    e->follows = world_percent(CHANCE_TENANT, 60);
    e->type = names[world_below(CHANCE_TENANT, ARRAY_LEN(names))];
    snprintf(e->token, sizeof e->token, "token-%u", ++tenant.tokens);
    errand_send(e);
}

static void
describe(void)
{
    if (!tenant.describing) {
        tenant.describing = true;
        call("DescribeInstances", NULL);
    }
}

static struct server *
any_server(void)
{
    size_t count = tenant.servers.count;
    struct server *server =
        count ? tenant.servers.items[world_below(CHANCE_TENANT, count)] : NULL;
    return server && !server->gone ? server : NULL;
}

/* ---- its days -------------------------------------------------------------------- */

static void
on_idea(void *ctx)
{
    static const struct {
        unsigned percent;
        const char *operation;
    } ideas[] = {
        {16, "TerminateInstances"},
        {12, "StopInstances"},
        {14, "StartInstances"},
        {8, "RebootInstances"},
    };
    if (tenant.ended) {
        return;
    }
    (void)world_after(NULL, world_between(CHANCE_TENANT, 1, tenant.config.pause_ns),
                      on_idea, NULL);
    uint64_t roll = world_below(CHANCE_TENANT, 100);
    struct server *server = any_server();
    for (size_t i = 0; i < ARRAY_LEN(ideas); i++) {
        if (roll < ideas[i].percent) {
            if (server) {
                call(ideas[i].operation, server);
            }
            return;
        }
        roll -= ideas[i].percent;
    }
    if (roll < 15) {
        describe();
    } else if (roll < 21) {
        if (server) {
            call("ModifyInstanceMaintenanceOptions", server);
        }
    } else if (roll < 24) {
        if (server) {
            nat(server);
        }
    } else if (tenant.live < tenant.config.servers_max) {
        launch();
    }
}

/* Terminates what is not gone, and looks, until all is. */
static void
on_sweep(void *ctx)
{
    bool any = false;
    for (size_t i = 0; i < tenant.servers.count; i++) {
        if (!tenant.servers.items[i]->gone) {
            call("TerminateInstances", tenant.servers.items[i]);
            any = true;
        }
    }
    describe();
    if (any) {
        (void)world_after(NULL, 6 * SWEEP_NS, on_sweep, NULL);
    }
}

void
tenant_begin(const struct tenant_config *config)
{
    tenant.config = *config;
    (void)world_after(NULL, NS_PER_S, on_idea, NULL);
}

void
tenant_end(bool clean)
{
    tenant.ended = true;
    if (clean) {
        (void)world_after(NULL, SWEEP_NS, on_sweep, NULL);
    }
}

unsigned
tenant_launched(void)
{
    return (unsigned)tenant.servers.count;
}
