/* instances.h - instances as EC2's handlers load and show them.
 *
 * Purpose:  one view holds an instance's row with its state, interface, root volume and
 *           tags; the Describe calls filter views and turn them into answers.
 * Place:    service/ec2; used by the instance handlers only.
 * Memory:   views borrow rows, as the store handed them out; outputs borrow from both, all in the call's arena.
 * Threads:  the request's. */
#pragma once
#include "core/lifecycle.h"
#include "service/ec2/common.h"

struct instance_view {
    const struct row_instance *inst;
    enum instance_state state;
    const struct row_machine_seen *seen; /* Loaded only where it was asked for. */
    const struct row_eni *eni;           /* NULL: gone, or not asked for. */
    const struct row_volume *root;       /* The same. */
    struct tag_set tags;
    const struct ec2_network_interface
        *nics; /* With VIEW_NICS: in their places' order. */
    size_t nic_count;
    const struct row_instance_event *const *events; /* DescribeInstanceStatus only. */
    size_t event_count;
};

struct instance_views {
    struct instance_view *items;
    size_t count;
};

enum view_parts {
    VIEW_ENI = 1 << 0,
    VIEW_ROOT = 1 << 1,
    VIEW_TAGS = 1 << 2,
    VIEW_SEEN = 1 << 3,
    VIEW_NICS = 1 << 4, /* All of its interfaces, as they are shown. */
    VIEW_ALL = VIEW_ENI | VIEW_NICS | VIEW_ROOT | VIEW_TAGS,
};

/* The visible instances of the account in the region, by reservation and then id; only
 * those in 'ids' when there are any (each once; a malformed or missing one is an
 * error). */
MUST_CHECK bool instance_views_load(struct call *call, const char *const *ids,
                                    size_t id_count, unsigned parts,
                                    struct instance_views *out, struct err *err);
/* The page's part of them that passes the filters, however many there are: only what is on
 * it, or before it is filtered out, is looked at. */
MUST_CHECK bool instance_views_page(struct call *call, const struct filters *filters,
                                    struct page *page, unsigned parts,
                                    struct instance_views *out, struct err *err);
/* Instances are listed by reservation, so a page ends at both ids. */
const char *instance_page_key(struct call *call, const struct instance_view *view);
/* Whether the account has more rows of instances than 'limit'. */
MUST_CHECK bool instance_rows_exceed(struct call *call, size_t limit, bool *out,
                                     struct err *err);
/* Of one instance that was found already. */
MUST_CHECK bool instance_view_load(struct call *call, const struct row_instance *inst,
                                   unsigned parts, struct instance_view *out,
                                   struct err *err);
/* All of a reservation, in launch order. */
MUST_CHECK bool instance_views_of_reservation(struct call *call,
                                              const char *reservation,
                                              struct instance_views *out,
                                              struct err *err);

/* Keeps those that pass the filters and belong on the page. */
void instance_views_select(struct call *call, const struct filters *filters,
                           struct page *page, struct instance_views *views);

/* An instance that may still be changed: ERR_INSTANCE_STATE once it goes away. */
MUST_CHECK bool instance_find_changeable(struct call *call, const char *id,
                                         const struct row_instance **out,
                                         enum instance_state *out_state,
                                         struct err *err);

/* Groups neighbours of the same reservation. */
struct ec2_reservation *reservations_out(struct call *call,
                                         const struct instance_views *views,
                                         size_t *out_count);
struct ec2_instance_state *instance_state_out(struct call *call,
                                              enum instance_state state);
struct ec2_instance_metadata_options_response *
metadata_options_out(struct call *call, const struct row_instance *inst);
/* MaintenanceOptions.AutoRecovery: "default", or "disabled". */
const char *auto_recovery_out(const struct row_instance *inst);
struct ec2_group_identifier *groups_out(struct call *call,
                                        const struct row_instance *inst);

/* DescribeInstances' own filters, over struct instance_view. */
extern const struct filter_def instance_filters[];
extern const size_t instance_filter_count;

/* What an account may have; the cloud's default where the account has none of its own.
 */
struct quotas {
    int64_t vcpus, instances, disk_gib;
};
MUST_CHECK bool quotas_load(struct call *call, struct quotas *out, struct err *err);
bool err_vcpu_limit(struct err *err, int64_t limit);

/* A stopped instance starts: on its node; else, where it can be had elsewhere, on another
 * one of its zone. ERR_INSTANCE_CAPACITY says where its root volume lies, and what to do. */
MUST_CHECK bool instance_start(struct call *call, const struct row_instance *inst,
                               struct err *err);
