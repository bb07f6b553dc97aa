/* config.c - see config.h. */
#include "core/config.h"

static int
type_cmp(const void *name, const void *type)
{
    return strcmp(name, ((const struct instance_type *)type)->name);
}

const struct instance_type *
config_type(const struct cloud_config *c, const char *name)
{
    if (!name || !c->type_count) {
        return NULL;
    }
    return bsearch(name, c->types, c->type_count, sizeof *c->types, type_cmp);
}

const struct region_config *
config_region(const struct cloud_config *c, const char *name)
{
    for (size_t i = 0; i < c->region_count; i++) {
        if (str_eq(c->regions[i].name, name)) {
            return &c->regions[i];
        }
    }
    return NULL;
}

const struct zone_config *
config_zone(const struct cloud_config *c, const char *zone)
{
    for (size_t i = 0; i < c->region_count; i++) {
        const struct region_config *region = &c->regions[i];
        for (size_t j = 0; j < region->zone_count; j++) {
            if (str_eq(region->zones[j].name, zone)) {
                return &region->zones[j];
            }
        }
    }
    return NULL;
}

bool
config_underlay(const struct cloud_config *c, uint32_t ip)
{
    bool listed = c->underlay_count == 0;
    for (size_t i = 0; i < c->underlay_count; i++) {
        listed = listed || cidr_contains(&c->underlays[i], ip);
    }
    return listed && ipv4_is_host(ip);
}
