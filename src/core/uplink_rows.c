/* uplink_rows.c - see uplink_rows.h. */
#include "core/uplink_rows.h"

#include "core/address.h"
#include "core/address6.h"

#define OVERLAY_BASE 0x64580000u /* 100.88.0.0/13 */
#define OVERLAY_NUMBERS (1 << 19)

bool
uplink_is_overlay(const struct row_uplink *uplink)
{
    return str_eq(uplink->mode, UPLINK_OVERLAY_MODE);
}

bool
uplink_is_lent(const struct row_uplink *uplink)
{
    return str_eq(uplink->mode, UPLINK_PASSTHROUGH_MODE);
}

bool
lni_at(const struct row_subnet *subnet, int64_t device_index)
{
    return subnet->lni_index > 0 && subnet->lni_index == device_index;
}

bool
uplink_lent_somewhere(struct txn *txn, const char *account, const char *zone, bool *out,
                      struct err *err)
{
    struct row_list list;
    *out = false;
    if (!row_list(txn, &row_uplink_type, &(struct row_query){0}, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *u = list.rows[i];
        *out |=
            uplink_is_lent(u) && str_eq(u->account, account) && str_eq(u->zone, zone);
    }
    return true;
}

bool
uplink_lent(struct txn *txn, const char *account, const char *zone, const char *node_id,
            const struct row_uplink **out, struct err *err)
{
    struct row_list list;
    *out = NULL;
    if (!row_list(txn, &row_uplink_type, &(struct row_query){0}, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_uplink *u = list.rows[i];
        bool own = node_id && str_eq(u->node_id, node_id);
        bool here = own || (str_empty(u->node_id) && str_eq(u->zone, zone));
        if (uplink_is_lent(u) && str_eq(u->account, account) && here &&
            (own || !*out)) {
            *out = u;
        }
    }
    return true;
}

bool
lni_cards(struct txn *txn, const struct row_instance *inst,
          const struct row_eni **out_first, int64_t *out_count, struct err *err)
{
    *out_first = NULL;
    *out_count = 0;
    for (size_t i = 0; i < inst->eni_ids.count; i++) {
        const struct row_eni key = {.account = inst->account,
                                    .id = inst->eni_ids.items[i]};
        const void *eni, *subnet = NULL;
        if (!row_get(txn, &row_eni_type, &key, &eni, err)) {
            return false;
        }
        const struct row_eni *card = eni;
        const struct row_subnet of = {.account = inst->account,
                                      .id = card ? card->subnet_id : ""};
        if (card && !row_get(txn, &row_subnet_type, &of, &subnet, err)) {
            return false;
        }
        if (subnet && lni_at(subnet, card->device_index)) {
            *out_first = *out_first ? *out_first : card;
            (*out_count)++;
        }
    }
    return true;
}

static bool
lni_in(struct txn *txn, const struct row_subnet *subnet, const struct row_eni **out,
       struct err *err)
{
    const struct row_eni prefix = {.account = subnet->account, .subnet_id = subnet->id};
    const struct row_query query = {
        .index = "by_subnet", .prefix = &prefix, .prefix_fields = 2};
    struct row_list enis;
    if (!row_list(txn, &row_eni_type, &query, &enis, err)) {
        return false;
    }
    for (size_t i = 0; i < enis.count && !*out; i++) {
        const struct row_eni *eni = enis.rows[i];
        bool attached = !str_empty(eni->instance_id);
        *out = attached && lni_at(subnet, eni->device_index) ? eni : NULL;
    }
    return true;
}

bool
lni_any(struct txn *txn, const char *account, const char *region, const char *zone,
        const char *subnet_id, const struct row_eni **out, struct err *err)
{
    const struct row_subnet prefix = {.account = account, .region = region};
    const struct row_query query = {
        .index = "by_region", .prefix = &prefix, .prefix_fields = 2};
    struct row_list subnets;
    *out = NULL;
    if (!row_list(txn, &row_subnet_type, &query, &subnets, err)) {
        return false;
    }
    for (size_t i = 0; i < subnets.count && !*out; i++) {
        const struct row_subnet *s = subnets.rows[i];
        if (s->lni_index > 0 && str_eq(s->zone, zone) &&
            (!subnet_id || str_eq(s->id, subnet_id)) && !lni_in(txn, s, out, err)) {
            return false;
        }
    }
    return true;
}

/* ---- addresses of a zone's nodes ---- */

static bool
places_of(struct txn *txn, const char *uplink_id, struct row_list *out, struct err *err)
{
    const struct row_uplink_place prefix = {.uplink_id = uplink_id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 1};
    return row_list(txn, &row_uplink_place_type, &query, out, err);
}

bool
uplink_place_of(struct txn *txn, const char *uplink_id, const char *node_id,
                int64_t *out, struct err *err)
{
    const struct row_uplink_place key = {.uplink_id = uplink_id, .node_id = node_id};
    const void *row;
    if (!row_get(txn, &row_uplink_place_type, &key, &row, err)) {
        return false;
    }
    *out = row ? ((const struct row_uplink_place *)row)->place : -1;
    return true;
}

/* Whether an active node holds the place. */
static bool
is_held(struct txn *txn, const struct row_list *places, int64_t place, bool *out,
        struct err *err)
{
    *out = false;
    for (size_t i = 0; i < places->count && !*out; i++) {
        const struct row_uplink_place *p = places->rows[i];
        const struct row_node key = {.id = p->node_id};
        const void *node;
        if (p->place != place) {
            continue;
        }
        if (!row_get(txn, &row_node_type, &key, &node, err)) {
            return false;
        }
        *out = node && str_eq(((const struct row_node *)node)->state, "active");
    }
    return true;
}

bool
uplink_place_take(struct txn *txn, const struct row_uplink *uplink, const char *node_id,
                  int64_t *out, struct err *err)
{
    struct row_list places;
    struct row_uplink_place mine = {.uplink_id = uplink->id, .node_id = node_id};
    bool held = true;
    if (!uplink_place_of(txn, uplink->id, node_id, out, err)) {
        return false;
    }
    if (*out >= 0) {
        return true;
    }
    if (!places_of(txn, uplink->id, &places, err)) {
        return false;
    }
    for (mine.place = 0; mine.place < uplink->addresses; mine.place++) {
        if (!is_held(txn, &places, mine.place, &held, err)) {
            return false;
        }
        if (!held) {
            break;
        }
    }
    if (held) {
        return true;
    }
    for (size_t i = 0; i < places.count; i++) { /* Of a node that is gone. */
        const struct row_uplink_place *p = places.rows[i];
        if (p->place == mine.place &&
            !row_delete(txn, &row_uplink_place_type, p, err)) {
            return false;
        }
    }
    *out = mine.place;
    return row_put(txn, &row_uplink_place_type, &mine, err);
}

bool
uplink_number_take(struct txn *txn, const struct row_uplink *uplink,
                   const char *node_id, int64_t *out, struct err *err)
{
    struct row_uplink_place row = {.uplink_id = uplink->id, .node_id = node_id};
    if (!uplink_place_of(txn, uplink->id, node_id, out, err)) {
        return false;
    }
    if (*out >= 0) {
        return true;
    }
    if (!txn_next(txn, "outside", &row.place, err) ||
        !row_put(txn, &row_uplink_place_type, &row, err)) {
        return false;
    }
    *out = row.place;
    return true;
}

const char *
uplink_overlay_address(struct arena *arena, int64_t number)
{
    char text[IPV4_TEXT_LEN];
    ipv4_format(OVERLAY_BASE + (uint32_t)(number % OVERLAY_NUMBERS), text);
    return arena_strdup(arena, text);
}

bool
uplink_place_give_back(struct txn *txn, const char *uplink_id, const char *node_id,
                       struct err *err)
{
    const struct row_uplink_place key = {.uplink_id = uplink_id, .node_id = node_id};
    return row_delete(txn, &row_uplink_place_type, &key, err);
}

bool
uplink_places_drop(struct txn *txn, const char *uplink_id, struct err *err)
{
    struct row_list places;
    if (!places_of(txn, uplink_id, &places, err)) {
        return false;
    }
    for (size_t i = 0; i < places.count; i++) {
        if (!row_delete(txn, &row_uplink_place_type, places.rows[i], err)) {
            return false;
        }
    }
    return true;
}

const char *
uplink_address_at(struct arena *arena, const struct row_uplink *uplink, int64_t place)
{
    char text[IPV4_TEXT_LEN];
    uint32_t ip;
    const char *slash =
        str_empty(uplink->address) ? NULL : strchr(uplink->address, '/');
    if (!slash) {
        return NULL;
    }
    const char *first =
        arena_strndup(arena, uplink->address, (size_t)(slash - uplink->address));
    if (!ipv4_parse(first, &ip)) {
        return NULL;
    }
    ipv4_format(ip + (uint32_t)place, text);
    return arena_printf(arena, "%s%s", text, slash);
}

const char *
uplink_address6_at(struct arena *arena, const struct row_uplink *uplink, int64_t place)
{
    char text[IPV6_TEXT_LEN];
    uint8_t ip[16];
    const char *slash =
        str_empty(uplink->address6) ? NULL : strchr(uplink->address6, '/');
    if (!slash) {
        return NULL;
    }
    const char *first =
        arena_strndup(arena, uplink->address6, (size_t)(slash - uplink->address6));
    if (!ipv6_parse(first, ip)) {
        return NULL;
    }
    ipv6_advance(ip, (uint32_t)place);
    ipv6_format(ip, text);
    return arena_printf(arena, "%s%s", text, slash);
}
