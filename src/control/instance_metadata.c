/* instance_metadata.c - see instance_metadata.h. */
#include "control/instance_metadata.h"

#include "base/tlv.h"
#include "control/metadata_tree.h"
#include "control/network_records.h"
#include "control/wants.h"
#include "core/instance_rows.h"
#include "core/network_rows.h"

#define GET(pass, type, out, err, ...) \
    row_get((pass)->txn, &row_##type##_type, &(struct row_##type){__VA_ARGS__}, \
            (const void **)(out), err)

const char *
instance_card_hostname(struct arena *arena, const struct row_instance *instance,
                       const struct row_eni *eni)
{
    char host[HOSTNAME_LEN] = "";
    uint32_t ip;
    if (eni->device_index == 0) {
        return instance_hostname(arena, instance);
    }
    if (ipv4_parse(eni->ipv4, &ip)) {
        hostname_of(ip, host);
    }
    return arena_strdup(arena, host);
}

/* The names of its groups, in lines. */
static bool
group_names(const struct pass *pass, const struct row_eni *eni, const char **out,
            struct err *err)
{
    AUTO(buf) struct buf text = {0};
    for (size_t i = 0; i < eni->group_ids.count; i++) {
        const struct row_security_group *group;
        if (!GET(pass, security_group, &group, err, .account = eni->account,
                 .id = eni->group_ids.items[i])) {
            return false;
        }
        if (group) {
            buf_printf(&text, "%s%s", text.len ? "\n" : "", group->name);
        }
    }
    *out = arena_strdup(txn_arena(pass->txn), buf_str(&text));
    return true;
}

/* 'subnet': what stands for its own, should that be gone. */
static bool
card_of(const struct pass *pass, const struct row_instance *i,
        const struct row_eni *eni, const struct row_subnet *subnet,
        struct metadata_card *out, struct err *err)
{
    struct arena *arena = txn_arena(pass->txn);
    const struct row_subnet *own;
    struct link_port port = {0};
    char domain[96];
    if (!GET(pass, subnet, &own, err, .account = eni->account, .id = eni->subnet_id)) {
        return false;
    }
    private_domain(i->region, domain, sizeof domain);
    *out = (struct metadata_card){
        .eni = eni,
        .subnet = own ? own : subnet,
        .local_hostname = arena_printf(arena, "%s.%s",
                                       instance_card_hostname(arena, i, eni), domain)};
    if (!group_names(pass, eni, &out->group_names, err) ||
        !port_publics(pass->txn, eni, &port, err)) {
        return false;
    }
    out->publics = port.publics.items;
    out->public_count = port.publics.count;
    return true;
}

static bool
cards_of(const struct pass *pass, const struct row_instance *i,
         struct metadata_source *out, struct err *err)
{
    const struct row_subnet *subnet;
    struct metadata_card *cards =
        ARENA_ARRAY(txn_arena(pass->txn), i->eni_ids.count, struct metadata_card);
    out->cards = cards;
    if (!GET(pass, subnet, &subnet, err, .account = i->account, .id = i->subnet_id)) {
        return false;
    }
    for (size_t n = 0; n < i->eni_ids.count; n++) {
        const struct row_eni *eni;
        if (!GET(pass, eni, &eni, err, .account = i->account,
                 .id = i->eni_ids.items[n]) ||
            (eni && !card_of(pass, i, eni, subnet, &cards[out->card_count++], err))) {
            return false;
        }
    }
    return true;
}

/* What it says to each card, but for the card's id. */
static bool
record_of(const struct pass *pass, const struct row_instance *i,
          struct metadata_source *source, struct link_metadata *out, struct err *err)
{
    struct row_list tags;
    const struct row_query query = {
        .prefix = &(struct row_tag){.account = i->account,
                                    .region = i->region,
                                    .resource_id = i->id},
        .prefix_fields = 3,
    };
    const struct zone_config *zone = config_zone(pass->config, i->zone);
    *source =
        (struct metadata_source){.instance = i, .zone_id = zone ? zone->id : NULL};
    if (!row_list(pass->txn, &row_tag_type, &query, &tags, err) ||
        !GET(pass, image, &source->image, err, .id = i->image_id) ||
        !GET(pass, vpc, &source->vpc, err, .account = i->account, .id = i->vpc_id) ||
        !cards_of(pass, i, source, err)) {
        return false;
    }
    source->tags = (const struct row_tag *const *)tags.rows;
    source->tag_count = tags.count;
    if (source->card_count) {
        metadata_tree(txn_arena(pass->txn), source, out);
    }
    return true;
}

bool
instance_metadata_want(const struct pass *pass, const struct row_instance *instance,
                       const char *node_id, struct err *err)
{
    struct metadata_source source;
    struct link_metadata record;
    if (!record_of(pass, instance, &source, &record, err)) {
        return false;
    }
    for (size_t n = 0; n < source.card_count; n++) {
        record.id = source.cards[n].eni->id;
        if (!want_put_made(pass->txn, node_id, LINK_METADATA, record.id,
                           instance->account, &record, err)) {
            return false;
        }
    }
    return true;
}

bool
instance_metadata_body(const struct pass *pass, const struct row_node_want *want,
                       struct blob *out, struct err *err)
{
    AUTO(buf) struct buf body = {0};
    const struct row_eni *eni;
    const struct row_instance *instance = NULL;
    struct metadata_source source = {0};
    struct link_metadata record;
    *out = (struct blob){0};
    if (!GET(pass, eni, &eni, err, .account = want->account, .id = want->id) ||
        (eni && !str_empty(eni->instance_id) &&
         !GET(pass, instance, &instance, err, .account = eni->account,
              .id = eni->instance_id)) ||
        (instance && !record_of(pass, instance, &source, &record, err))) {
        return false;
    }
    if (source.card_count) {
        record.id = want->id;
        tlv_encode(&link_metadata_desc, &record, &body);
        out->data = arena_memdup(txn_arena(pass->txn), body.data, body.len);
        out->len = body.len;
    }
    return true;
}
