/* endpoints.h - what the files of VPC endpoints share.
 *
 * Services: those of this cloud's API itself, as interface endpoints: each node that has the
 *           VPC answers at the endpoint's addresses and carries what comes to the control
 *           plane. What this cloud does not have (s3, dynamodb, any gateway endpoint) is no
 *           service of it.
 * Memory:   the call's arena. Threads: the call's. */
#pragma once
#include "service/ec2/interfaces.h"

#define ENDPOINTS_MAX 50 /* Of a VPC, as AWS's quota. */
#define ENDPOINT_POLICY_MAX 20480

/* "com.amazonaws.us-east-1.ec2"; NULL: there are no more. */
const char *endpoint_service(struct call *call, size_t i);
MUST_CHECK bool endpoint_out(struct call *call, const struct row_vpc_endpoint *row,
                             struct tag_set tags, struct ec2_vpc_endpoint *out,
                             struct err *err);
/* What may stand in its place: a JSON document whose statements allow or deny. NULL: none. */
MUST_CHECK bool endpoint_policy_check(const char *policy, struct err *err);
