/* endpoint_policy.c - the document that says what may go through a VPC endpoint.
 *
 * It is checked, kept and shown. Nothing evaluates it, so only one that lets everything pass is
 * taken: another would be believed, and would not hold. */
#include "base/jsonio.h"
#include "service/ec2/endpoints.h"

static bool
malformed(struct err *err, const char *why)
{
    return err_set(err, ERR_POLICY_DOCUMENT,
                   "The specified policy document is not a valid JSON policy document: "
                   "%s.",
                   why);
}

/* "*", or a list of one. */
static bool
is_star(const json_t *value)
{
    if (json_is_array(value) && json_array_size(value) == 1) {
        value = json_array_get(value, 0);
    }
    const char *text = json_string_value(value);
    return text && str_eq(text, "*");
}

static bool
is_anybody(const json_t *principal)
{
    return is_star(principal) || (json_object_size(principal) == 1 &&
                                  is_star(json_object_get(principal, "AWS")));
}

static bool
check_statement(const json_t *s, struct err *err)
{
    const char *effect = json_string_value(json_object_get(s, "Effect"));
    if (!json_is_object(s) || !effect ||
        (!str_eq(effect, "Allow") && !str_eq(effect, "Deny"))) {
        return malformed(err, "each statement has the effect Allow or Deny");
    }
    if (!json_object_get(s, "Action") == !json_object_get(s, "NotAction") ||
        !json_object_get(s, "Resource") == !json_object_get(s, "NotResource")) {
        return malformed(err, "each statement names actions and resources");
    }
    return true;
}

static bool
allows_all(const json_t *s)
{
    const char *effect = json_string_value(json_object_get(s, "Effect"));
    return str_eq(effect, "Allow") && is_anybody(json_object_get(s, "Principal")) &&
           is_star(json_object_get(s, "Action")) &&
           is_star(json_object_get(s, "Resource")) && !json_object_get(s, "Condition");
}

/* Each is well-formed; whether one allows all, and none denies. */
static bool
check_statements(const json_t *statements, bool *all, struct err *err)
{
    size_t count = json_is_array(statements) ? json_array_size(statements) : 1;
    bool allowed = false, denied = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *s =
            json_is_array(statements) ? json_array_get(statements, i) : statements;
        if (!check_statement(s, err)) {
            return false;
        }
        allowed = allowed || allows_all(s);
        denied =
            denied || str_eq(json_string_value(json_object_get(s, "Effect")), "Deny");
    }
    *all = allowed && !denied;
    return count > 0 || malformed(err, "it has no statement");
}

bool
endpoint_policy_check(const char *policy, struct err *err)
{
    bool all;
    if (!policy) {
        return true;
    }
    size_t len = strlen(policy);
    if (len > ENDPOINT_POLICY_MAX) {
        return malformed(err, "it is longer than 20480 characters");
    }
    AUTO(json) json_t *root = json_loadb(policy, len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *statements = json_object_get(root, "Statement");
    if (!json_is_object(root) || !statements) {
        return malformed(err, "it is no object with a member Statement");
    }
    if (!check_statements(statements, &all, err)) {
        return false;
    }
    return all ||
           err_set(err, ERR_UNSUPPORTED_OPERATION,
                   "Policies of VPC endpoints are not enforced by this cloud, so "
                   "only one that allows every action to everybody is accepted. "
                   "Use security groups to say who may reach the endpoint.");
}
