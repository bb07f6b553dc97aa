/* names.c - names that a network's resolver knows besides those that are made of addresses:
 * see net.h. */
#include "link/records.h"
#include "node/net/net_parts.h"

#define NAME_MAX_LEN 190

static bool
read_name(const struct link_name *want, struct dnsmasq_name *out)
{
    if (!addr_name_ok(want->name, NAME_MAX_LEN) ||
        want->addresses.count > DNSMASQ_NAME_ADDRESSES_MAX) {
        return false;
    }
    (void)snprintf(out->name, sizeof out->name, "%s", want->name);
    out->reverse = want->reverse;
    out->public = want->public;
    for (size_t i = 0; i < want->addresses.count; i++) {
        const char *text = want->addresses.items[i];
        if (addr_parse_ipv4(text, &out->ipv4[out->ipv4_count])) {
            out->ipv4_count++;
        } else if (addr_parse_ipv6(text, &out->ipv6[out->ipv6_count])) {
            out->ipv6_count++;
        } else {
            return false;
        }
    }
    return true;
}

bool
names_want(struct net *net, const void *record, struct err *err)
{
    const struct link_name *want = record;
    struct dnsmasq_name name = {0};
    struct network *network =
        want->network_id ? map_get(net->networks, want->network_id) : NULL;
    if (str_empty(want->id) || strlen(want->id) > 128 || !read_name(want, &name)) {
        return err_set(err, ERR_INVALID, "name %.128s cannot be",
                       want->id ? want->id : "");
    }
    if (!network) {
        return err_set(err, ERR_NOT_FOUND, "name %s: its network is not here",
                       want->id);
    }
    dnsmasq_put_name(network->dns, want->id, &name);
    return true;
}

bool
names_drop(struct net *net, int kind UNUSED, const char *id, struct err *err UNUSED)
{
    const char *network_id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &network_id, &value);) {
        dnsmasq_drop_name(((struct network *)value)->dns, id);
    }
    return true;
}
