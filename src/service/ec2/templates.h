/* templates.h - launch templates: their rows, versions and data.
 *
 * Data is kept as the JSON of the request's LaunchTemplateData: its members are those
 * of RunInstances, so that a launch reads a version as if it were the rest of its
 * request.
 * Place:    service/ec2; used by the launch template handlers and RunInstances.
 * Memory:   the call's arena. */
#pragma once
#include "service/ec2/common.h"

/* AWS's quotas; the last is ours. */
#define TEMPLATES_MAX 5000          /* A region. */
#define TEMPLATE_VERSIONS_MAX 10000 /* A template. */
#define TEMPLATE_BYTES_MAX 65536    /* A version, as JSON. */

/* How a request names a template: exactly one of both. */
struct template_name {
    const char *id, *name;
};

/* The caller's template, or AWS's error for a missing one. */
MUST_CHECK bool template_find(struct call *call, const struct template_name *by,
                              const struct row_launch_template **out, struct err *err);
/* "$Latest", "$Default" or a number; NULL or "" is $Default. */
MUST_CHECK bool template_version_number(const struct row_launch_template *t,
                                        const char *text, int64_t *out,
                                        struct err *err);
/* '*out' NULL: there is none. */
MUST_CHECK bool template_version_get(struct call *call,
                                     const struct row_launch_template *t,
                                     int64_t number,
                                     const struct row_launch_template_version **out,
                                     struct err *err);
bool err_no_version(struct err *err, const struct row_launch_template *t,
                    int64_t number);
struct ec2_launch_template *template_out(struct call *call,
                                         const struct row_launch_template *t,
                                         struct ec2_launch_template *out);
MUST_CHECK bool template_version_out(struct call *call,
                                     const struct row_launch_template *t,
                                     const struct row_launch_template_version *v,
                                     struct ec2_launch_template_version *out,
                                     struct err *err);
/* LaunchTemplateData as it comes in a request: present, with good user data. */
MUST_CHECK bool template_data_check(struct call *call,
                                    const struct ec2_request_launch_template_data *data,
                                    struct err *err);
/* Writes version 'number'; 'source' (or NULL) gives what 'data' leaves out. */
MUST_CHECK bool
template_version_put(struct call *call, const struct row_launch_template *t,
                     int64_t number, const char *description,
                     const struct ec2_request_launch_template_data *data,
                     const struct row_launch_template_version *source, struct err *err);
/* Copies the members that are present in 'top' over 'base'; both of 'desc'. */
void template_overlay(const struct desc *desc, const void *top, void *base);
