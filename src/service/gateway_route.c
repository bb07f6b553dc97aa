/* gateway_route.c - which operation of which service a request asks for. */
#include "service/ec2/api.h"
#include "service/gateway_parts.h"
#include "service/moln/api.h"
#include "service/sts/api.h"
#include <strings.h>

static const struct service *const services[] = {&ec2_service, &sts_service,
                                                 &moln_service};

const struct service *
service_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        if (strcmp(services[i]->name, name) == 0) {
            return services[i];
        }
    }
    return NULL;
}

/* Before a signature has told: by the look of the request. */
static enum protocol
guess_protocol(const struct http_request *request)
{
    if (http_header(request, "x-amz-target") || str_starts(request->path, "/moln")) {
        return PROTOCOL_JSON;
    }
    const char *version = "Version=2016-11-15";
    bool ec2 = strstr(request->query, version) ||
               memmem(request->body, request->body_len, version, strlen(version));
    return ec2 ? PROTOCOL_EC2 : PROTOCOL_QUERY;
}

enum protocol
visit_protocol(const struct visit *visit)
{
    if (visit->service) {
        return visit->service->protocol;
    }
    if (visit->claim.service && strcmp(visit->claim.service, "moln-data") == 0) {
        return PROTOCOL_JSON;
    }
    return guess_protocol(visit->request);
}

/* ---- the operation --------------------------------------------------------------- */

static bool
find_operation(struct visit *visit, const char *name)
{
    const struct service *service = visit->service;
    struct err *err = &visit->err;
    visit->operation = service_operation(service, name);
    if (visit->operation) {
        visit->operation_name = visit->operation->name;
        return true;
    }
    if (service_knows(service, name)) {
        visit->operation_name = arena_strdup(visit->request->arena, name);
        return err_set(err, ERR_UNSUPPORTED_OPERATION,
                       "The operation %.64s is not supported.", name);
    }
    switch (service->protocol) {
    case PROTOCOL_EC2:
        return err_set(err, ERR_INVALID_ACTION,
                       "The action %.64s is not valid for this web service.", name);
    case PROTOCOL_QUERY:
        return err_set(err, ERR_INVALID_ACTION,
                       "Could not find operation %.64s for version %s", name,
                       service->api_version);
    default:
        return err_set(err, ERR_UNKNOWN_OPERATION, "There is no operation %.64s.",
                       name);
    }
}

/* What the protocol itself reads may stand there once, as any other parameter. */
static bool
check_once(struct visit *visit, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < visit->params.count; i++) {
        count += strcmp(visit->params.items[i].name, name) == 0;
    }
    return count <= 1 || err_set(&visit->err, ERR_INVALID_PARAMETER,
                                 "The parameter %s may only be specified once", name);
}

static bool
route_form(struct visit *visit)
{
    const struct http_request *r = visit->request;
    struct err *err = &visit->err;
    bool post = strcmp(r->method, "POST") == 0;
    if (!post && strcmp(r->method, "GET") != 0) {
        return err_set(err, ERR_METHOD_NOT_ALLOWED,
                       "The method %.16s is not allowed here.", r->method);
    }
    if (strcmp(r->path, "/") != 0 && *r->path) {
        return err_set(err, ERR_INVALID_ACTION, "There is nothing at %.128s.", r->path);
    }
    if (!params_parse(&visit->params, r->query, strlen(r->query), r->arena, err) ||
        (post && !params_parse(&visit->params, r->body, r->body_len, r->arena, err))) {
        return false;
    }
    if (!check_once(visit, "Action") || !check_once(visit, "Version")) {
        return false;
    }
    const char *action = params_get(&visit->params, "Action");
    const char *version = params_get(&visit->params, "Version");
    if (str_empty(action)) {
        return err_set(err, ERR_MISSING_ACTION,
                       "The request must contain the parameter Action");
    }
    if (version && strcmp(version, visit->service->api_version) != 0) {
        return err_set(err, ERR_NO_SUCH_VERSION,
                       "The requested version (%.32s) of service %s does not exist",
                       version, visit->service->name);
    }
    return find_operation(visit, action);
}

static bool
route_json(struct visit *visit)
{
    const struct http_request *r = visit->request;
    const char *target = http_header(r, "x-amz-target");
    size_t prefix = strlen(visit->service->target_prefix);
    if (strcmp(r->method, "POST") != 0 || !target ||
        strncmp(target, visit->service->target_prefix, prefix) != 0 ||
        target[prefix] != '.') {
        return err_set(&visit->err, ERR_UNKNOWN_OPERATION,
                       "POST with 'X-Amz-Target: %s.OPERATION' is wanted.",
                       visit->service->target_prefix);
    }
    return find_operation(visit, target + prefix + 1);
}

/* 'Accept: application/json', and nothing that is liked better before it. */
static bool
wants_json(const struct http_request *request)
{
    const char *accept = http_header(request, "accept");
    return accept && strncasecmp(accept, "application/json", 16) == 0;
}

bool
visit_route(struct visit *visit)
{
    if (!visit->service) {
        return err_set(&visit->err, ERR_UNKNOWN_OPERATION,
                       "There is nothing at %.128s.", visit->request->path);
    }
    switch (visit->service->protocol) {
    case PROTOCOL_EC2:
    case PROTOCOL_QUERY:
        visit->json =
            visit->service->protocol == PROTOCOL_EC2 && wants_json(visit->request);
        return route_form(visit);
    default:
        return route_json(visit);
    }
}
