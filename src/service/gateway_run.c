/* gateway_run.c - an operation's input, its transaction, its question, and its answer.
 */
#include "base/jsonio.h"
#include "service/gateway_parts.h"

#define DETAIL_LEN 256

/* What an operator asked for, for the audit. No input of theirs holds a secret. */
static const char *
operators_detail(const struct visit *visit)
{
    AUTO(buf) struct buf text = {0};
    json_write(visit->operation->in, visit->in, 0, &text);
    return arena_strndup(visit->request->arena, buf_str(&text), DETAIL_LEN - 1);
}

bool
visit_decode(struct visit *visit)
{
    const struct operation *op = visit->operation;
    const struct http_request *r = visit->request;
    enum protocol protocol = visit->service->protocol;
    visit->in = arena_alloc(r->arena, op->in->size);
    bool ok = protocol == PROTOCOL_JSON ? json_decode(op->in, r->body, r->body_len,
                                                      r->arena, visit->in, &visit->err)
                                        : form_decode(protocol, op->in, &visit->params,
                                                      r->arena, visit->in, &visit->err);
    if (ok && visit->who.is_operator && op->writes) {
        visit->detail = operators_detail(visit);
    }
    return ok && params_validate(protocol, op->in, visit->in, &visit->err);
}

static void
fill_call(struct visit *visit, struct txn *txn)
{
    const struct gateway_config *config = &visit->gateway->config;
    bool xml = visit->service->protocol == PROTOCOL_EC2 && !visit->json;
    visit->call = (struct call){
        .arena = visit->request->arena,
        .txn = txn,
        .config = config->cloud,
        .pool = config->pool,
        .rng = config->rng,
        .now_ns = visit->now_ns,
        .account = visit->who.account,
        .key_id = visit->who.key_id,
        .user_arn = visit->who.user_arn,
        .region = visit->claim.region,
        .source_ip = visit->request->source_ip,
        .request_id = visit->request_id,
        .operation = visit->operation->name,
        .fragments = xml ? visit->gateway->fragments : NULL,
    };
}

/* The transaction's body: may run again, so it makes everything anew. */
static bool
run_in_txn(struct txn *txn, void *ctx, struct err *err)
{
    struct visit *visit = ctx;
    const struct operation *op = visit->operation;
    fill_call(visit, txn);
    visit->out = op->out ? arena_alloc(visit->request->arena, op->out->size) : NULL;
    if (!op->run(&visit->call, visit->in, visit->out, err)) {
        return false;
    }
    visit->detail = visit->call.detail ? visit->call.detail : visit->detail;
    return !op->writes || audit_write(txn, visit, err);
}

bool
visit_run(struct visit *visit, bool brief)
{
    struct store *store = visit->gateway->config.store;
    struct arena *arena = visit->request->arena;
    bool ok = visit->operation->writes
                  ? store_write(store, arena, run_in_txn, visit, &visit->err)
              : brief ? store_read_brief(store, arena, run_in_txn, visit, BRIEF_ROWS,
                                         &visit->large, &visit->err)
                      : store_read(store, arena, run_in_txn, visit, &visit->err);
    visit->call.txn = NULL;
    visit->detail = visit->call.detail ? visit->call.detail : visit->detail;
    visit->recorded = ok && visit->operation->writes;
    if (visit->recorded && visit->service->protocol == PROTOCOL_JSON) {
        keys_forget(visit->gateway->keys); /* Operators change keys and accounts. */
    }
    return ok;
}

void
visit_ask_live(struct visit *visit)
{
    const struct gateway_ops *ops = &visit->gateway->config.ops;
    const struct live_ask *ask = visit->call.live;
    const void *data = NULL;
    size_t len = 0;
    if (ops->live) {
        ops->live(ops->ctx, ask, LIVE_TIMEOUT_NS, visit->request->arena, &data, &len);
    }
    ask->finish(visit->request->arena, visit->out, data, len);
}

/* ---- the answer ------------------------------------------------------------------ */

static void
answer_error(struct visit *visit, struct http_answer *answer)
{
    enum protocol protocol = visit_protocol(visit);
    const struct service *service = visit->service;
    bool json = protocol == PROTOCOL_JSON;
    answer->status = err_info(visit->err.code)->http;
    answer->content_type = json          ? "application/x-amz-json-1.1"
                           : visit->json ? "application/json"
                                         : "text/xml;charset=UTF-8";
    error_encode(protocol, visit->json, &visit->err,
                 service ? service->xml_namespace : NULL, visit->request_id,
                 &answer->body);
    http_answer_header(answer, "x-amzn-RequestId", visit->request_id);
}

static void
answer_success(struct visit *visit, struct http_answer *answer)
{
    const struct operation *op = visit->operation;
    const struct service *service = visit->service;
    answer->status = 200;
    http_answer_header(answer, "x-amzn-RequestId", visit->request_id);
    if (service->protocol == PROTOCOL_JSON) {
        answer->content_type = "application/x-amz-json-1.1";
        if (op->out) {
            json_encode(op->out, visit->out, &answer->body);
        } else {
            buf_puts(&answer->body, "{}");
        }
    } else if (visit->json) {
        answer->content_type = "application/json";
        ec2_json_encode(op->out, visit->out, &answer->body);
    } else {
        answer->content_type = "text/xml;charset=UTF-8";
        const struct answer head = {
            .operation = op->name,
            .xml_namespace = service->xml_namespace,
            .result_wrapper = op->result_wrapper,
            .request_id = visit->request_id,
        };
        xml_encode(service->protocol, &head, op->out, visit->out, &answer->body);
    }
}

void
visit_answer(struct visit *visit, struct http_answer *answer)
{
    buf_clear(&answer->body);
    if (!visit->err.code) {
        answer_success(visit, answer);
        if (answer->body.full) {
            (void)err_set(&visit->err, ERR_INTERNAL, "the answer is too large");
            buf_clear(&answer->body);
            answer->header_count = 0;
        }
    }
    if (visit->err.code) {
        answer_error(visit, answer);
    }
}
