/* gateway_stream.c - tunnels and consoles: a connection handed over after one signed
 * call.
 *
 *   POST /moln-data/tunnel/i-...?port=22   Upgrade: moln-tunnel
 *   POST /moln-data/console/i-...          Upgrade: moln-console
 *
 * A ticket is written in the same transaction as the audit's row; main hands it, with
 * the socket, to the link, where it is good once and for 30 s. */
#include "base/log.h"
#include "core/id.h"
#include "core/lifecycle.h"
#include "service/gateway_parts.h"
#include <strings.h>

#define TICKET_NS (30 * NS_PER_S)

static bool
no_such_instance(const char *id, struct err *err)
{
    return err_set(err, ERR_INSTANCE_NOT_FOUND, "The instance ID '%s' does not exist",
                   id);
}

/* The instance, if it is this account's, in this region, and running. */
static bool
find_instance(struct txn *txn, const struct visit *visit, const char *id,
              const struct row_instance **out, struct err *err)
{
    const void *found;
    const struct row_instance key = {.account = visit->who.account, .id = id};
    if (!row_get(txn, &row_instance_type, &key, &found, err)) {
        return false;
    }
    const struct row_instance *inst = found;
    if (!inst || !str_eq(inst->region, visit->claim.region) ||
        !instance_visible(inst, visit->now_ns)) {
        return no_such_instance(id, err);
    }
    const struct row_machine_seen seen_key = {.id = id};
    if (!row_get(txn, &row_machine_seen_type, &seen_key, &found, err)) {
        return false;
    }
    enum instance_state state = instance_state_of(inst, found);
    bool console = visit->special == SPECIAL_CONSOLE;
    bool up = state == INSTANCE_RUNNING || (console && state == INSTANCE_PENDING);
    if (!up || str_empty(inst->node_id)) {
        return err_set(
            err, ERR_INSTANCE_STATE,
            "The instance '%s' is not in a state from which it can be reached: "
            "it is %s.",
            id, instance_state_name(state));
    }
    *out = inst;
    return true;
}

static bool
check_account(struct txn *txn, const struct visit *visit, struct err *err)
{
    const void *found;
    const struct row_account key = {.id = visit->who.account};
    if (!row_get(txn, &row_account_type, &key, &found, err)) {
        return false;
    }
    const struct row_account *account = found;
    if (account && account->tunnels_off) {
        return err_set(err, ERR_DENIED,
                       "The operator of this cloud has switched tunnels off for your "
                       "account.");
    }
    return true;
}

static bool
ticket_in_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct visit *visit = ctx;
    struct stream_request *stream = &visit->stream;
    const struct row_instance *inst;
    if (!check_account(txn, visit, err) ||
        !find_instance(txn, visit, stream->instance_id, &inst, err)) {
        return false;
    }
    struct arena *arena = visit->request->arena;
    stream->node_id = arena_strdup(arena, inst->node_id);
    stream->address = arena_strdup(arena, inst->private_ip);
    stream->eni_id =
        inst->eni_ids.count ? arena_strdup(arena, inst->eni_ids.items[0]) : NULL;
    const struct row_tunnel_ticket ticket = {
        .id = stream->ticket,
        .account = visit->who.account,
        .instance_id = stream->instance_id,
        .node_id = stream->node_id,
        .expires_at = visit->now_ns + TICKET_NS,
    };
    return row_insert(txn, &row_tunnel_ticket_type, &ticket, err) &&
           audit_write(txn, visit, err);
}

/* ---- the request ----------------------------------------------------------------- */

static bool
read_port(struct visit *visit, int *out)
{
    struct params query = {0};
    const struct http_request *r = visit->request;
    if (!params_parse(&query, r->query, strlen(r->query), r->arena, &visit->err)) {
        return false;
    }
    const char *text = params_get(&query, "port");
    size_t digits = text ? strspn(text, "0123456789") : 0;
    *out = digits && digits <= 5 && !text[digits] ? atoi(text) : 0;
    return (*out > 0 && *out < 65536) ||
           err_set(&visit->err, ERR_INVALID_PARAMETER,
                   "A tunnel needs port=N, a number from 1 to 65535.");
}

static bool
read_request(struct visit *visit)
{
    const struct http_request *r = visit->request;
    struct stream_request *stream = &visit->stream;
    struct err *err = &visit->err;
    bool tunnel = visit->special == SPECIAL_TUNNEL;
    const char *want = tunnel ? "moln-tunnel" : "moln-console";
    const char *upgrade = http_header(r, "upgrade");
    if (visit->who.is_operator) {
        return err_set(err, ERR_DENIED, "Tunnels are for tenants.");
    }
    if (strcmp(r->method, "POST") != 0 || !upgrade || strcasecmp(upgrade, want) != 0) {
        return err_set(err, ERR_INVALID_PARAMETER, "POST with 'Upgrade: %s' is wanted.",
                       want);
    }
    stream->what = tunnel ? "tunnel" : "console";
    stream->account = visit->who.account;
    stream->instance_id = strrchr(r->path, '/') + 1;
    stream->ticket = id_new(r->arena, visit->gateway->config.rng, "ticket");
    if (!id_valid("i", stream->instance_id)) {
        return err_set(err, ERR_INSTANCE_MALFORMED, "Invalid id: \"%.64s\"",
                       stream->instance_id);
    }
    return !tunnel || read_port(visit, &stream->port);
}

/* On a connection thread, after 101 has been sent. */
static void
hand_over(void *ctx, int fd)
{
    struct visit *visit = ctx;
    const struct gateway_ops *ops = &visit->gateway->config.ops;
    struct err err = {0};
    if (fd < 0) {
        log_error("request %s: the socket could not be handed over", visit->request_id);
    } else if (!ops->open_stream(ops->ctx, &visit->stream, fd, &err)) {
        log_warn("request %s, %s to %s: %s", visit->request_id, visit->stream.what,
                 visit->stream.instance_id, err.msg);
    }
}

bool
stream_begin(struct visit *visit, struct http_answer *answer)
{
    struct arena *arena = visit->request->arena;
    if (!visit->gateway->config.ops.open_stream) {
        return err_set(&visit->err, ERR_UNSUPPORTED_OPERATION,
                       "Tunnels are not served here.");
    }
    if (!read_request(visit)) {
        return false;
    }
    visit->detail = visit->stream.port
                        ? arena_printf(arena, "%s port %d", visit->stream.instance_id,
                                       visit->stream.port)
                        : visit->stream.instance_id;
    if (!store_write(visit->gateway->config.store, arena, ticket_in_txn, visit,
                     &visit->err)) {
        return false;
    }
    visit->recorded = true;
    answer->status = 101;
    http_answer_header(answer, "Upgrade", http_header(visit->request, "upgrade"));
    http_answer_header(answer, "x-amzn-RequestId", visit->request_id);
    answer->upgraded = hand_over;
    answer->upgraded_ctx = visit;
    return true;
}
