/* dhcp.c - sets of DHCP options. */
#include "service/ec2/network.h"

/* ---- shown ---- */

static struct ec2_dhcp_options
dhcp_out(struct call *call, const struct row_dhcp_options *row, struct tag_set tags)
{
    size_t count = row->settings.count;
    struct ec2_dhcp_configuration *items =
        ARENA_ARRAY(call->arena, count, struct ec2_dhcp_configuration);
    for (size_t i = 0; i < count; i++) {
        const struct row_dhcp_setting *setting = &row->settings.items[i];
        items[i].key = setting->key;
        items[i].values.items =
            ARENA_ARRAY(call->arena, setting->values.count, struct ec2_attribute_value);
        items[i].values.count = setting->values.count;
        for (size_t v = 0; v < setting->values.count; v++) {
            items[i].values.items[v].value = setting->values.items[v];
        }
    }
    return (struct ec2_dhcp_options){
        .dhcp_options_id = row->id,
        .owner_id = row->account,
        .dhcp_configurations = {items, count},
        .tags = {tags_out(call, tags), tags.count},
    };
}

FILTER_TEXT(dhcp_id, struct ec2_dhcp_options, dhcp_options_id)
FILTER_TEXT(dhcp_owner, struct ec2_dhcp_options, owner_id)
FILTER_EACH(dhcp_key, struct ec2_dhcp_options, dhcp_configurations, key)

static void
dhcp_value_values(const void *object, struct filter_test *test)
{
    const struct ec2_dhcp_options *options = object;
    for (size_t i = 0; i < options->dhcp_configurations.count; i++) {
        const struct ec2_dhcp_configuration *c = &options->dhcp_configurations.items[i];
        for (size_t v = 0; v < c->values.count; v++) {
            filter_offer(test, c->values.items[v].value);
        }
    }
}

static const struct filter_def dhcp_filters[] = {
    {"dhcp-options-id", dhcp_id_values},
    {"key", dhcp_key_values},
    {"owner-id", dhcp_owner_values},
    {"value", dhcp_value_values},
};

bool
ec2_describe_dhcp_options(struct call *call,
                          const struct ec2_describe_dhcp_options_request *in,
                          struct ec2_describe_dhcp_options_result *out, struct err *err)
{
    const struct row_dhcp_options prefix = {.account = call->account,
                                            .region = call->region};
    const struct listing_ask ask =
        LISTING_ASK(in, dhcp_options_ids, filters, "dhcpOptionsSet", kind_dhcp_options,
                    dhcp_filters, &prefix);
    struct listing listing;
    if (!listing_open(call, &ask, &listing, err)) {
        return false;
    }
    struct ec2_dhcp_options *items =
        ARENA_ARRAY(call->arena, listing.rows.count, struct ec2_dhcp_options);
    size_t count = 0;
    for (size_t i = 0; i < listing.rows.count; i++) {
        const struct row_dhcp_options *row = listing.rows.rows[i];
        items[count] = dhcp_out(call, row, tags_of(&listing.tags, row->id));
        count += listing_accepts(&listing, row->id, &items[count]);
    }
    out->dhcp_options.items = items;
    out->dhcp_options.count = count;
    return listing_close(call, &listing, &out->next_token, err);
}

/* ---- made, associated, deleted ---- */

static const struct {
    const char *key;
    size_t max;     /* Values. */
    bool addresses; /* Each value is an address. */
} settings[] = {
    {"domain-name", 1, false},       {"domain-name-servers", 4, true},
    {"ntp-servers", 4, true},        {"netbios-name-servers", 4, true},
    {"netbios-node-type", 1, false}, {"ipv6-address-preferred-lease-time", 1, false},
};

static bool
value_check(const char *key, bool addresses, const char *value, struct err *err)
{
    uint32_t ip;
    uint8_t ip6[16];
    bool good = !str_empty(value) && strlen(value) <= 255 &&
                strpbrk(value, "\n\r\"") == NULL &&
                (!addresses || ipv4_parse(value, &ip) || ipv6_parse(value, ip6) ||
                 str_eq(value, "AmazonProvidedDNS"));
    return good || err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "Value (%.80s) for parameter value is invalid. Invalid DHCP "
                           "option value for '%s'.",
                           text_or_empty(value), key);
}

static bool
setting_read(struct call *call, const struct ec2_new_dhcp_configuration *in,
             struct row_dhcp_setting *out, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (!str_eq(in->key, settings[i].key)) {
            continue;
        }
        if (in->values.count < 1 || in->values.count > settings[i].max) {
            return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                           "The DHCP option '%s' takes 1 to %zu values.", in->key,
                           settings[i].max);
        }
        out->key = settings[i].key;
        out->values.items = ARENA_ARRAY(call->arena, in->values.count, const char *);
        out->values.count = in->values.count;
        for (size_t v = 0; v < in->values.count; v++) {
            out->values.items[v] = in->values.items[v];
            if (!value_check(in->key, settings[i].addresses, in->values.items[v],
                             err)) {
                return false;
            }
        }
        return true;
    }
    return err_set(err, ERR_INVALID_PARAMETER_VALUE,
                   "Value (%.60s) for parameter name is invalid. Unknown DHCP option",
                   text_or_empty(in->key));
}

bool
ec2_create_dhcp_options(struct call *call,
                        const struct ec2_create_dhcp_options_request *in,
                        struct ec2_create_dhcp_options_result *out, struct err *err)
{
    size_t count = in->dhcp_configurations.count;
    struct row_dhcp_options row = {.account = call->account,
                                   .id = id_new(call->arena, call->rng, "dopt"),
                                   .region = call->region,
                                   .created_at = call->now_ns};
    struct tag_set tags;
    if (count == 0 || count > ARRAY_LEN(settings)) {
        return err_set(err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter dhcpConfigurationSet");
    }
    row.settings.items = ARENA_ARRAY(call->arena, count, struct row_dhcp_setting);
    row.settings.count = count;
    for (size_t i = 0; i < count; i++) {
        if (!setting_read(call, &in->dhcp_configurations.items[i],
                          &row.settings.items[i], err)) {
            return false;
        }
    }
    if (!new_tags_check(&kind_dhcp_options, in->tag_specifications.items,
                        in->tag_specifications.count, err) ||
        !room_for_one(call, &row_dhcp_options_type, "by_region", DHCP_OPTIONS_MAX,
                      ERR_RESOURCE_LIMIT, "sets of DHCP options", err) ||
        !dry_run_check(in->dry_run, err) ||
        !row_insert(call->txn, &row_dhcp_options_type, &row, err) ||
        !new_tags_put(call, &kind_dhcp_options, in->tag_specifications.items,
                      in->tag_specifications.count, row.id, err) ||
        !tags_shown(call, row.id, &tags, err)) {
        return false;
    }
    out->dhcp_options = ARENA_NEW(call->arena, struct ec2_dhcp_options);
    *out->dhcp_options = dhcp_out(call, &row, tags);
    return true;
}

bool
ec2_associate_dhcp_options(struct call *call,
                           const struct ec2_associate_dhcp_options_request *in,
                           struct err *err)
{
    const struct row_dhcp_options *row;
    const struct row_vpc *vpc;
    bool none = str_eq(in->dhcp_options_id, "default");
    if (!FIND(call, kind_vpc, in->vpc_id, &vpc, err) ||
        (!none && !FIND(call, kind_dhcp_options, in->dhcp_options_id, &row, err))) {
        return false;
    }
    struct row_vpc next = *vpc;
    next.dhcp_options_id = none ? NULL : row->id;
    next.generation++;
    return dry_run_check(in->dry_run, err) &&
           row_put(call->txn, &row_vpc_type, &next, err);
}

bool
ec2_delete_dhcp_options(struct call *call,
                        const struct ec2_delete_dhcp_options_request *in,
                        struct err *err)
{
    const struct row_vpc prefix = {.account = call->account, .region = call->region};
    const struct row_dhcp_options *row;
    struct row_list vpcs;
    if (!FIND(call, kind_dhcp_options, in->dhcp_options_id, &row, err) ||
        !rows_of_region(call, &row_vpc_type, &prefix, &vpcs, err)) {
        return false;
    }
    for (size_t i = 0; i < vpcs.count; i++) {
        if (str_eq(((const struct row_vpc *)vpcs.rows[i])->dhcp_options_id, row->id)) {
            return err_depends(err, "dhcpOptions", row->id);
        }
    }
    return dry_run_check(in->dry_run, err) &&
           object_delete(call, &kind_dhcp_options, row, err);
}
