/* identity.c - GetCallerIdentity: whose key signed. */
#include "service/sts/api.h"

bool
sts_get_caller_identity(struct call *call,
                        const struct sts_get_caller_identity_request *in,
                        struct sts_get_caller_identity_response *out, struct err *err)
{
    (void)in;
    (void)err;
    /* The root identity's user id is the account's own id, as with AWS. */
    out->user_id = call->account;
    out->account = call->account;
    out->arn = call->user_arn;
    return true;
}
